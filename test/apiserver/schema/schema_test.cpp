#include <doctest/doctest.h>

#include <chrono>

#include "apiserver/product_crd.hpp"
#include "apiserver/schema/resource_definition.hpp"
#include "apiserver/schema/validation.hpp"

using namespace apiserver;
using codec::Json;

namespace {

Json Crd(const Json& schema) {
  return {{"apiVersion", "apiextensions.k8s.io/v1"},
          {"kind", "CustomResourceDefinition"},
          {"metadata", {{"name", "things.example.com"}}},
          {"spec",
           {{"group", "example.com"},
            {"scope", "Namespaced"},
            {"names", {{"kind", "Thing"}, {"plural", "things"}}},
            {"versions", Json::array({{{"name", "v1"},
                                       {"served", true},
                                       {"storage", true},
                                       {"subresources", {{"status", Json::object()}}},
                                       {"schema", {{"openAPIV3Schema", schema}}}}})}}}};
}

ResourceDefinition Thing(const char* spec) {
  const Json schema = {{"type", "object"}, {"properties", {{"spec", Json::parse(spec)}}}};
  auto definition = LoadCrd(Crd(schema));
  REQUIRE_MESSAGE(definition, (definition ? "" : definition.error().message));
  return *definition;
}

Json Object(const char* spec) {
  return {{"apiVersion", "example.com/v1"},
          {"kind", "Thing"},
          {"metadata", {{"name", "a"}, {"namespace", "d"}}},
          {"spec", Json::parse(spec)}};
}

std::string Faults(const ResourceDefinition& definition, const Json& object,
                   const Json* old_object = nullptr) {
  std::string text;
  for (const FieldError& error : Validate(definition, object, old_object))
    text += (text.empty() ? "" : "; ") + error.Text();
  return text;
}

ResourceDefinition Builtin(const std::string& group, const std::string& kind) {
  for (const ResourceDefinition& definition : Builtins()) {
    if (definition.group == group && definition.kind == kind) return definition;
  }
  FAIL("no such kind");
  return {};
}

}  // namespace

