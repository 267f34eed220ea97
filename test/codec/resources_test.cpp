#include "codec/resources.hpp"

#include <doctest/doctest.h>

#include <thread>

#include "codec/crd.hpp"

namespace {

using codec::Json;

base::WallTime At(const char* text) { return *base::ParseTime(text); }

TEST_CASE("a watch event's object decodes without its managedFields and last-applied annotation") {
  const auto decoded = codec::DecodeWorkspace(R"({
    "apiVersion": "molecule.ai/v1alpha1", "kind": "Workspace",
    "metadata": {"name": "w1", "namespace": "team-a", "uid": "6f1c7d36-9e3b-4b53-8f5e-1e0d4a1f3c11", "resourceVersion": "4711",
      "generation": 3, "creationTimestamp": "2026-11-21T10:34:13Z", "deletionTimestamp": null, "labels": {"team": "a"},
      "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"a\":1}\n", "molecule.ai/reconcile-requested-at": "now"},
      "finalizers": ["molecule.ai/box-cleanup"],
      "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}],
      "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:box": {}}}}]},
    "spec": {"kind": "Platform", "box": {"type": "Directory", "directory": {"path": "/srv/w1", "run": "Operator"}},
      "plugins": [{"name": "a", "source": "local://a"}], "heartbeat": {"timeoutSeconds": 60}, "suspend": false, "later": [1, {"a": 2}]},
    "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True", "observedGeneration": 2,
      "lastTransitionTime": "2026-11-21T10:40:00Z", "reason": "Ok", "message": "caf\u00e9"}], "agent": {"activeTasks": 0, "modelPresent": true}}
  })");
  if (!decoded) FAIL(decoded.error().message);
  const api::Workspace& w = *decoded;
  CHECK(w.meta.Key() == meta::ObjectKey{"team-a", "w1"});
  CHECK(w.meta.resource_version == "4711");
  CHECK(w.meta.generation == 3);
  CHECK(w.meta.creation_time == At("2026-11-21T10:34:13Z"));
  CHECK(!w.meta.deletion_time);
  CHECK(w.meta.annotations ==
        std::map<std::string, std::string>{{"molecule.ai/reconcile-requested-at", "now"}});
  REQUIRE(w.meta.owners.size() == 1);
  CHECK(w.meta.owners[0].controller);
  CHECK(w.spec.kind == api::WorkspaceKind::kPlatform);
  CHECK(w.spec.box.directory->run == api::DirectoryRun::kOperator);
  CHECK(w.spec.heartbeat == api::HeartbeatSpec{30, 60});
  CHECK(w.spec.restart == api::RestartSpec{});
  CHECK(w.status.conditions[0].message == "caf\xc3\xa9");
  CHECK(w.status.agent->active_tasks == 0);
  CHECK(!w.status.agent->management_present.has_value());
  CHECK(w.status.agent->model_present == true);
}

