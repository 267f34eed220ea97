#include <doctest/doctest.h>

#include "apiserver/wire/object_text.hpp"
#include "apiserver/wire/presentation.hpp"
#include "apiserver/wire/protobuf.hpp"
#include "apiserver/wire/request_info.hpp"
#include "apiserver/wire/selector.hpp"

namespace apiserver {
namespace {

using codec::Json;

http::Request Of(const std::string& method, const std::string& target) {
  http::Request request;
  request.method = method;
  request.target = target;
  return request;
}

/// The wire form of one length-delimited field.
std::string Field(int number, const std::string& bytes) {
  std::string out;
  out.push_back(static_cast<char>(number << 3 | 2));
  size_t size = bytes.size();
  for (; size >= 0x80; size >>= 7) out.push_back(static_cast<char>((size & 0x7f) | 0x80));
  out.push_back(static_cast<char>(size));
  return out + bytes;
}

std::string Envelope(const std::string& api_version, const std::string& kind,
                     const std::string& raw) {
  return std::string("k8s\0", 4) + Field(1, Field(1, api_version) + Field(2, kind)) + Field(2, raw);
}

}  // namespace

TEST_CASE("a target is read as Kubernetes reads it") {
  struct Row {
    const char* method;
    const char* target;
    const char* verb;
    const char* group;
    const char* ns;
    const char* resource;
    const char* name;
    const char* subresource;
  };
  const Row rows[] = {
      {"GET", "/api/v1/namespaces/a/secrets/x", "get", "", "a", "secrets", "x", ""},
      {"GET", "/api/v1/namespaces", "list", "", "", "namespaces", "", ""},
      {"DELETE", "/api/v1/namespaces/a", "delete", "", "", "namespaces", "a", ""},
      {"PUT", "/api/v1/namespaces/a/finalize", "update", "", "", "namespaces", "a", "finalize"},
      {"GET", "/api/v1/namespaces/a/secrets?watch=true", "watch", "", "a", "secrets", "", ""},
      {"PATCH", "/apis/g/v1/namespaces/a/things/x/status", "patch", "g", "a", "things", "x",
       "status"},
      {"DELETE", "/apis/g/v1/namespaces/a/things", "deletecollection", "g", "a", "things", "", ""},
      {"GET", "/apis/g/v1/things?limit=5", "list", "g", "", "things", "", ""},
      {"POST", "/apis/g/v1/namespaces/a/things", "create", "g", "a", "things", "", ""},
      {"GET", "/apis/g/v1", "get", "", "", "", "", ""},
      {"GET", "/api", "get", "", "", "", "", ""},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.target));
    const auto info = ParseRequest(Of(row.method, row.target));
    REQUIRE(info);
    CHECK(info->verb == row.verb);
    CHECK(info->group == row.group);
    CHECK(info->ns == row.ns);
    CHECK(info->resource == row.resource);
    CHECK(info->name == row.name);
    CHECK(info->subresource == row.subresource);
  }
  for (const char* target : {"", "x", "/api/%zz", "/api/v1/%00", "/a?b=%2"}) {
    CAPTURE(std::string(target));
    CHECK_FALSE(ParseRequest(Of("GET", target)));
  }
  const auto info = ParseRequest(Of("GET", "/api/v1/secrets?labelSelector=a%3Db+in&x"));
  CHECK(info->query.Get("labelSelector") == "a=b in");
  CHECK(info->query.Has("x"));
}

