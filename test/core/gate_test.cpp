#include "core/gate.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "core/entitlement.hpp"
#include "core/world.hpp"

using world::Digest;
using world::World;
using namespace std::chrono_literals;

namespace {
struct Case {
  const char* what;
  std::function<void(World&)> change;
  const char* status;
  const char* reason;
};
}  // namespace

TEST_CASE("the gate fails closed: each thing that is absent has its reason") {
  const Case cases[] = {
      {"all is well", [](World&) {}, "True", "GatePassed"},
      {"the plugin is not on the box, whatever the agent claims",
       [](World& w) { w.box.erase("mgmt"); }, "False", "ManagementMissing"},
      {"it has bytes that nobody allowed", [](World& w) { w.BootInstall("mgmt", 'e'); }, "False",
       "ManagementMissing"},
      {"the agent does not say that it is present",
       [](World& w) { w.hb.management_present.reset(); }, "False", "ManagementToolsNotLoaded"},
      {"the agent says that it is not", [](World& w) { w.hb.management_present = false; }, "False",
       "ManagementToolsNotLoaded"},
      {"no tools are loaded", [](World& w) { w.hb.loaded_tools.clear(); }, "False",
       "ManagementToolsNotLoaded"},
      {"only another plugin's tools are loaded",
       [](World& w) {
         w.hb.loaded_tools = {"mcp__mgmtx__y", "x"};
       },
       "False", "ManagementToolsNotLoaded"},
      {"a named tool is missing",
       [](World& w) {
         w.policy.privileged[0].tools = {"mcp__mgmt__list", "mcp__mgmt__add"};
       },
       "False", "ManagementToolsNotLoaded"},
      {"the agent does not say that there is a model", [](World& w) { w.hb.model_present.reset(); },
       "False", "ModelMissing"},
      {"plugin and model are missing: the one that can be mended is named",
       [](World& w) {
         w.hb.model_present = false;
         w.box.clear();
       },
       "False", "ManagementMissing"},
      {"the probe is undecided and there is no earlier one", [](World& w) { w.unknown = {"*"}; },
       "Unknown", "GateEvidenceStale"},
      {"the settings name no management plugin", [](World& w) { w.policy.privileged.clear(); },
       "False", "ManagementNotConfigured"},
      {"no digest is allowed", [](World& w) { w.policy.privileged[0].allowed_digests.clear(); },
       "False", "ManagementMissing"},
      {"the agent is silent",
       [](World& w) {
         w.agent_reports = false;
         w.Advance(181s);
       },
       "Unknown", "HeartbeatStale"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.what);
    World w;
    w.MakePlatform();
    w.ManagementRuns();
    c.change(w);
    const auto o = w.Observe();
    const core::GateVerdict v = core::EvaluateGate(o, w.policy, w.now);
    CHECK(meta::ConditionStatusName(v.status) == std::string(c.status));
    CHECK(v.reason == c.reason);
    CHECK(v.Passed() == (v.reason == "GatePassed"));
    const auto d = core::DecideWorkspace(o, {}, w.policy, w.now);
    CHECK((d.state == "Online") == v.Passed());
  }
}

TEST_CASE("the operator's own evidence counts for three timeouts, then the gate closes") {
  World w;
  w.MakePlatform();
  w.ManagementRuns();
  w.Settle(2);
  REQUIRE(w.ws.status.state == "Online");
  w.unknown = {"*"};
  w.Advance(470s);
  w.Pass();
  CHECK(w.ws.status.state == "Online");
  CHECK(w.decision.next_check < w.now.mono + base::Seconds(60));
  w.Advance(60s);
  w.Pass();
  CHECK(w.ws.status.state == "Failed");
  CHECK(w.Condition("GatePassed") == "Unknown");
  CHECK(w.Why("GatePassed") == "GateEvidenceStale");
  w.unknown.clear();
  w.Pass();
  CHECK(w.ws.status.state == "Online");
}

TEST_CASE("evidence does not move to another box") {
  World w;
  w.MakePlatform();
  w.ManagementRuns();
  w.Settle(2);
  w.identity = "box-2";
  w.Beat();
  w.unknown = {"*"};
  w.Pass();
  CHECK(w.ws.status.state == "Failed");
}

TEST_CASE("an inventory is never gate evidence") {
  World w;
  w.MakePlatform();
  w.ManagementRuns();
  auto o = w.Observe();
  o.heartbeat.inventory = std::vector<core::InventoryItem>{{"mgmt", "", Digest('f'), true}};
  o.probe = core::ProbeFromInventory(o.heartbeat, {"mgmt"});
  CHECK(!core::EvaluateGate(o, w.policy, w.now).Passed());
}

