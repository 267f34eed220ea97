#include "codec/envelope.hpp"

#include <fmt/format.h>

#include "codec/padded.hpp"

namespace codec {
namespace {

using simdjson::ondemand::document;
using simdjson::ondemand::object;
using simdjson::ondemand::value;

base::Error Broken(std::string_view what, simdjson::error_code error) {
  return base::MakeError(base::Code::kInvalid, fmt::format("the {} is not valid: {}", what,
                                                           simdjson::error_message(error)));
}

/// A view into the padded copy as a view into the caller's text.
std::string_view Rebase(std::string_view inside, std::string_view text) {
  const auto offset = inside.data() - PaddedParser::OfThisThread().Begin();
  while (!inside.empty() && static_cast<unsigned char>(inside.back()) <= ' ')
    inside.remove_suffix(1);
  return text.substr(static_cast<size_t>(offset), inside.size());
}

simdjson::error_code RawObject(value json, std::string_view text, std::string_view& out) {
  object members;
  if (const auto error = json.get_object().get(members)) return error;
  std::string_view raw;
  if (const auto error = members.raw_json().get(raw)) return error;
  out = Rebase(raw, text);
  return simdjson::SUCCESS;
}

/// Calls `each(name, value)` for the members of the top object until it fails.
template <class Each>
simdjson::error_code ForMembers(object members, const Each& each) {
  for (auto member : members) {
    std::string_view name;
    value json;
    if (const auto error = member.unescaped_key().get(name)) return error;
    if (const auto error = member.value().get(json)) return error;
    if (const auto error = each(name, json)) return error;
  }
  return simdjson::SUCCESS;
}

template <class Each>
simdjson::error_code ForTopMembers(std::string_view text, const Each& each) {
  simdjson::error_code inner = simdjson::SUCCESS;
  const auto outer = WithDocument(text, [&](document& json) {
    object members;
    inner = json.get_object().get(members);
    if (inner == simdjson::SUCCESS) inner = ForMembers(members, each);
    if (inner == simdjson::SUCCESS && json.current_location().error() != simdjson::OUT_OF_BOUNDS)
      inner = simdjson::TRAILING_CONTENT;
  });
  return outer != simdjson::SUCCESS ? outer : inner;
}

/// How every API server writes an event: {"type":"ADDED","object":{...}}. Anything else takes the
/// long way.
bool SplitUsual(std::string_view line, WatchEnvelope& out) {
  constexpr std::string_view kType = R"({"type":")", kObject = R"(","object":{)";
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  if (!line.starts_with(kType) || !line.ends_with("}}")) return false;
  const size_t end = line.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ", kType.size());
  if (end == std::string_view::npos || line.substr(end, kObject.size()) != kObject) return false;
  out.type = line.substr(kType.size(), end - kType.size());
  const size_t start = end + kObject.size() - 1;
  out.object = line.substr(start, line.size() - 1 - start);
  return true;
}

}  // namespace

base::Result<WatchEnvelope> SplitWatchEvent(std::string_view line) {
  WatchEnvelope out;
  if (SplitUsual(line, out)) return out;
  const auto error = ForTopMembers(line, [&](std::string_view name, value json) {
    if (name == "object") return RawObject(json, line, out.object);
    if (name != "type") return simdjson::SUCCESS;
    std::string_view quoted = json.raw_json_token();
    if (!quoted.starts_with('"')) return simdjson::INCORRECT_TYPE;
    quoted = quoted.substr(0, quoted.find('"', 1) + 1);
    out.type = Rebase(quoted, line).substr(1, quoted.size() - 2);
    return simdjson::SUCCESS;
  });
  if (error) return Broken("watch event", error);
  if (out.type.empty() || out.object.empty())
    return base::MakeError(base::Code::kInvalid, "the watch event lacks `type` or `object`");
  return out;
}

base::Result<ListEnvelope> SplitList(std::string_view body) {
  ListEnvelope out;
  bool has_items = false;
  const auto read_meta = [&](std::string_view name, value json) {
    if (name != "resourceVersion" && name != "continue") return simdjson::SUCCESS;
    std::string_view text;
    if (const auto error = json.get_string().get(text)) return error;
    (name == "continue" ? out.continue_token : out.resource_version).assign(text);
    return simdjson::SUCCESS;
  };
  const auto error = ForTopMembers(body, [&](std::string_view name, value json) {
    if (name == "metadata") {
      object members;
      const auto failed = json.get_object().get(members);
      return failed ? failed : ForMembers(members, read_meta);
    }
    if (name != "items") return simdjson::SUCCESS;
    has_items = true;
    auto null = json.is_null();
    if (!null.error() && null.value_unsafe())
      return simdjson::SUCCESS;  // Go writes an empty list so.
    simdjson::ondemand::array items;
    if (const auto failed = json.get_array().get(items)) return failed;
    for (auto item : items) {
      value element;
      if (const auto failed = item.get(element)) return failed;
      if (const auto failed = RawObject(element, body, out.items.emplace_back())) return failed;
    }
    return simdjson::SUCCESS;
  });
  if (error) return Broken("list", error);
  if (!has_items) return base::MakeError(base::Code::kInvalid, "the list lacks `items`");
  return out;
}

}  // namespace codec
