#include <fmt/format.h>

#include "apiserver/schema/resource_definition.hpp"

namespace apiserver {
namespace {

using codec::GetMember;
using codec::GetString;
using codec::Json;

constexpr const char* kUnknown = "<unknown>";

Json Age(const std::string& text, base::WallTime now) {
  const auto time = base::ParseTime(text);
  if (!time) return kUnknown;
  return HumanDuration(std::chrono::duration_cast<base::Seconds>(now - *time));
}

std::string LowerCase(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

/// The first of these members that holds a time.
std::string FirstTime(const Json& event, std::initializer_list<const char*> members) {
  for (const char* member : members) {
    std::string text = GetString(event, member);
    if (!text.empty()) return text;
  }
  return GetString(GetMember(event, "metadata"), "creationTimestamp");
}

/// Cells of events of either API; the names differ, the meaning does not.
Json EventCell(const std::string& what, const Json& event, base::WallTime now) {
  const Json& series = GetMember(event, "series");
  if (what == "event-first") {
    return Age(FirstTime(event, {"firstTimestamp", "deprecatedFirstTimestamp", "eventTime"}), now);
  }
  if (what == "event-last") {
    const std::string repeated = GetString(series, "lastObservedTime");
    return Age(repeated.empty()
                   ? FirstTime(event, {"lastTimestamp", "deprecatedLastTimestamp", "eventTime"})
                   : repeated,
               now);
  }
  if (what == "event-count") {
    const int64_t count = std::max({codec::GetInt(series, "count"), codec::GetInt(event, "count"),
                                    codec::GetInt(event, "deprecatedCount")});
    return std::max<int64_t>(count, 1);
  }
  if (what == "event-object") {
    const Json& object = event.contains("involvedObject") ? GetMember(event, "involvedObject")
                                                          : GetMember(event, "regarding");
    return fmt::format("{}/{}", LowerCase(GetString(object, "kind")), GetString(object, "name"));
  }
  const Json& source =
      event.contains("source") ? GetMember(event, "source") : GetMember(event, "deprecatedSource");
  const std::string component =
      GetString(source, "component",
                GetString(event, "reportingComponent", GetString(event, "reportingController")));
  const std::string host = GetString(source, "host");
  return host.empty() ? component : component + ", " + host;
}

Json BuiltinCell(const std::string& what, const Json& object, base::WallTime now) {
  if (what != "data") return EventCell(what, object, now);
  const Json& data = GetMember(object, "data");
  const Json& binary = GetMember(object, "binaryData");
  return (data.is_object() ? data.size() : 0) + (binary.is_object() ? binary.size() : 0);
}

/// A value that does not fit the column's type is an empty cell.
Json TypedCell(const PrinterColumn& column, const Json& value, base::WallTime now) {
  if (column.type == "date") return value.is_string() ? Age(value, now) : Json(kUnknown);
  if (column.type == "integer")
    return value.is_number_integer() ? value
           : value.is_number()       ? Json(value.get<int64_t>())
                                     : Json();
  if (column.type == "number") return value.is_number() ? value : Json();
  if (column.type == "boolean") return value.is_boolean() ? value : Json();
  if (value.is_string() || value.is_null()) return value;
  return codec::Dump(value);
}

Json PathCell(const ResourceDefinition& definition, const PrinterColumn& column, const Json& object,
              base::WallTime now) {
  const auto found = column.path.Find(object);
  if (found.empty()) {
    if (column.type == "date") return kUnknown;
    return definition.custom ? Json() : Json("");
  }
  if (found.size() == 1 || column.type != "string") return TypedCell(column, *found[0], now);
  std::string joined;
  for (const Json* item : found) {
    if (!joined.empty()) joined += ",";
    joined += item->is_string() ? item->get<std::string>() : codec::Dump(*item);
  }
  return joined;
}

}  // namespace

std::string HumanDuration(base::Seconds age) {
  const int64_t seconds = age.count();
  // Clocks may differ a little: a young object is 0s old, not invalid.
  if (seconds < -1) return "<invalid>";
  if (seconds < 0) return "0s";
  if (seconds < 120) return fmt::format("{}s", seconds);
  const int64_t minutes = seconds / 60;
  if (minutes < 10)
    return seconds % 60 == 0 ? fmt::format("{}m", minutes)
                             : fmt::format("{}m{}s", minutes, seconds % 60);
  if (minutes < 180) return fmt::format("{}m", minutes);
  const int64_t hours = minutes / 60;
  if (hours < 8)
    return minutes % 60 == 0 ? fmt::format("{}h", hours)
                             : fmt::format("{}h{}m", hours, minutes % 60);
  if (hours < 48) return fmt::format("{}h", hours);
  const int64_t days = hours / 24;
  if (days < 8)
    return hours % 24 == 0 ? fmt::format("{}d", days) : fmt::format("{}d{}h", days, hours % 24);
  if (days < 730) return fmt::format("{}d", days);
  const int64_t years = days / 365;
  if (years < 8)
    return days % 365 == 0 ? fmt::format("{}y", years) : fmt::format("{}y{}d", years, days % 365);
  return fmt::format("{}y", years);
}

Json TableColumns(const ResourceDefinition& definition) {
  Json columns = Json::array();
  for (const PrinterColumn& column : definition.columns) {
    columns.push_back({{"name", column.name},
                       {"type", column.type},
                       {"format", column.format},
                       {"description", column.description},
                       {"priority", column.priority}});
  }
  return columns;
}

Json TableCells(const ResourceDefinition& definition, const Json& object, base::WallTime now) {
  Json cells = Json::array();
  for (const PrinterColumn& column : definition.columns) {
    cells.push_back(column.builtin.empty() ? PathCell(definition, column, object, now)
                                           : BuiltinCell(column.builtin, object, now));
  }
  return cells;
}

}  // namespace apiserver
