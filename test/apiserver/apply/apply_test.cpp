#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "apiserver/apply/managed_fields.hpp"
#include "apiserver/apply/patch.hpp"

using namespace apiserver;
using codec::Json;

namespace {

const ResourceDefinition& Thing() {
  static const ResourceDefinition definition = [] {
    const Json crd = Json::parse(
        R"({"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"things.example.com"},
      "spec":{"group":"example.com","scope":"Namespaced","names":{"kind":"Thing","plural":"things"},"versions":[{"name":"v1","served":true,"storage":true,
      "subresources":{"status":{}},"schema":{"openAPIV3Schema":{"type":"object","properties":{
        "status":{"type":"object","properties":{"x":{"type":"string"}}},
        "spec":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"},"sub":{"type":"object","properties":{"p":{"type":"string"},"q":{"type":"string"}}},
          "atomic":{"type":"array","x-kubernetes-list-type":"atomic","items":{"type":"string"}},
          "set":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}},
          "ref":{"type":"object","x-kubernetes-map-type":"atomic","properties":{"name":{"type":"string"}}},
          "plugins":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],"items":{"type":"object","required":["name"],
            "properties":{"name":{"type":"string"},"source":{"type":"string"},"extra":{"type":"string"}}}}}}}}}}]}})");
    return *LoadCrd(crd);
  }();
  return definition;
}

Json Config(const char* spec) {
  return {{"apiVersion", "example.com/v1"},
          {"kind", "Thing"},
          {"metadata", {{"name", "t"}, {"namespace", "d"}}},
          {"spec", Json::parse(spec)}};
}

FieldManager By(const char* name, int second = 0, const char* subresource = "") {
  return {name, subresource, *base::ParseTime("2026-01-01T00:00:00Z") + base::Seconds(second)};
}

ApplyOutcome Apply(const Json& live, const char* spec, const FieldManager& manager,
                   bool force = false) {
  auto outcome = ServerSideApply(Thing(), live, Config(spec), manager, force);
  REQUIRE_MESSAGE(outcome, (outcome ? "" : outcome.error().message));
  return *outcome;
}

Json FieldsBy(const Json& object, const std::string& manager,
              const std::string& operation = "Apply") {
  for (const Json& entry : object["metadata"].value("managedFields", Json::array())) {
    if (entry["manager"] == manager && entry["operation"] == operation) return entry["fieldsV1"];
  }
  return nullptr;
}

}  // namespace

TEST_CASE("an apply records its fields by the schema's list types") {
  const auto outcome = Apply(
      Json(),
      R"({"a":"1","plugins":[{"name":"x","source":"s"}],"set":["u"],"atomic":["l"],"ref":{"name":"r"}})",
      By("k"));
  CHECK(outcome.changed);
  CHECK(FieldsBy(outcome.object, "k") ==
        Json::parse(R"({"f:spec":{"f:a":{},"f:atomic":{},"f:ref":{},"f:set":{"v:\"u\"":{}},
    "f:plugins":{"k:{\"name\":\"x\"}":{".":{},"f:name":{},"f:source":{}}}}})"));
}

TEST_CASE("an equal apply changes nothing") {
  const char* spec = R"({"a":"1","plugins":[{"name":"x","source":"s"}],"set":["u"]})";
  const Json live = Apply(Json(), spec, By("k")).object;
  const auto again = Apply(live, spec, By("k", 50));
  CHECK_FALSE(again.changed);
  CHECK(again.object == live);
  CHECK(EqualForStorage(again.object, live));
}

TEST_CASE(
    "a field of another manager is a conflict, worded as Kubernetes words it, unless forced") {
  Json live = Config(R"({"a":"1","b":"1"})");
  UpdateManagedFields(Thing(), Json(), live, By("kubectl"));
  const auto refused = Apply(live, R"({"a":"2"})", By("other"));
  REQUIRE(refused.conflicts.size() == 1);
  CHECK(ApplyConflictStatus(refused.conflicts)["message"] ==
        R"(Apply failed with 1 conflict: conflict with "kubectl" using example.com/v1: .spec.a)");
  CHECK(ApplyConflictStatus(refused.conflicts)["details"]["causes"][0]["field"] == ".spec.a");
  const auto two = Apply(live, R"({"a":"2","b":"2"})", By("other"));
  CHECK(ApplyConflictStatus(two.conflicts)["message"] ==
        "Apply failed with 2 conflicts: conflicts with \"kubectl\" using example.com/v1:\n- "
        ".spec.a\n- .spec.b");
  const auto forced = Apply(live, R"({"a":"2"})", By("other"), true);
  CHECK(forced.object["spec"] == Json::parse(R"({"a":"2","b":"1"})"));
  CHECK(FieldsBy(forced.object, "kubectl", "Update") ==
        Json::parse(R"({"f:spec":{".":{},"f:b":{}}})"));
  CHECK(FieldsBy(forced.object, "other") == Json::parse(R"({"f:spec":{"f:a":{}}})"));
}

