#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "apiserver/openapi/openapi.hpp"

/// The field numbers are those of gnostic's openapiv2/OpenAPIv2.proto.
namespace apiserver {
namespace {

using codec::Json;
using Encoder = std::string (*)(const Json&);

void AppendVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void AppendTag(int number, int wire_type, std::string& out) {
  AppendVarint(static_cast<uint64_t>(number) << 3 | static_cast<uint64_t>(wire_type), out);
}

void AppendBytes(int number, std::string_view bytes, std::string& out) {
  AppendTag(number, 2, out);
  AppendVarint(bytes.size(), out);
  out += bytes;
}

void AppendInteger(int number, uint64_t value, std::string& out) {
  AppendTag(number, 0, out);
  AppendVarint(value, out);
}

void AppendDouble(int number, double value, std::string& out) {
  AppendTag(number, 1, out);
  const auto bits = std::bit_cast<uint64_t>(value);
  for (int shift = 0; shift < 64; shift += 8) out += static_cast<char>(bits >> shift);
}

enum class Form { kText, kFlag, kInteger, kNumber, kPart };

/// A member of a JSON object and its field. An array becomes a repeated field.
struct Row {
  const char* name;
  int number;
  Form form = Form::kText;
  Encoder part = nullptr;
};

void AppendValue(const Row& row, const Json& value, std::string& out) {
  if (row.form == Form::kPart) return AppendBytes(row.number, row.part(value), out);
  if (row.form == Form::kText && value.is_string())
    return AppendBytes(row.number, value.get_ref<const std::string&>(), out);
  if (row.form == Form::kFlag && value.is_boolean())
    return AppendInteger(row.number, value.get<bool>() ? 1 : 0, out);
  if (row.form == Form::kInteger && value.is_number_integer())
    return AppendInteger(row.number, static_cast<uint64_t>(value.get<int64_t>()), out);
  if (row.form == Form::kNumber && value.is_number())
    AppendDouble(row.number, value.get<double>(), out);
}

/// Any{yaml}: JSON is YAML.
std::string EncodeAny(const Json& value) {
  std::string out;
  AppendBytes(2, codec::Dump(value), out);
  return out;
}

std::string EncodeNamed(const std::string& name, std::string_view value) {
  std::string out;
  AppendBytes(1, name, out);
  AppendBytes(2, value, out);
  return out;
}

std::string EncodeObject(std::span<const Row> rows, int extension_number, const Json& object) {
  std::string out;
  for (const Row& row : rows) {
    const Json& value = codec::GetMember(object, row.name);
    if (value.is_null()) continue;
    if (value.is_array()) {
      for (const Json& item : value) AppendValue(row, item, out);
    } else {
      AppendValue(row, value, out);
    }
  }
  if (!object.is_object()) return out;
  for (const auto& [name, value] : object.items()) {
    if (name.starts_with("x-"))
      AppendBytes(extension_number, EncodeNamed(name, EncodeAny(value)), out);
  }
  return out;
}

/// A map: repeated (name, value) pairs under field `number`.
std::string EncodeMap(int number, Encoder encode, const Json& map) {
  std::string out;
  if (!map.is_object()) return out;
  for (const auto& [name, value] : map.items())
    AppendBytes(number, EncodeNamed(name, encode(value)), out);
  return out;
}

/// A message whose only member is another one.
std::string Wrap(int number, std::string_view message) {
  std::string out;
  AppendBytes(number, message, out);
  return out;
}

std::string EncodeSchema(const Json& schema);

std::string EncodeProperties(const Json& map) { return EncodeMap(1, EncodeSchema, map); }
std::string EncodeItems(const Json& items) { return Wrap(1, EncodeSchema(items)); }
std::string EncodeType(const Json& type) {
  return Wrap(1, type.is_string() ? type.get_ref<const std::string&>() : "");
}
std::string EncodeAdditional(const Json& value) {
  std::string out;
  if (!value.is_boolean()) return Wrap(1, EncodeSchema(value));
  AppendInteger(2, value.get<bool>() ? 1 : 0, out);
  return out;
}

constexpr Row kSchema[] = {{"$ref", 1},
                           {"format", 2},
                           {"title", 3},
                           {"description", 4},
                           {"default", 5, Form::kPart, EncodeAny},
                           {"multipleOf", 6, Form::kNumber},
                           {"maximum", 7, Form::kNumber},
                           {"exclusiveMaximum", 8, Form::kFlag},
                           {"minimum", 9, Form::kNumber},
                           {"exclusiveMinimum", 10, Form::kFlag},
                           {"maxLength", 11, Form::kInteger},
                           {"minLength", 12, Form::kInteger},
                           {"pattern", 13},
                           {"maxItems", 14, Form::kInteger},
                           {"minItems", 15, Form::kInteger},
                           {"uniqueItems", 16, Form::kFlag},
                           {"maxProperties", 17, Form::kInteger},
                           {"minProperties", 18, Form::kInteger},
                           {"required", 19},
                           {"enum", 20, Form::kPart, EncodeAny},
                           {"additionalProperties", 21, Form::kPart, EncodeAdditional},
                           {"type", 22, Form::kPart, EncodeType},
                           {"items", 23, Form::kPart, EncodeItems},
                           {"allOf", 24, Form::kPart, EncodeSchema},
                           {"properties", 25, Form::kPart, EncodeProperties}};

std::string EncodeSchema(const Json& schema) { return EncodeObject(kSchema, 31, schema); }

constexpr Row kBodyParameter[] = {{"description", 1},
                                  {"name", 2},
                                  {"in", 3},
                                  {"required", 4, Form::kFlag},
                                  {"schema", 5, Form::kPart, EncodeSchema}};
constexpr Row kQueryParameter[] = {{"required", 1, Form::kFlag},
                                   {"in", 2},
                                   {"description", 3},
                                   {"name", 4},
                                   {"type", 6},
                                   {"format", 7},
                                   {"uniqueItems", 20, Form::kFlag}};
constexpr Row kPathParameter[] = {{"required", 1, Form::kFlag},
                                  {"in", 2},
                                  {"description", 3},
                                  {"name", 4},
                                  {"type", 5},
                                  {"format", 6},
                                  {"uniqueItems", 19, Form::kFlag}};

/// ParametersItem{Parameter{BodyParameter or NonBodyParameter{the kind}}}.
std::string EncodeParameter(const Json& parameter) {
  const std::string in = codec::GetString(parameter, "in");
  if (in == "body") return Wrap(1, Wrap(1, EncodeObject(kBodyParameter, 6, parameter)));
  const std::string own = in == "path" ? Wrap(4, EncodeObject(kPathParameter, 22, parameter))
                                       : Wrap(3, EncodeObject(kQueryParameter, 23, parameter));
  return Wrap(1, Wrap(2, own));
}

std::string EncodeSchemaItem(const Json& schema) { return Wrap(1, EncodeSchema(schema)); }
constexpr Row kResponse[] = {{"description", 1}, {"schema", 2, Form::kPart, EncodeSchemaItem}};
std::string EncodeResponse(const Json& response) {
  return Wrap(1, EncodeObject(kResponse, 5, response));
}
std::string EncodeResponses(const Json& map) { return EncodeMap(1, EncodeResponse, map); }

constexpr Row kOperation[] = {{"tags", 1},
                              {"summary", 2},
                              {"description", 3},
                              {"operationId", 5},
                              {"produces", 6},
                              {"consumes", 7},
                              {"parameters", 8, Form::kPart, EncodeParameter},
                              {"responses", 9, Form::kPart, EncodeResponses},
                              {"schemes", 10}};
std::string EncodeOperation(const Json& operation) {
  return EncodeObject(kOperation, 13, operation);
}

constexpr Row kPathItem[] = {
    {"get", 2, Form::kPart, EncodeOperation},   {"put", 3, Form::kPart, EncodeOperation},
    {"post", 4, Form::kPart, EncodeOperation},  {"delete", 5, Form::kPart, EncodeOperation},
    {"patch", 8, Form::kPart, EncodeOperation}, {"parameters", 9, Form::kPart, EncodeParameter}};
std::string EncodePathItem(const Json& item) { return EncodeObject(kPathItem, 10, item); }
std::string EncodePaths(const Json& map) { return EncodeMap(2, EncodePathItem, map); }

constexpr Row kInfo[] = {{"title", 1}, {"version", 2}, {"description", 3}};
std::string EncodeInfo(const Json& info) { return EncodeObject(kInfo, 7, info); }

constexpr Row kDocument[] = {{"swagger", 1},
                             {"info", 2, Form::kPart, EncodeInfo},
                             {"paths", 8, Form::kPart, EncodePaths},
                             {"definitions", 9, Form::kPart, EncodeProperties}};

}  // namespace

std::string EncodeOpenApiV2(const Json& document) { return EncodeObject(kDocument, 16, document); }

}  // namespace apiserver