TEST_CASE("selectors choose as Kubernetes chooses") {
  const ResourceDefinition definition;
  const Json object = Json::parse(
      R"({"metadata":{"name":"n","namespace":"s","labels":{"app":"web","tier":"front","rank":"5"}}})");
  struct Row {
    const char* labels;
    const char* fields;
    bool matches;
  };
  const Row rows[] = {
      {"", "", true},
      {"app=web", "", true},
      {"app==web,tier!=back", "", true},
      {"app=api", "", false},
      {"other!=x", "", true},
      {"app in (api, web)", "", true},
      {"app notin (api, web)", "", false},
      {"other notin (a)", "", true},
      {"app", "", true},
      {"!app", "", false},
      {"!other,rank>4,rank<6", "", true},
      {"rank>5", "", false},
      {"", "metadata.name=n", true},
      {"", "metadata.name=n,metadata.namespace!=s", false},
      {"", "metadata.name==m", false},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.labels));
    CAPTURE(std::string(row.fields));
    auto selector = Selector::Parse(definition, row.labels, row.fields);
    REQUIRE(selector);
    CHECK(selector->Matches(object) == row.matches);
  }
  for (const char* bad : {"a b", "app in web", "app in (a", "=x", "a=b=c", "a=-x", "/a=b"}) {
    CAPTURE(std::string(bad));
    CHECK_FALSE(Selector::Parse(definition, bad, ""));
  }
  CHECK(Selector::Parse(definition, "", "spec.x=1").error().message ==
        "field label not supported: spec.x");
}

TEST_CASE("an Accept header chooses the shape") {
  struct Row {
    const char* accept;
    bool served;
    Shape shape;
  };
  const Row rows[] = {
      {"", true, Shape::kObject},
      {"application/json", true, Shape::kObject},
      {"*/*", true, Shape::kObject},
      {"application/json;as=Table;v=v1;g=meta.k8s.io,application/json", true, Shape::kTable},
      {"application/json;as=Table;v=v9;g=meta.k8s.io,application/json", true, Shape::kObject},
      {"application/vnd.kubernetes.protobuf,application/json", true, Shape::kObject},
      {"application/vnd.kubernetes.protobuf", false, Shape::kObject},
      {"application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", true, Shape::kPartial},
      {"text/html", false, Shape::kObject},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.accept));
    Presentation presentation;
    CHECK(Negotiate(row.accept, "", presentation) == row.served);
    if (row.served) CHECK(presentation.shape == row.shape);
  }
}

TEST_CASE("a Secret in protobuf becomes JSON, empty fields left out") {
  const std::string entry = Field(1, "key") + Field(2, std::string("\0\xff"
                                                                   "a",
                                                                   3));
  const std::string raw =
      Field(1, Field(1, "s") + Field(2, "") + Field(11, Field(1, "l") + Field(2, "v"))) +
      Field(2, entry) + Field(3, "Opaque");
  auto object = DecodeProtobuf(Envelope("v1", "Secret", raw));
  REQUIRE(object);
  CHECK(
      *object ==
      Json::parse(
          R"({"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","labels":{"l":"v"}},"data":{"key":"AP9h"},"type":"Opaque"})"));
}

TEST_CASE("malformed protobuf is refused whatever is cut off or changed") {
  const std::string raw = Field(1, Field(1, "s")) + Field(2, Field(1, "k") + Field(2, "v"));
  const std::string whole = Envelope("v1", "Secret", raw);
  REQUIRE(DecodeProtobuf(whole));
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto cut = DecodeProtobuf(std::string_view(whole).substr(0, size));
    if (cut) CHECK(cut->is_object());
  }
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const char byte : {'\x00', '\xff', '\x7f'}) {
      std::string changed = whole;
      changed[at] = byte;
      const auto read = DecodeProtobuf(changed);
      if (read) CHECK(read->is_object());
    }
  }
  CHECK(DecodeProtobuf(Envelope("v1", "Pod", raw)).error().reason == "UnsupportedMediaType");
  CHECK_FALSE(DecodeProtobuf("{}"));
}

TEST_CASE("the stored text of an object parses to the object with its version") {
  const Json object =
      Json::parse(R"({"kind":"K","metadata":{"name":"n","resourceVersion":"9"},"spec":{"a":1}})");
  const std::string text = ComposeText(12, TailFrom(object));
  Json expected = object;
  expected["metadata"]["resourceVersion"] = "12";
  CHECK(Json::parse(text) == expected);
  CHECK(ComposeText(12, TailOf(text)) == text);
}

}  // namespace apiserver