TEST_CASE(
    "the same value is shared, not fought about; who stops applying it removes it only when last") {
  Json live = Apply(Json(), R"({"a":"1","b":"1"})", By("one")).object;
  live = Apply(live, R"({"a":"1"})", By("two")).object;
  live = Apply(live, R"({"b":"1"})", By("one")).object;
  CHECK(live["spec"] == Json::parse(R"({"a":"1","b":"1"})"));
  live = Apply(live, R"({})", By("two")).object;
  CHECK(live["spec"] == Json::parse(R"({"b":"1"})"));
}

TEST_CASE("list items come and go by key; an item that another owns a field of stays") {
  Json live = Apply(Json(), R"({"plugins":[{"name":"x","source":"s"},{"name":"y","source":"s"}]})",
                    By("one"))
                  .object;
  live =
      Apply(live, R"({"plugins":[{"name":"y","extra":"e"},{"name":"z","source":"s"}]})", By("two"))
          .object;
  CHECK(live["spec"]["plugins"].size() == 3);
  live = Apply(live, R"({"plugins":[]})", By("one")).object;
  CHECK(live["spec"]["plugins"] ==
        Json::parse(R"([{"name":"y","extra":"e"},{"name":"z","source":"s"}])"));
  CHECK(live["metadata"]["name"] == "t");
  live = Apply(live, R"({"sub":{"p":"1","q":"2"},"set":["a","b"]})", By("one")).object;
  live = Apply(live, R"({"set":["b"]})", By("one")).object;
  CHECK_FALSE(live["spec"].contains("sub"));
  CHECK(live["spec"]["set"] == Json::parse(R"(["b"])"));
}

TEST_CASE("bad applies are refused with the field named") {
  CHECK(ServerSideApply(Thing(), Json(), Config(R"({"plugins":[{"name":"x"},{"name":"x"}]})"),
                        By("k"), false)
            .error()
            .message.find("spec.plugins[1]") == 0);
  CHECK_FALSE(
      ServerSideApply(Thing(), Json(), Config(R"({"plugins":[{"source":"x"}]})"), By("k"), false));
  Json config = Config("{}");
  config["metadata"]["managedFields"] = Json::array({{{"manager", "x"}}});
  CHECK(ServerSideApply(Thing(), Json(), config, By("k"), false).error().message ==
        "metadata.managedFields must be nil");
  config = Config("{}");
  config["apiVersion"] = "v2";
  CHECK_FALSE(ServerSideApply(Thing(), Json(), config, By("k"), false));
}

TEST_CASE("status is owned through /status only") {
  Json config = Config(R"({"a":"1"})");
  config["status"] = {{"x", "1"}};
  Json live = ServerSideApply(Thing(), Json(), config, By("k"), false)->object;
  CHECK_FALSE(live.contains("status"));
  const auto status = ServerSideApply(Thing(), live, config, By("c", 1, "status"), false);
  CHECK(status->object["status"]["x"] == "1");
  CHECK(FieldsBy(status->object, "c") == Json::parse(R"({"f:status":{"f:x":{}}})"));
  CHECK(FieldsBy(status->object, "k") == Json::parse(R"({"f:spec":{"f:a":{}}})"));
}

TEST_CASE(
    "updates own what they change, lose what is taken, keep their time when nothing changes") {
  Json first = Config(R"({"a":"1"})");
  first["metadata"]["annotations"] = {{"k", "v"}};
  UpdateManagedFields(Thing(), Json(), first, By("one"));
  CHECK(FieldsBy(first, "one", "Update") ==
        Json::parse(
            R"({"f:metadata":{"f:annotations":{".":{},"f:k":{}}},"f:spec":{".":{},"f:a":{}}})"));
  Json second = first;
  second["spec"]["a"] = "2";
  UpdateManagedFields(Thing(), first, second, By("two", 9));
  CHECK(FieldsBy(second, "two", "Update") == Json::parse(R"({"f:spec":{"f:a":{}}})"));
  CHECK(FieldsBy(second, "one", "Update") ==
        Json::parse(R"({"f:metadata":{"f:annotations":{".":{},"f:k":{}}},"f:spec":{}})"));
  Json third = second;
  UpdateManagedFields(Thing(), second, third, By("two", 99));
  CHECK(third == second);
  third["metadata"]["managedFields"] = Json::array({Json::object()});
  UpdateManagedFields(Thing(), second, third, By("two", 99));
  CHECK_FALSE(third["metadata"].contains("managedFields"));
}

