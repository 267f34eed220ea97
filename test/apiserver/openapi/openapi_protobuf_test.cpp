#include <doctest/doctest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "apiserver/openapi/openapi.hpp"
#include "apiserver/openapi/swagger_schema.hpp"
#include "apiserver/schema/resource_definition.hpp"

using namespace apiserver;
using codec::Json;

namespace {

/// The fields of one message, by number: bytes of wire type 2, the number as text of the others.
using Message = std::multimap<int, std::string>;

uint64_t Varint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    REQUIRE_FALSE(bytes.empty());
    const auto byte = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  FAIL("a varint without end");
  return 0;
}

Message Read(std::string_view bytes) {
  Message message;
  while (!bytes.empty()) {
    const uint64_t tag = Varint(bytes);
    const int number = static_cast<int>(tag >> 3);
    if ((tag & 7) == 0) {
      message.emplace(number, std::to_string(Varint(bytes)));
      continue;
    }
    const size_t size = (tag & 7) == 1 ? 8 : Varint(bytes);
    REQUIRE(((tag & 7) == 1 || (tag & 7) == 2));
    REQUIRE(size <= bytes.size());
    message.emplace(number, std::string(bytes.substr(0, size)));
    bytes.remove_prefix(size);
  }
  return message;
}

std::string Field(const Message& message, int number) {
  const auto found = message.find(number);
  return found == message.end() ? "" : found->second;
}

Message At(const Message& message, int number) { return Read(Field(message, number)); }

/// The value of that name among the (name, value) pairs of field `number`.
Message Named(const Message& message, int number, std::string_view name) {
  const auto [begin, end] = message.equal_range(number);
  for (auto pair = begin; pair != end; ++pair) {
    const Message entry = Read(pair->second);
    if (Field(entry, 1) == name) return At(entry, 2);
  }
  FAIL("no entry " << name);
  return {};
}

/// Schema.properties.additional_properties[name].
Message Property(const Message& schema, std::string_view name) {
  return Named(At(schema, 25), 1, name);
}

std::string Type(const Message& schema) { return Field(At(schema, 22), 1); }

const char* const kCrd =
    R"json({"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
"metadata":{"name":"things.example.com"},"spec":{"group":"example.com","scope":"Namespaced",
"names":{"kind":"Thing","plural":"things"},"versions":[{"name":"v1","served":true,"storage":true,
"subresources":{"status":{}},"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object",
"description":"What is wanted.","required":["n"],"properties":{
"n":{"type":"integer","format":"int32","minimum":1.5,"maximum":300},
"color":{"type":"string","enum":["red","green"],"maxLength":20},
"any":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"a":{"type":"string"}}},
"parts":{"type":"array","maxItems":10,"items":{"type":"string"}},
"labels":{"type":"object","additionalProperties":{"type":"string"}}}}}}}}]}})json";

Message Document() {
  std::vector<ResourceDefinition> all = Builtins();
  auto thing = LoadCrd(Json::parse(kCrd));
  REQUIRE(thing);
  all.push_back(*thing);
  return Read(EncodeOpenApiV2(OpenApiV2(all)));
}

}  // namespace

