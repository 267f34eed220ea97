#include "apiserver/wire/presentation.hpp"

#include <algorithm>
#include <optional>

#include "apiserver/wire/object_text.hpp"

namespace apiserver {
namespace {

using codec::Json;

std::string_view Trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::string_view NextPart(std::string_view& rest, char separator) {
  const size_t end = std::min(rest.find(separator), rest.size());
  const std::string_view part = Trim(rest.substr(0, end));
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return part;
}

/// One media range of the Accept header, if it can be served.
std::optional<Presentation> OfRange(std::string_view range) {
  const std::string_view type = NextPart(range, ';');
  if (type != "application/json" && type != "*/*" && type != "application/*") return std::nullopt;
  Presentation presentation;
  std::string_view as;
  std::string_view version = "v1";
  while (!range.empty()) {
    std::string_view parameter = NextPart(range, ';');
    const std::string_view name = NextPart(parameter, '=');
    if (name == "as") as = parameter;
    if (name == "v") version = parameter;
  }
  if (as.empty()) return presentation;
  if (version != "v1" && version != "v1beta1") return std::nullopt;
  presentation.meta_version = std::string(version);
  if (as == "Table")
    presentation.shape = Shape::kTable;
  else if (as == "PartialObjectMetadata" || as == "PartialObjectMetadataList")
    presentation.shape = Shape::kPartial;
  else
    return std::nullopt;
  return presentation;
}

Json ListMeta(const ListHead& head) {
  Json meta = {{"resourceVersion", head.version}};
  if (!head.continue_token.empty()) meta["continue"] = head.continue_token;
  if (head.remaining >= 0) meta["remainingItemCount"] = head.remaining;
  return meta;
}

Json RowObject(const Presentation& presentation, const Json& object) {
  if (presentation.include == Presentation::Include::kNone) return nullptr;
  if (presentation.include == Presentation::Include::kObject) return object;
  return PartialOf(object, presentation.meta_version);
}

}  // namespace

bool Negotiate(std::string_view accept, std::string_view include_object, Presentation& out) {
  out = {};
  if (!Trim(accept).empty()) {
    std::optional<Presentation> chosen;
    while (!accept.empty() && !chosen) chosen = OfRange(NextPart(accept, ','));
    if (!chosen) return false;
    out = *chosen;
  }
  if (include_object == "None") out.include = Presentation::Include::kNone;
  if (include_object == "Object") out.include = Presentation::Include::kObject;
  return true;
}

Json ShownObject(const Served& served, const std::string& text) {
  Json object = ParseStored(text);
  return served.new_event ? EventToNew(object) : object;
}

std::string ShownText(const Served& served, const std::string& text) {
  return served.new_event ? codec::Dump(ShownObject(served, text)) : text;
}

Json StoredForm(const Served& served, Json object) {
  return served.new_event ? EventToCore(object) : std::move(object);
}

Json PartialOf(const Json& object, const std::string& meta_version) {
  return {{"kind", "PartialObjectMetadata"},
          {"apiVersion", "meta.k8s.io/" + meta_version},
          {"metadata", codec::GetMember(object, "metadata")}};
}

Json TableOf(const Served& served, const Presentation& presentation,
             const std::vector<Json>& objects, base::WallTime now, bool columns) {
  Json rows = Json::array();
  for (const Json& object : objects) {
    Json row = {{"cells", TableCells(served.definition, object, now)}};
    row["object"] = RowObject(presentation, object);
    rows.push_back(std::move(row));
  }
  Json table = {{"kind", "Table"},
                {"apiVersion", "meta.k8s.io/" + presentation.meta_version},
                {"metadata", Json::object()}};
  table["columnDefinitions"] = columns ? TableColumns(served.definition) : Json(nullptr);
  table["rows"] = std::move(rows);
  return table;
}

std::string Render(const Served& served, const Presentation& presentation, const std::string& text,
                   base::WallTime now) {
  if (presentation.shape == Shape::kObject) return ShownText(served, text);
  const Json object = ShownObject(served, text);
  if (presentation.shape == Shape::kPartial)
    return codec::Dump(PartialOf(object, presentation.meta_version));
  Json table = TableOf(served, presentation, {object}, now, true);
  table["metadata"]["resourceVersion"] =
      codec::GetString(codec::GetMember(object, "metadata"), "resourceVersion");
  return codec::Dump(table);
}

std::string RenderList(const Served& served, const Presentation& presentation,
                       const std::vector<std::string>& texts, const ListHead& head,
                       base::WallTime now) {
  const ResourceDefinition& definition = served.definition;
  if (presentation.shape == Shape::kTable) {
    std::vector<Json> objects;
    objects.reserve(texts.size());
    for (const std::string& text : texts) objects.push_back(ShownObject(served, text));
    Json table = TableOf(served, presentation, objects, now, true);
    table["metadata"] = ListMeta(head);
    return codec::Dump(table);
  }
  const bool partial = presentation.shape == Shape::kPartial;
  const Json start = {{"apiVersion", partial ? "meta.k8s.io/" + presentation.meta_version
                                             : definition.ApiVersion()},
                      {"kind", partial ? "PartialObjectMetadataList" : definition.list_kind},
                      {"metadata", ListMeta(head)}};
  // The items are joined as text: what is stored is what is shown, so nothing is parsed.
  std::string out = codec::Dump(start);
  out.back() = ',';
  out += "\"items\":[";
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i > 0) out += ',';
    if (partial)
      out += codec::Dump(PartialOf(ShownObject(served, texts[i]), presentation.meta_version));
    else
      out += ShownText(served, texts[i]);
  }
  out += "]}";
  return out;
}

}  // namespace apiserver