TEST_CASE(
    "entitlement: what is privileged reaches a Platform only, as listed, by name, origin and "
    "digest (SC-7)") {
  core::Policy policy;
  policy.privileged = {{"mgmt", "gitea://o/mgmt#tag:v1", {Digest('f')}, true, {}}};
  const auto agent = api::WorkspaceKind::kAgent;
  const auto platform = api::WorkspaceKind::kPlatform;
  struct Row {
    api::WorkspaceKind kind;
    std::string name, source, digest;
    bool fine;
  };
  const Row rows[] = {
      {agent, "notes", "gitea://o/notes#v1", "", true},
      {agent, "notes", "gitea://o/notes#v1", Digest('a'), true},
      {agent, "mgmt", "gitea://o/mgmt#tag:v1", "", false},
      {agent, "mgmt", "local://other", "", false},
      {agent, "notes", "gitea://o/mgmt#tag:v2", "", false},
      {agent, "notes", "gitea://O/MGMT.git#tag:v1", "", false},
      {agent, "notes", "local://copy", Digest('f'), false},
      {platform, "mgmt", "gitea://o/mgmt#tag:v1", "", true},
      {platform, "mgmt", "gitea://o/mgmt#tag:v1", Digest('f'), true},
      {platform, "mgmt", "gitea://o/mgmt#tag:v1", Digest('e'), false},
      {platform, "mgmt", "gitea://o/mgmt#tag:v2", "", false},
      {platform, "mgmt", "gitea://evil/mgmt#tag:v1", "", false},
      {platform, "other", "gitea://o/mgmt#tag:v1", "", false},
      {platform, "other", "local://copy", Digest('f'), false},
      {platform, "notes", "gitea://o/notes#v1", Digest('a'), true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    CAPTURE(row.source);
    const base::Status status =
        core::CheckEntitlement(row.kind, row.name, row.source, row.digest, policy);
    CHECK(status.has_value() == row.fine);
    if (!status) CHECK(status.error().reason == "NotEntitled");
  }
}

TEST_CASE("entitlement: another spelling of a privileged plugin's origin is no other origin") {
  struct Row {
    std::string listed, declared;
    bool same;
  };
  const Row rows[] = {
      {"github://o/mgmt#tag:v1", "git+https://github.com/o/mgmt#tag:v2", true},
      {"github://o/mgmt#tag:v1", "git+https://github.com/o/mgmt.git#tag:v2", true},
      {"github://o/mgmt#tag:v1", "git+https://GitHub.com:443/O/Mgmt.git#tag:v1", true},
      {"github://o/mgmt#tag:v1", "git+ssh://github.com./o/mgmt.git#tag:v1", true},
      {"git+https://github.com/o/mgmt.git#tag:v1", "github://o/mgmt#tag:v2", true},
      {"gitea://o/mgmt#tag:v1", "git+https://git.example.org/forge/o/mgmt#tag:v1", true},
      {"gitea://o/mgmt#tag:v1", "git+http://git.example.org:3000/forge/o/mgmt.git#tag:v1", true},
      {"gitea://o/mgmt/skill#tag:v1", "git+https://git.example.org/forge/o/mgmt//skill#v1", true},
      {"git+https://[::1]/o/mgmt#tag:v1", "git+https://[0:0::0:1]:443/o/mgmt#tag:v1", true},
      {"git+https://127.0.0.1/o/mgmt#tag:v1", "git+https://127.1/o/mgmt#tag:v1", true},
      {"oci://registry.example.org/o/mgmt:v1", "oci://Registry.example.org:443/o/mgmt:v2", true},
      {"local://mgmt", "local://Mgmt", true},
      {"github://o/mgmt#tag:v1", "git+https://example.org/o/mgmt#tag:v1", false},
      {"github://o/mgmt#tag:v1", "gitea://o/mgmt#tag:v1", false},
      {"github://o/mgmt#tag:v1", "git+https://github.com/o/mgmt//other#tag:v1", false},
      {"gitea://o/mgmt#tag:v1", "git+https://git.example.org/o/mgmt#tag:v1", false},
      {"oci://git.example.org/o/mgmt:v1", "git+https://git.example.org/o/mgmt#tag:v1", false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.listed);
    CAPTURE(row.declared);
    core::Policy policy;
    policy.privileged = {{"mgmt", row.listed, {Digest('f')}, true, {}}};
    for (const char* user : {"", "user@"}) {
      policy.gitea_base_url = fmt::format("https://{}Git.example.org:443/%66orge/", user);
      CHECK(core::CheckEntitlement(api::WorkspaceKind::kAgent, "notes", row.declared, "", policy)
                .has_value() != row.same);
    }
  }
  core::Policy none;  // Neither scheme stands for anything: they are two.
  none.github_base_url.clear();
  none.privileged = {{"mgmt", "gitea://o/mgmt#tag:v1", {Digest('f')}, true, {}}};
  CHECK(core::CheckEntitlement(api::WorkspaceKind::kAgent, "notes", "github://o/mgmt#tag:v1", "",
                               none));
}