TEST_CASE("the protobuf document has the schemas with types, references and kinds") {
  const Message document = Document();
  CHECK(Field(document, 1) == "2.0");
  CHECK(Field(At(document, 2), 1) == "Kubernetes");
  const Message definitions = At(document, 9);
  const Message thing = Named(definitions, 1, "com.example.v1.Thing");
  CHECK(Type(thing) == "object");
  CHECK(Json::parse(Field(Named(thing, 31, "x-kubernetes-group-version-kind"), 2)) ==
        Json::parse(R"([{"group":"example.com","version":"v1","kind":"Thing"}])"));
  CHECK(Field(Property(thing, "metadata"), 1) ==
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
  const Message spec = Property(thing, "spec");
  CHECK(Field(spec, 4) == "What is wanted.");
  CHECK(Field(spec, 19) == "n");
  const Message n = Property(spec, "n");
  CHECK(Type(n) == "integer");
  CHECK(Field(n, 2) == "int32");
  CHECK(Field(n, 9) == std::string("\0\0\0\0\0\0\xf8\x3f", 8));  // 1.5, little endian.
  const Message color = Property(spec, "color");
  CHECK(Field(color, 11) == "20");
  CHECK(color.count(20) == 2);
  CHECK(Field(At(color, 20), 2) == R"("red")");
  CHECK(Type(Read(Field(At(Property(spec, "parts"), 23), 1))) == "string");
  CHECK(Type(Read(Field(At(Property(spec, "labels"), 21), 1))) == "string");
  CHECK(Property(spec, "any").count(25) == 0);
  const Message list = Named(definitions, 1, "com.example.v1.ThingList");
  CHECK(Field(At(At(Property(list, "items"), 23), 1), 1) == "#/definitions/com.example.v1.Thing");
  CHECK(Type(Named(definitions, 1, "io.k8s.api.core.v1.ConfigMap")) == "object");
}

TEST_CASE("every patch operation tells its kind and that it knows fieldValidation") {
  const Message paths = At(Document(), 8);
  for (const char* path : {"/apis/example.com/v1/namespaces/{namespace}/things/{name}",
                           "/api/v1/namespaces/{namespace}/configmaps/{name}"}) {
    CAPTURE(path);
    const Message item = Named(paths, 2, path);
    const Message patch = At(item, 8);
    const Json kind = Json::parse(Field(Named(patch, 13, "x-kubernetes-group-version-kind"), 2));
    CHECK(kind["version"] == "v1");
    std::vector<std::string> query;
    const auto [begin, end] = patch.equal_range(8);
    for (auto parameter = begin; parameter != end; ++parameter) {
      const Message own = At(At(At(Read(parameter->second), 1), 2), 3);
      if (!own.empty()) query.push_back(Field(own, 4) + " " + Field(own, 2));
    }
    CHECK(query == std::vector<std::string>{"dryRun query", "fieldManager query",
                                            "fieldValidation query", "force query"});
    // Of the path itself: ParametersItem.parameter.non_body_parameter.path_parameter_sub_schema.
    CHECK(Field(At(At(At(At(item, 9), 1), 2), 4), 4) == "name");
    // Of the answer: Responses.response_code, Response.schema, SchemaItem.schema.
    const Message ok = At(Named(At(patch, 9), 1, "200"), 1);
    CHECK(Field(At(At(ok, 2), 1), 1).starts_with("#/definitions/"));
  }
}

TEST_CASE("what Swagger cannot say becomes anything") {
  struct Row {
    const char* what;
    const char* schema;
    const char* swagger;
  };
  constexpr Row kRows[] = {
      {"an object of kept unknown members",
       R"({"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"a":{}}})",
       R"({"x-kubernetes-preserve-unknown-fields":true})"},
      {"a value that may be null", R"({"type":"string","format":"date-time","nullable":true})",
       R"({"format":"date-time"})"},
      {"a required member that may be null",
       R"({"type":"object","required":["a","b"],"properties":{"a":{"type":"string","nullable":true},
           "b":{"type":"string"}}})",
       R"({"type":"object","required":["b"],"properties":{"a":{},"b":{"type":"string"}}})"},
      {"an integer or a string",
       R"({"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]})",
       R"({"x-kubernetes-int-or-string":true})"},
      {"an array of anything", R"({"type":"array"})", "{}"},
      {"an object without members", R"({"type":"object","properties":{}})", R"({"type":"object"})"},
      {"properties that are called like words of the schema",
       R"({"type":"object","default":{},"properties":{"default":{"type":"string","default":"a"},
           "not":{"type":"object","additionalProperties":{"type":"string","default":""}},
           "type":{"type":"array","items":{"type":"string","default":""}}}})",
       R"({"type":"object","properties":{"default":{"type":"string"},
           "not":{"type":"object","additionalProperties":{"type":"string"}},
           "type":{"type":"array","items":{"type":"string"}}}})"}};
  for (const Row& row : kRows) {
    CAPTURE(row.what);
    Json schema = Json::parse(row.schema);
    ToSwagger(schema);
    CHECK(schema == Json::parse(row.swagger));
  }
}

TEST_CASE("an object of any members keeps them in its definition, too") {
  ResourceDefinition definition;
  definition.group = "example.com";
  definition.version = "v1";
  definition.kind = "Loose";
  definition.list_kind = "LooseList";
  definition.plural = "loose";
  definition.openapi = std::make_shared<const Json>(
      Json{{"type", "object"}, {"x-kubernetes-preserve-unknown-fields", true}});
  const std::vector<ResourceDefinition> all = {definition};
  const Json document = OpenApiV2(all);
  const Json& loose = document["definitions"]["com.example.v1.Loose"];
  CHECK_FALSE(loose.contains("properties"));
  CHECK_FALSE(loose.contains("type"));
}
