#include "codec/crd.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "base/file.hpp"

namespace crd {

using codec::Json;

Json Load(const std::string& plural) {
  const auto text =
      base::ReadFile(std::string(WO_SOURCE_DIR) + "/crds/" + plural + ".yaml", 1 << 20);
  if (!text) FAIL(text.error().message);
  const auto documents = codec::ParseYaml(*text);
  if (!documents) FAIL(documents.error().message);
  REQUIRE(documents->size() == 1);
  return documents->front();
}

const Json& Version(const Json& crd) { return crd.at("spec").at("versions").at(0); }
const Json& Schema(const Json& crd) { return Version(crd).at("schema").at("openAPIV3Schema"); }

namespace {

Json FullText(const Json& schema, int variant, const std::string& path) {
  if (schema.contains("enum")) return schema["enum"][variant % schema["enum"].size()];
  if (codec::GetString(schema, "format") == "date-time")
    return variant % 2 == 0 ? "2026-11-21T10:34:13Z" : "2027-01-02T03:04:05Z";
  std::string text = "v" + std::to_string(std::hash<std::string>{}(path) % 1'000'000) + "-" +
                     std::to_string(variant);
  text.resize(std::max(text.size(), static_cast<size_t>(codec::GetInt(schema, "minLength"))), 'x');
  return text;
}

}  // namespace

Json Full(const Json& schema, int variant, const std::string& path) {
  const std::string type = codec::GetString(schema, "type");
  if (type == "string") return FullText(schema, variant, path);
  if (type == "boolean") return true;
  if (type == "integer") {
    const int64_t low = codec::GetInt(schema, "minimum");
    return low + 1 + static_cast<int64_t>((std::hash<std::string>{}(path) + variant) % 1000);
  }
  if (type == "array")
    return Json::array({Full(schema["items"], variant, path + "[0]"),
                        Full(schema["items"], variant + 1, path + "[1]")});
  Json object = Json::object();
  if (schema.contains("additionalProperties"))
    object["a"] = Full(schema["additionalProperties"], variant, path + ".a");
  for (const auto& [name, property] : codec::GetMember(schema, "properties").items())
    if (!path.empty() || name == "spec" || name == "status")
      object[name] = Full(property, variant, path + "." + name);
  return object;
}

namespace {

std::string MisfitText(const std::string& text, const Json& schema, const std::string& path) {
  if (schema.contains("enum") &&
      std::find(schema["enum"].begin(), schema["enum"].end(), text) == schema["enum"].end())
    return path + ": not one of the enum";
  const auto size = static_cast<int64_t>(text.size());
  if (size < codec::GetInt(schema, "minLength", 0)) return path + ": too short";
  if (size > codec::GetInt(schema, "maxLength", INT64_MAX)) return path + ": too long";
  return "";
}

std::string MisfitObject(const Json& object, const Json& schema, const std::string& path) {
  for (const Json& name : codec::GetMember(schema, "required"))
    if (!object.contains(name)) return path + ": lacks " + name.get<std::string>();
  for (const auto& [name, value] : object.items()) {
    const Json& property = codec::GetMember(codec::GetMember(schema, "properties"), name);
    const Json& any = codec::GetMember(schema, "additionalProperties");
    if (path.empty() && name == "metadata") continue;
    if (property.is_null() && any.is_null()) return path + "." + name + ": unknown";
    const std::string misfit =
        Misfit(value, property.is_null() ? any : property, path + "." + name);
    if (!misfit.empty()) return misfit;
  }
  return "";
}

}  // namespace

std::string Misfit(const Json& value, const Json& schema, const std::string& path) {
  const std::string type = codec::GetString(schema, "type");
  if (type == "object")
    return value.is_object() ? MisfitObject(value, schema, path) : path + ": no object";
  if (type == "string")
    return value.is_string() ? MisfitText(value, schema, path) : path + ": no text";
  if (type == "boolean") return value.is_boolean() ? "" : path + ": no boolean";
  if (type == "integer") {
    if (!value.is_number_integer()) return path + ": no integer";
    const auto number = value.get<int64_t>();
    const bool fits = number >= codec::GetInt(schema, "minimum", INT64_MIN) &&
                      number <= codec::GetInt(schema, "maximum", INT64_MAX);
    return fits ? "" : path + ": out of bounds";
  }
  if (!value.is_array()) return path + ": no list";
  if (static_cast<int64_t>(value.size()) > codec::GetInt(schema, "maxItems", INT64_MAX))
    return path + ": too many";
  for (const Json& item : value) {
    const std::string misfit = Misfit(item, schema["items"], path + "[]");
    if (!misfit.empty()) return misfit;
  }
  return "";
}

}  // namespace crd