TEST_CASE("every fault is worded as kube-apiserver words it") {
  struct Row {
    const char* schema;
    const char* spec;
    const char* fault;
  };
  constexpr Row kRows[] = {
      {R"({"type":"object","properties":{"n":{"type":"integer"}}})", R"({"n":"x"})",
       R"(spec.n: Invalid value: "string": spec.n in body must be of type integer: "string")"},
      {R"({"type":"object","required":["n"]})", "{}", "spec.n: Required value"},
      {R"({"type":"object","properties":{"n":{"type":"string","enum":["A","B"]}}})", R"({"n":"x"})",
       R"(spec.n: Unsupported value: "x": supported values: "A", "B")"},
      {R"({"type":"object","properties":{"n":{"type":"string","pattern":"^[a-z]+$"}}})",
       R"({"n":"X"})", R"(spec.n: Invalid value: "X": spec.n in body should match '^[a-z]+$')"},
      {R"({"type":"object","properties":{"n":{"type":"integer","minimum":1,"maximum":10}}})",
       R"({"n":15})",
       "spec.n: Invalid value: 15: spec.n in body should be less than or equal to 10"},
      {R"({"type":"object","properties":{"n":{"type":"integer","minimum":1}}})", R"({"n":0})",
       "spec.n: Invalid value: 0: spec.n in body should be greater than or equal to 1"},
      {R"({"type":"object","properties":{"n":{"type":"string","maxLength":3}}})", R"({"n":"abcd"})",
       "spec.n: Too long: may not be more than 3 bytes"},
      {R"({"type":"object","properties":{"n":{"type":"string","minLength":2}}})", R"({"n":"a"})",
       R"(spec.n: Invalid value: "a": spec.n in body should be at least 2 chars long)"},
      {R"({"type":"object","properties":{"n":{"type":"array","maxItems":1,"items":{"type":"string"}}}})",
       R"({"n":["a","b"]})", "spec.n: Too many: 2: must have at most 1 items"},
      {R"({"type":"object","properties":{"n":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}}}})",
       R"({"n":["a","a"]})", R"(spec.n[1]: Duplicate value: "a")"},
      {R"({"type":"object","properties":{"n":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
          "items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"}}}}}})",
       R"({"n":[{"k":"a"},{"k":"a"}]})", R"(spec.n[1]: Duplicate value: {"k":"a"})"},
      {R"({"type":"object","properties":{"n":{"type":"string","format":"date-time"}}})",
       R"({"n":"yesterday"})",
       R"(spec.n: Invalid value: "yesterday": spec.n in body must be of type date-time: "yesterday")"},
      {R"({"type":"object","properties":{"n":{"type":"integer","format":"int32"}}})",
       R"({"n":3000000000})",
       R"(spec.n: Invalid value: 3000000000: spec.n in body must be of type int32: "3000000000")"},
      {R"({"type":"object","properties":{"n":{"x-kubernetes-int-or-string":true}}})",
       R"({"n":1.5})",
       R"(spec.n: Invalid value: "number": spec.n in body must be of type integer,string: "number")"},
      {R"({"type":"object","x-kubernetes-validations":[{"rule":"self.a > self.b","message":"a must be greater than b"}],
          "properties":{"a":{"type":"integer"},"b":{"type":"integer"}}})",
       R"({"a":1,"b":2})", R"(spec: Invalid value: "object": a must be greater than b)"},
      {R"j({"type":"object","x-kubernetes-validations":[{"rule":"has(self.b)","message":"give b","fieldPath":".b","reason":"FieldValueRequired"}],
          "properties":{"b":{"type":"integer"}}})j",
       "{}", "spec.b: Required value: give b"},
      {R"j({"type":"object","x-kubernetes-validations":[{"rule":"self.a == 1","messageExpression":"'a is ' + string(self.a)"}],
          "properties":{"a":{"type":"integer"}}})j",
       R"({"a":2})", R"(spec: Invalid value: "object": a is 2)"},
      {R"({"type":"object","x-kubernetes-validations":[{"rule":"self.b == 1"}],"properties":{"b":{"type":"integer"}}})",
       "{}", R"(spec: Invalid value: "object": no such key: b evaluating rule: self.b == 1)"},
      {R"({"type":"object","properties":{"n":{"oneOf":[{"required":["a"]},{"required":["b"]}],"type":"object","x-kubernetes-preserve-unknown-fields":true}}})",
       R"({"n":{"a":1,"b":2}})",
       R"(spec.n: Invalid value: "": "spec.n" must validate one and only one schema (oneOf). Found 2 valid alternatives)"}};
  for (const Row& row : kRows) {
    INFO(row.schema);
    CHECK(Faults(Thing(row.schema), Object(row.spec)) == row.fault);
  }
}

TEST_CASE(
    "a rule that cannot be evaluated refuses the writes it guards, by name, also when nothing "
    "changed") {
  for (const char* rule : {"quantity(self.a).isGreaterThan(1)", "self.nosuch == 1",
                           "self.a ==", "url(self.s).getHost() == 'x'"}) {
    const Json schema = {
        {"type", "object"},
        {"properties", {{"a", {{"type", "integer"}}}, {"s", {{"type", "string"}}}}},
        {"x-kubernetes-validations", Json::array({{{"rule", rule}, {"message", "m"}}})}};
    const ResourceDefinition definition = Thing(schema.dump().c_str());
    CHECK(BrokenRules(definition).size() == 1);
    const Json object = Object(R"({"a":1,"s":"x"})");
    const std::string fault = Faults(definition, object);
    INFO(fault);
    CHECK(fault.find(rule) != std::string::npos);
    CHECK(fault.find("cannot be evaluated") != std::string::npos);
    CHECK_FALSE(Faults(definition, object, &object).empty());
    Json without = object;
    without.erase("spec");
    CHECK(Faults(definition, without).empty());
  }
}