TEST_CASE("the applied order of a list counts; what is only in the live one keeps its place") {
  struct Row {
    const char *live, *applied, *merged;
  };
  const std::vector<Row> rows = {
      {"d", "adb", "adb"},    {"xdy", "adb", "xadyb"}, {"ba", "ab", "ab"},
      {"baz", "abn", "azbn"}, {"xyz", "", "xyz"},      {"", "ba", "ba"},
      {"ab", "ab", "ab"},     {"abc", "cxa", "bcxa"},  {"pabq", "ba", "pbqa"},
  };
  const auto list = [](const std::string& names) {
    Json set = Json::array(), plugins = Json::array();
    for (const char name : names) {
      set.push_back(std::string(1, name));
      plugins.push_back({{"name", std::string(1, name)}, {"source", "s"}});
    }
    return Json{{"set", std::move(set)}, {"plugins", std::move(plugins)}}.dump();
  };
  for (const Row& row : rows) {
    CAPTURE(row.live);
    CAPTURE(row.applied);
    const Json live = Apply(Json(), list(row.live).c_str(), By("one")).object;
    const Json merged = Apply(live, list(row.applied).c_str(), By("two")).object;
    CHECK(merged["spec"].dump() == list(row.merged));
  }
}

TEST_CASE("an item goes with the last who holds it, whoever owns something in it") {
  Json live = Apply(Json(), R"({"a":"1","plugins":[{"name":"x","source":"s"}]})", By("one")).object;
  Json next = live;
  next["spec"]["plugins"][0]["extra"] = "e";
  UpdateManagedFields(Thing(), live, next, By("ed"));
  CHECK(Apply(next, R"({"a":"1"})", By("one")).object["spec"] ==
        Json::parse(R"({"a":"1","plugins":[]})"));
}

TEST_CASE("a list of named items without any has no owner") {
  const auto outcome = Apply(Json(), R"({"a":"1","plugins":[],"set":[],"atomic":[]})", By("one"));
  CHECK(FieldsBy(outcome.object, "one")["f:spec"] == Json::parse(R"({"f:a":{},"f:atomic":{}})"));
  CHECK(outcome.object["spec"]["plugins"] == Json::array());
}

TEST_CASE("a first apply to what nobody owns shares it with before-first-apply") {
  Json live = Config(R"({"a":"1","b":"2"})");
  Json next = Config(R"({"a":"3","b":"2"})");
  UpdateManagedFields(Thing(), live, next, By("ed"));
  CHECK_FALSE(next["metadata"].contains("managedFields"));
  const Json applied = Apply(live, R"({"a":"1"})", By("one")).object;
  CHECK(FieldsBy(applied, "before-first-apply", "Update")["f:spec"] ==
        Json::parse(R"({".":{},"f:a":{},"f:b":{}})"));
  CHECK(Apply(live, R"({"a":"4"})", By("one")).conflicts.size() == 1);
}

TEST_CASE("conflicts are told level by level") {
  const Json live =
      Apply(Json(), R"({"a":"1","b":"1","sub":{"p":"1"},"ref":{"name":"r"}})", By("one")).object;
  const auto outcome =
      Apply(live, R"({"a":"2","b":"2","sub":{"p":"2"},"ref":{"name":"q"}})", By("two"));
  std::string fields;
  for (const ApplyConflict& conflict : outcome.conflicts) fields += conflict.field + " ";
  CHECK(fields == ".spec.a .spec.b .spec.ref .spec.sub.p ");
}

TEST_CASE("at most ten Update managers are kept; the oldest merge") {
  Json live = Config("{}");
  UpdateManagedFields(Thing(), Json(), live, By("m0"));
  for (int i = 0; i < 30; ++i) {
    Json next = live;
    next["metadata"]["labels"]["l" + std::to_string(i)] = "v";
    UpdateManagedFields(Thing(), live, next, By(("m" + std::to_string(i)).c_str(), i));
    live = next;
  }
  CHECK(live["metadata"]["managedFields"].size() == 10);
  CHECK(FieldsBy(live, "ancient-changes", "Update")["f:metadata"]["f:labels"].size() >= 20);
}