TEST_CASE("an empty selector is not the same as none") {
  const auto all =
      codec::DecodeDeclaredPlugin(R"({"spec":{"source":"local://a","workspaceSelector":{}}})");
  const auto none = codec::DecodeDeclaredPlugin(R"({"spec":{"source":"local://a"}})");
  CHECK(all->spec.workspace_selector.has_value());
  CHECK(!none->spec.workspace_selector.has_value());
  CHECK(codec::EncodeDeclaredPlugin(*all)["spec"]["workspaceSelector"] == Json::object());
  CHECK(!codec::EncodeDeclaredPlugin(*none)["spec"].contains("workspaceSelector"));
}

TEST_CASE("what does not fit is refused by the name of the field") {
  struct Row {
    std::string name;
    std::string text;
    const char* says;
  };
  const std::vector<Row> table = {
      {"an unknown enum value", R"({"spec":{"box":{"type":"Rocket"}}})",
       "`spec.box.type` of the Workspace must be one of Pod, Docker, SSH, Directory, External; it "
       "is \"Rocket\""},
      {"an enum in another case", R"({"spec":{"kind":"agent"}})", "`spec.kind`"},
      {"a number for an enum", R"({"spec":{"kind":7}})",
       "`spec.kind` of the Workspace must be a text"},
      {"a text for an integer", R"({"spec":{"heartbeat":{"periodSeconds":"30"}}})",
       "`spec.heartbeat.periodSeconds` of the Workspace must be an integer"},
      {"a float for an integer", R"({"spec":{"heartbeat":{"periodSeconds":30.5}}})",
       "`spec.heartbeat.periodSeconds`"},
      {"an integer over 32 bits", R"({"spec":{"heartbeat":{"periodSeconds":4294967296}}})",
       "at most 32 bits"},
      {"an integer over 64 bits", R"({"metadata":{"generation":18446744073709551616}})",
       "`metadata.generation`"},
      {"NaN", R"({"metadata":{"generation":NaN}})", "`metadata.generation`"},
      {"1e309", R"({"metadata":{"generation":1e309}})", "`metadata.generation`"},
      {"a text for a boolean", R"({"spec":{"suspend":"true"}})",
       "`spec.suspend` of the Workspace must be true or false"},
      {"an object for a list", R"({"spec":{"plugins":{}}})",
       "`spec.plugins` of the Workspace must be a list"},
      {"a list for an object", R"({"spec":[]})", "`spec` of the Workspace must be an object"},
      {"an element", R"({"spec":{"plugins":[{"name":"a"},{"name":2}]}})", "`spec.plugins[1].name`"},
      {"a null element", R"({"metadata":{"finalizers":[null]}})", "`metadata.finalizers[0]`"},
      {"a label that is no text", R"({"metadata":{"labels":{"a.b/c":1}}})",
       "`metadata.labels.a.b/c`"},
      {"a time that is none", R"({"metadata":{"creationTimestamp":"yesterday"}})",
       "`metadata.creationTimestamp` of the Workspace must be a time"},
      {"no object", "[]", "must be an object"},
      {"a scalar", "7", "must be an object"},
      {"nothing", "", "is not valid JSON"},
      {"an open object", R"({"spec":{"box":{"type":"Pod")", "JSON"},
      {"trailing bytes", R"({"spec":{}} {})", "more text after"},
      {"invalid UTF-8", "{\"spec\":{\"model\":\"\xff\"}}", "JSON"},
      {"a lone surrogate", R"({"spec":{"model":"\ud800"}})", "`spec.model`"},
      {"a missing comma", R"({"spec":{"model":"a" "kind":"Agent"}})", "JSON"},
      {"over 64 MiB", std::string((64 << 20) + 1, ' '), "JSON"},
  };
  for (const Row& row : table) {
    CAPTURE(row.name);
    const auto decoded = codec::DecodeWorkspace(row.text);
    REQUIRE(!decoded);
    CHECK(decoded.error().code == base::Code::kInvalid);
    CAPTURE(decoded.error().message);
    CHECK(decoded.error().message.find(row.says) != std::string::npos);
  }
}

TEST_CASE("deep unknown members are skipped or refused, never followed") {
  const std::string deep = R"({"metadata":{"name":"a"},"x":)" + std::string(100'000, '[') +
                           std::string(100'000, ']') + "}";
  const auto decoded = codec::DecodeObjectMeta(deep);
  if (decoded) CHECK(decoded->name == "a");
}

TEST_CASE("null is the same as absent, and escaped names are names") {
  const auto decoded = codec::DecodeWorkspace(
      R"({"metadata":{"n\u0061me":"a","labels":null},"spec":{"box":null,"kind":null,"plugins":null},"status":null})");
  REQUIRE(decoded);
  CHECK(decoded->meta.name == "a");
  CHECK(decoded->spec == api::WorkspaceSpec{});
  CHECK(decoded->status == api::WorkspaceStatus{});
}

TEST_CASE("statuses decode from the answer to a patch") {
  const Json answer = {{"kind", "Workspace"},
                       {"status", {{"state", "Online"}, {"recovery", {{"attempts", 2}}}}}};
  CHECK(codec::DecodeWorkspaceStatus(answer)->recovery->attempts == 2);
  CHECK(codec::DecodeDeclaredPluginStatus(Json{{"status", {{"resolved", {{"commit", "abc"}}}}}})
            ->resolved->commit == "abc");
  CHECK(!codec::DecodeWorkspaceStatus(Json::array()));
}

TEST_CASE("a status that is longer than the schema allows is cut to what the schema takes") {
  api::WorkspaceStatus status;
  status.agent.emplace().current_task = std::string(511, 'a') + "\xe2\x82\xac and more";
  status.agent->sample_error = std::string(100'000, 'b');
  status.box.emplace().cause = std::string(5000, 'c');
  status.plugins.resize(300);
  for (size_t i = 0; i < status.plugins.size(); ++i)
    status.plugins[i].name = "p" + std::to_string(i);
  status.plugins[0].message = std::string(5000, 'd');
  status.pending_restart.emplace().plugins.assign(300, "p");
  const Json encoded = codec::EncodeWorkspaceStatus(status);
  const Json crd = crd::Load("workspaces");
  CHECK(crd::Misfit(encoded, crd::Schema(crd)["properties"]["status"], "status") == "");
  CHECK(codec::GetString(encoded["agent"], "currentTask").ends_with("..."));
  CHECK(codec::ParseJson(codec::Dump(encoded)));
  CHECK(encoded["plugins"].size() == 256);
}

TEST_CASE("what is encoded is what an API server would store: half a character is no difference") {
  api::WorkspaceStatus status;
  status.state = "or here: \xc3";
  status.plugins.resize(1);
  status.plugins[0].name = "p";
  status.plugins[0].message = "cut here: \xe2\x82";
  status.box.emplace().cause = std::string(5000, '\xff');
  const Json encoded = codec::EncodeWorkspaceStatus(status);
  CHECK(*codec::ParseJson(codec::Dump(encoded)) == encoded);
  const Json crd = crd::Load("workspaces");
  CHECK(crd::Misfit(encoded, crd::Schema(crd)["properties"]["status"], "status") == "");
}

TEST_CASE("wire words") {
  CHECK(codec::WireName(api::BoxType::kSSH) == "SSH");
  CHECK(codec::WireName(api::PluginOrigin::kBootInstalled) == "BootInstalled");
  CHECK(codec::WireName(api::UpdatePolicy::kManual) == "Manual");
  CHECK(codec::WireName(static_cast<api::BoxType>(99)) == "Invalid");
}

TEST_CASE("threads decode at the same time, and big texts do not stay") {
  std::vector<std::jthread> threads;
  std::atomic<int> good = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&good, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string name = std::string(i == 7 ? 2 << 20 : 10, static_cast<char>('a' + t));
        const auto decoded = codec::DecodeObjectMeta(R"({"metadata":{"name":")" + name + R"("}})");
        good += decoded && decoded->name == name;
      }
    });
  threads.clear();
  CHECK(good == 200);
}

}  // namespace