TEST_CASE("CEL is skipped, and says so, while the structure is wrong") {
  const auto definition = Thing(
      R"({"type":"object","properties":{"a":{"type":"integer"}},"x-kubernetes-validations":[{"rule":"self.a > 1"}]})");
  const std::string fault = Faults(definition, Object(R"({"a":"x"})"));
  CHECK(fault.find("some validation rules were not checked") != std::string::npos);
}

TEST_CASE("transition rules see their old value through map lists, and only there") {
  const auto definition = Thing(
      R"({"type":"object","properties":{"l":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
    "items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"},"v":{"type":"string","x-kubernetes-validations":[{"rule":"self == oldSelf","message":"v may not change"}]}}}}}})");
  const Json before = Object(R"({"l":[{"k":"a","v":"1"},{"k":"b","v":"2"}]})");
  CHECK(Faults(definition, before) == "");
  CHECK(Faults(definition, Object(R"({"l":[{"k":"b","v":"2"},{"k":"a","v":"1"}]})"), &before) ==
        "");
  CHECK(Faults(definition, Object(R"({"l":[{"k":"b","v":"3"}]})"), &before) ==
        R"(spec.l[0].v: Invalid value: "string": v may not change)");
}

TEST_CASE("a fault that was stored before and has not changed is not reported again") {
  const auto definition = Thing(
      R"({"type":"object","properties":{"a":{"type":"string","maxLength":1},"b":{"type":"string"}}})");
  const Json before = Object(R"({"a":"long"})");
  CHECK(Faults(definition, Object(R"({"a":"long","b":"x"})"), &before) == "");
  CHECK(Faults(definition, Object(R"({"a":"longer"})"), &before) ==
        "spec.a: Too long: may not be more than 1 bytes");
}

TEST_CASE("unknown fields are pruned and named; what is preserved stays") {
  const auto definition = Thing(
      R"({"type":"object","properties":{"a":{"type":"string"},"l":{"type":"array","items":{"type":"object","properties":{"x":{"type":"string"}}}},
    "free":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}})");
  Json object = Object(R"({"a":"x","foo":1,"l":[{"x":"1","y":2}],"free":{"any":{"thing":1}}})");
  object["metadata"]["bogus"] = 1;
  object["top"] = 1;
  const auto unknown = Prune(definition, object);
  CHECK(unknown == std::vector<std::string>{"metadata.bogus", "spec.foo", "spec.l[0].y", "top"});
  CHECK(object["spec"] == Json::parse(R"({"a":"x","l":[{"x":"1"}],"free":{"any":{"thing":1}}})"));
  CHECK(
      StrictDecodingMessage(definition, {"spec.foo", "top"}) ==
      R"(Thing in version "v1" cannot be handled as a Thing: strict decoding error: unknown field "spec.foo", unknown field "top")");
}

TEST_CASE("defaults fill absent members of present parents, and nulls that may not be null") {
  const auto definition = Thing(
      R"({"type":"object","properties":{"a":{"type":"string","default":"x"},"n":{"type":"string","nullable":true,"default":"y"},
    "sub":{"type":"object","properties":{"b":{"type":"integer","default":3}}},"made":{"type":"object","default":{},"properties":{"c":{"type":"integer","default":4}}}}})");
  Json object = Object(R"({"a":null,"n":null})");
  ApplyDefaults(definition, object);
  CHECK(object["spec"] == Json::parse(R"({"a":"x","n":null,"made":{"c":4}})"));
  object = Object(R"({"sub":{}})");
  ApplyDefaults(definition, object);
  CHECK(object["spec"]["sub"]["b"] == 3);
}

