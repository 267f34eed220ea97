#include "apiserver/openapi/swagger_schema.hpp"

#include <string>

namespace apiserver {
namespace {

using codec::Json;

void DropUnknownWords(Json& schema) {
  for (const char* word :
       {"nullable", "allOf", "anyOf", "oneOf", "not", "default", "x-kubernetes-validations"})
    schema.erase(word);
}

/// kubectl counts a null as absent, so a member that may be null cannot be required there.
void DropRequiredNullables(Json& schema) {
  const Json& required = codec::GetMember(schema, "required");
  if (!required.is_array()) return;
  Json kept = Json::array();
  for (const Json& name : required) {
    if (!name.is_string()) continue;
    const Json& member =
        codec::GetMember(codec::GetMember(schema, "properties"), name.get<std::string>());
    if (!codec::GetBool(member, "nullable")) kept.push_back(name);
  }
  if (kept.empty())
    schema.erase("required");
  else
    schema["required"] = std::move(kept);
}

}  // namespace

void ToSwagger(Json& schema) {
  if (!schema.is_object()) return;
  const bool nullable = codec::GetBool(schema, "nullable");
  const bool keeps_unknown = codec::GetBool(schema, "x-kubernetes-preserve-unknown-fields");
  DropRequiredNullables(schema);
  DropUnknownWords(schema);
  // kubectl takes listed members for all members, and a type for what null may not be.
  if (nullable || keeps_unknown) {
    schema.erase("items");
    schema.erase("properties");
  }
  const std::string type = codec::GetString(schema, "type");
  if (nullable || (keeps_unknown && type == "object") ||
      (type == "array" && !schema.contains("items")))
    schema.erase("type");
  if (const auto properties = schema.find("properties"); properties != schema.end()) {
    // Named by the schema's author: a property may well be called "default" or "not".
    for (auto& property : properties->items()) ToSwagger(property.value());
    if (properties->empty()) schema.erase(properties);
  }
  for (const char* below : {"items", "additionalProperties"}) {
    if (const auto found = schema.find(below); found != schema.end()) ToSwagger(*found);
  }
}

}  // namespace apiserver