TEST_CASE("JSON patch does RFC 6902 and is bounded") {
  const Json target = {{"a", {1, 2}}, {"b", "x"}};
  CHECK(
      *JsonPatch(
          target,
          Json::parse(
              R"([{"op":"test","path":"/b","value":"x"},{"op":"add","path":"/a/-","value":3},{"op":"remove","path":"/b"}])")) ==
      Json::parse(R"({"a":[1,2,3]})"));
  for (const char* bad : {R"([{"op":"test","path":"/b","value":"y"}])",
                          R"([{"op":"remove","path":"/zz"}])", R"([{"op":"frob","path":"/b"}])",
                          R"({})", R"([1])", R"([{"op":"replace","path":"/a/9","value":1}])",
                          R"([{"op":"replace","path":"/zz/y","value":1}])",
                          R"([{"op":"add","path":"/a/9","value":1}])"}) {
    INFO(bad);
    CHECK_FALSE(JsonPatch(target, Json::parse(bad)));
  }
  // As Kubernetes, not as the RFC.
  CHECK((*JsonPatch(target, Json::parse(R"([{"op":"replace","path":"/zz","value":1}])")))["zz"] ==
        1);
  Json bomb = Json::array();
  for (int i = 0; i < 40; ++i)
    bomb.push_back({{"op", "copy"}, {"from", ""}, {"path", "/x" + std::to_string(i)}});
  CHECK(JsonPatch(target, bomb).error().message.find("more than") != std::string::npos);
}

TEST_CASE("merge patch removes by null") {
  CHECK(*MergePatch({{"a", 1}, {"b", {{"c", 1}, {"d", 2}}}}, {{"a", nullptr}, {"b", {{"c", 5}}}}) ==
        Json::parse(R"({"b":{"c":5,"d":2}})"));
  CHECK_FALSE(MergePatch(Json::object(), Json::array()));
}

TEST_CASE(
    "strategic merge patch merges keyed lists of built-in kinds and is refused for custom ones") {
  ResourceDefinition secrets;
  for (const auto& definition : Builtins()) {
    if (definition.kind == "Secret") secrets = definition;
  }
  const Json target = Json::parse(
      R"({"metadata":{"ownerReferences":[{"uid":"1","name":"a"},{"uid":"2","name":"b"}],"finalizers":["x"]},"data":{"a":"1","b":"2"}})");
  const Json patch = Json::parse(
      R"({"metadata":{"ownerReferences":[{"uid":"1","$patch":"delete"},{"uid":"2","name":"c"}],"finalizers":["y"],"$setElementOrder/finalizers":["x","y"]},"data":{"a":null,"c":"3"}})");
  CHECK(
      *StrategicMergePatch(secrets, target, patch) ==
      Json::parse(
          R"({"metadata":{"ownerReferences":[{"uid":"2","name":"c"}],"finalizers":["x","y"]},"data":{"b":"2","c":"3"}})"));
  CHECK(
      *StrategicMergePatch(
          secrets, target,
          Json::parse(
              R"({"data":{"$patch":"replace","z":"1"},"metadata":{"$deleteFromPrimitiveList/finalizers":["x"]}})")) ==
      Json::parse(
          R"({"metadata":{"ownerReferences":[{"uid":"1","name":"a"},{"uid":"2","name":"b"}],"finalizers":[]},"data":{"z":"1"}})"));
  CHECK(StrategicMergePatch(Thing(), target, patch).error().reason == "UnsupportedMediaType");
}

TEST_CASE("managedFields of a client are checked, managers named") {
  CHECK(
      CheckManagedFields(Json::parse(
          R"([{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:a":{}}}])")) ==
      "");
  CHECK(CheckManagedFields(Json::parse("[{}]")) == "");
  CHECK(CheckManagedFields(Json::parse(R"([{"manager":"m","operation":"Frob"}])")) != "");
  CHECK(CheckManagedFields(
            Json::parse(R"([{"manager":"m","operation":"Apply","fieldsV1":{"zz":{}}}])")) != "");
  CHECK(DefaultFieldManager("kubectl/v1.32 (linux)") == "kubectl");
  CHECK(DefaultFieldManager("") == "unknown");
}