TEST_CASE("metadata is checked: names, labels, annotations, finalizers, what may not change") {
  const auto definition = Thing(R"({"type":"object"})");
  Json object = Object("{}");
  object["metadata"]["name"] = "Bad_Name";
  CHECK(
      Faults(definition, object)
          .starts_with(
              R"(metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must consist of)"));
  object["metadata"]["name"] = "good.name-1";
  object["metadata"]["labels"] = {{"ok/x", "v"}, {"bad key", "v"}, {"x", "-v"}};
  CHECK(Validate(definition, object).size() == 2);
  object["metadata"]["labels"] = Json::object();
  object["metadata"]["annotations"] = {{"a", std::string(262'145, 'x')}};
  CHECK(Faults(definition, object) ==
        "metadata.annotations: Too long: may not be more than 262144 bytes");
  object["metadata"]["annotations"] = Json::object();
  Json old_object = object;
  old_object["metadata"]["uid"] = "1";
  object["metadata"]["uid"] = "2";
  CHECK(Faults(definition, object, &old_object) ==
        R"(metadata.uid: Invalid value: "2": field is immutable)");
  object["metadata"]["uid"] = "1";
  old_object["metadata"]["deletionTimestamp"] = object["metadata"]["deletionTimestamp"] =
      "2026-01-01T00:00:00Z";
  object["metadata"]["finalizers"] = {"example.com/f"};
  CHECK(Faults(definition, object, &old_object).find("no new finalizers can be added") !=
        std::string::npos);
}

TEST_CASE("the 422 has the message and the causes that kubectl prints") {
  const FieldErrors one = {{FieldErrorType::kInvalid, "spec.x", "v", "must be good"}};
  CHECK(InvalidMessage({"molecule.ai", "Workspace"}, "a", one) ==
        R"(Workspace.molecule.ai "a" is invalid: spec.x: Invalid value: "v": must be good)");
  FieldErrors two = one;
  two.push_back({FieldErrorType::kRequired, "spec.y", {}, ""});
  two.push_back(one[0]);
  CHECK(
      InvalidMessage({"", "Secret"}, "a", two) ==
      R"(Secret "a" is invalid: [spec.x: Invalid value: "v": must be good, spec.y: Required value])");
  const Json status = InvalidStatus({"molecule.ai", "Workspace"}, "a", two);
  CHECK(status["code"] == 422);
  CHECK(status["details"]["causes"][1]["reason"] == "FieldValueRequired");
}

TEST_CASE("definitions that this server cannot serve are refused with the path of the reason") {
  Json crd = Crd({{"type", "object"}});
  crd["spec"]["versions"].push_back(crd["spec"]["versions"][0]);
  CHECK(LoadCrd(crd).error().message.find("spec.versions") != std::string::npos);
  CHECK_FALSE(LoadCrd(Crd({{"type", "object"}, {"properties", {{"a", {{"$ref", "#/x"}}}}}})));
  CHECK_FALSE(LoadCrd(
      Crd({{"type", "object"}, {"properties", {{"a", {{"type", "string"}, {"pattern", "("}}}}}})));
  CHECK_FALSE(LoadCrd(Json::array()));
  CHECK_FALSE(LoadCrd(Crd(Json())));
}

TEST_CASE("tables show columns, ages and built-in cells") {
  const base::WallTime now = *base::ParseTime("2026-01-01T01:00:00Z");
  const Json secret = {{"metadata", {{"name", "s"}, {"creationTimestamp", "2026-01-01T00:57:00Z"}}},
                       {"type", "Opaque"},
                       {"data", {{"a", ""}, {"b", ""}}}};
  CHECK(TableCells(Builtin("", "Secret"), secret, now) == Json::parse(R"(["s","Opaque",2,"3m"])"));
  const Json event = Json::parse(
      R"({"metadata":{"name":"e"},"involvedObject":{"kind":"Workspace","name":"w"},"reason":"R","type":"Normal","message":"m",
    "lastTimestamp":"2026-01-01T00:59:50Z","count":3})");
  CHECK(TableCells(Builtin("", "Event"), event, now) ==
        Json::parse(R"(["10s","Normal","R","workspace/w","","","m","<unknown>",3,"e"])"));
  CHECK(TableCells(Builtin("events.k8s.io", "Event"), EventToNew(event), now)[6] == "m");
  CHECK(EventToCore(EventToNew(event))["involvedObject"] == event["involvedObject"]);
  struct Row {
    int64_t seconds;
    const char* text;
  };
  constexpr Row kRows[] = {{0, "0s"},           {119, "119s"},           {200, "3m20s"},
                           {3600, "60m"},       {4 * 3600 + 60, "4h1m"}, {187200, "2d4h"},
                           {86400 * 30, "30d"}, {86400 * 800, "2y70d"}};
  for (const Row& row : kRows) CHECK(HumanDuration(base::Seconds(row.seconds)) == row.text);
}

TEST_CASE("JSON paths find what printer columns ask for") {
  const Json object = Json::parse(
      R"({"status":{"conditions":[{"type":"A","status":"False"},{"type":"Ready","status":"True"}]},"m":{"a.b":1},"l":[1,2,3]})");
  struct Row {
    const char* path;
    const char* found;
  };
  constexpr Row kRows[] = {{R"(.status.conditions[?(@.type=="Ready")].status)", "[\"True\"]"},
                           {".l[0]", "[1]"},
                           {".l[-1]", "[3]"},
                           {".l[*]", "[1,2,3]"},
                           {".l[1:]", "[2,3]"},
                           {"{.m['a.b']}", "[1]"},
                           {R"(.m.a\.b)", "[1]"},
                           {"..status", nullptr},
                           {".x.y", "[]"}};
  for (const Row& row : kRows) {
    const auto path = JsonPath::Compile(row.path);
    REQUIRE(path);
    Json found = Json::array();
    for (const Json* item : path->Find(object)) found.push_back(*item);
    if (row.found) CHECK(found.dump() == row.found);
  }
  for (const char* bad : {".a[", ".a[x]", ".a[?(b)]", ".a[?(@.b==)]", "a b"})
    CHECK_FALSE(JsonPath::Compile(bad));
}

TEST_CASE(
    "secrets: bad base64 and bad keys are refused without showing the value; immutable is "
    "immutable") {
  const auto definition = Builtin("", "Secret");
  Json secret = {{"apiVersion", "v1"},
                 {"kind", "Secret"},
                 {"metadata", {{"name", "s"}}},
                 {"data", {{"k", "not base64!"}}}};
  const std::string fault = Faults(definition, secret);
  CHECK_FALSE(fault.empty());
  CHECK(fault.find("not base64!") == std::string::npos);
  secret["data"] = {{"bad key", "YQ=="}};
  CHECK(Faults(definition, secret).find("a valid config key") != std::string::npos);
  secret["data"] = {{"k", "YQ=="}};
  secret["immutable"] = true;
  Json changed = secret;
  changed["data"]["k"] = "Yg==";
  CHECK(Faults(definition, changed, &secret) ==
        "data: Forbidden: field is immutable when `immutable` is set");
}

TEST_CASE("the product's own definitions load, with every rule understood, and validate fast") {
  for (const char* name : {"workspaces", "declaredplugins"}) {
    const auto broken = BrokenRules(ProductCrd(name));
    CHECK_MESSAGE(broken.empty(), (broken.empty() ? "" : broken[0]));
  }
}

TEST_CASE("the built-in kinds are complete") {
  const auto all = Builtins();
  CHECK(all.size() == 6);
  for (const auto& definition : all) {
    CHECK(definition.schema);
    CHECK(definition.columns.size() >= 3);
    for (const auto& column : definition.columns)
      CHECK((!column.builtin.empty() || !column.path.Text().empty()));
  }
}
