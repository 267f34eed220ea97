#include "core/plan/plugin_plan.hpp"

#include <doctest/doctest.h>

#include "core/plan/row_decision.hpp"
#include "core/restart_debt.hpp"
#include "core/world.hpp"

using core::StepKind;
using world::Digest;
using world::World;
using namespace std::chrono_literals;

namespace {

/// A plugin that boot has installed, declared, and reported by the agent as loaded.
void DeclareReported(World* w) {
  w->Declare("p", 'a');
  w->BootInstall("p", 'a');
  w->hb.inventory =
      std::vector<core::InventoryItem>{{"p", std::string(40, 'a'), Digest('a'), true}};
  w->hb.inventory_digest = "i1";
}

}  // namespace

TEST_SUITE("behaviour.md section 4: the decision table") {
  TEST_CASE(
      "no row, present, not known to differ: recorded as BootInstalled, no delivery, no restart "
      "(SC-1)") {
    World w;
    w.Declare("p", 'a');
    w.BootInstall("p", 'a');
    w.Pass();
    CHECK(w.plan.steps.empty());  // The box has its receipt: the row is all that was missing.
    REQUIRE(w.Row("p"));
    CHECK(w.Row("p")->origin == api::PluginOrigin::kBootInstalled);
    CHECK(w.Row("p")->loaded);
    CHECK(w.Row("p")->digest == Digest('a'));
    CHECK(w.Condition("Ready") == "True");
    w.Settle();
    CHECK(w.done.empty());
  }
  TEST_CASE(
      "no row, present without a receipt while the source is not resolved: recorded, and not "
      "called converged") {
    World w;
    w.Declare("p", 'a');
    w.sources.clear();
    w.box["p"] = {Digest('a'), "", "", "", false, false, true};
    w.Pass();
    CHECK(w.Planned(StepKind::kRecord) == 1);
    REQUIRE(w.plan.steps.size() == 1);
    CHECK(w.plan.steps[0].digest == Digest('a'));
    CHECK(w.Reason("p") == "Resolving");
    CHECK(w.Condition("Ready") == "Unknown");
    w.Publish(World::Source("p"), 'a');
    w.Settle(2);
    CHECK(w.Condition("Ready") == "True");
    CHECK(w.done.empty());
  }
  TEST_CASE(
      "what a probe may record on the spot: not ours yet, its bytes known, nothing against it") {
    const auto recorded = [](const std::function<void(World&)>& prepare) {
      World w;
      w.Declare("p", 'a');
      prepare(w);
      w.Observe();
      const auto found = core::RecordedIfFound(w.set, w.ws, w.policy);
      return found.size() == 1 && found[0]->name == "p";
    };
    CHECK(recorded([](World&) {}));
    CHECK(recorded([](World& w) { w.unknown = {"*"}; }));
    CHECK_FALSE(recorded([](World& w) { w.sources.clear(); }));
    CHECK_FALSE(recorded([](World& w) {
      w.BootInstall("p", 'a');
      w.Pass();  // Has recorded it.
    }));
    CHECK_FALSE(recorded([](World& w) { w.sources[World::Source("p")].manifest_name = "q"; }));
    CHECK_FALSE(recorded([](World& w) {
      w.policy.privileged = {{"p", World::Source("p"), {Digest('b')}, false, {}}};
    }));
  }
  TEST_CASE("present and loaded, its source edited and not resolved yet: not called converged") {
    for (const auto state :
         {core::ResolutionView::State::kPending, core::ResolutionView::State::kFailed}) {
      World w;
      w.Declare("p", 'a');
      w.BootInstall("p", 'a');
      w.Settle(2);
      REQUIRE(w.Condition("Ready") == "True");
      w.ws.spec.plugins[0].source = World::Source("p", ".1");
      w.sources[w.ws.spec.plugins[0].source].state = state;
      w.Pass();
      CHECK(w.done.empty());
      CHECK(w.Condition("PluginsConverged") == "False");
      CHECK(w.Condition("Ready") != "True");
      w.Publish(w.ws.spec.plugins[0].source, 'b');
      w.Settle(3);
      CHECK(w.Row("p")->digest == Digest('b'));
      CHECK(w.Condition("Ready") == "True");
    }
  }
  TEST_CASE("no row, present, and the written debt names it: it was delivered by us") {
    World w;
    w.Declare("p", 'a');
    w.BootInstall("p", 'a');
    w.box["p"].boot = w.BootId();
    w.box["p"].boot_installed = false;
    api::PendingRestart debt;
    debt.plugins = {"p"};
    debt.boot_id = w.BootId();
    debt.epoch = 1;
    w.ws.status.pending_restart = debt;
    w.Pass();
    CHECK(w.Row("p")->origin == api::PluginOrigin::kDelivered);
  }
  TEST_CASE("no longer declared, its files gone and its receipt left: the removal is finished") {
    World w;
    w.Declare("p", 'a');
    w.BootInstall("p", 'a');
    w.Settle(2);
    w.ws.spec.plugins.clear();
    w.box["p"].files = false;
    w.Pass();
    CHECK(w.Count(StepKind::kRemove) == 1);
    w.Settle(3);
    CHECK(!w.Row("p"));
  }
  TEST_CASE("any row, present, known digest differs: replaced under Track") {
    World w;
    w.Declare("p", 'a');
    w.BootInstall("p", 'a');
    w.Settle(2);
    w.Publish(World::Source("p"), 'b');
    w.Pass();
    CHECK(w.Count(StepKind::kActivate) == 1);
    CHECK(w.Count(StepKind::kRestart) == 1);
    w.Settle(2);
    CHECK(w.Row("p")->digest == Digest('b'));
    CHECK(w.Row("p")->origin == api::PluginOrigin::kDelivered);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE("any row, absent: installed, also when a row claims it is there") {
    World w;
    w.Declare("p", 'a');
    w.Settle(3);
    CHECK(w.Count(StepKind::kActivate) == 1);
    CHECK(w.Count(StepKind::kRestart) == 1);
    CHECK(w.Condition("Ready") == "True");
    w.box.clear();
    w.Pass();
    CHECK(w.Count(StepKind::kActivate) == 2);
    CHECK(w.Row("p")->loaded == false);
    w.Settle(2);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE(
      "any row, unknown: waits; the third Unknown in a row on a running box delivers, without a "
      "restart") {
    World w;
    w.Declare("p", 'a');
    w.unknown = {"p"};
    w.Pass();
    CHECK(w.plan.steps.empty());
    CHECK(w.Condition("PluginsConverged") == "Unknown");
    CHECK(w.plan.next_check < w.now.mono + base::Seconds(5));
    w.Pass();
    CHECK(w.plan.steps.empty());
    w.Pass();
    CHECK(w.Planned(StepKind::kDeliver) == 1);
    CHECK(w.Planned(StepKind::kActivate) == 1);
    CHECK(w.Planned(StepKind::kRestart) == 0);
    CHECK(w.ws.status.pending_restart);
    w.unknown.clear();
    w.Pass();
    CHECK(w.Count(StepKind::kRestart) == 1);
    w.Settle(2);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE(
      "what the agent had reported as loaded before a blind delivery was there: it is boot's") {
    for (const bool reported : {true, false}) {
      World w;
      DeclareReported(&w);
      if (!reported) w.hb.inventory.reset();
      w.unknown = {"p"};
      for (int i = 0; i < 3; ++i) w.Pass();
      CHECK(w.Planned(StepKind::kActivate) == 1);
      w.unknown.clear();
      w.Settle(2);
      CHECK((w.Row("p")->origin == api::PluginOrigin::kBootInstalled) == reported);
      CHECK(w.Count(StepKind::kRestart) == 0);
      CHECK(w.Condition("Ready") == "True");
    }
  }
  TEST_CASE(
      "a box that cannot be asked is asked again after as long as that has lasted, however often "
      "something else wakes us, and never in a hurry") {
    for (const auto state : {core::BoxState::kUnknown, core::BoxState::kRunning})
      for (const bool woken : {false, true})
        for (const char* uid : {"w-1", "w-2", "w-3"}) {
          World w;
          w.ws.meta.uid = uid;
          w.Declare("p", 'a');
          w.sources.begin()->second.digest.clear();  // Nothing can be delivered blindly.
          w.box_state = state;
          w.unknown = {"*"};
          const base::MonoTime begin = w.now.mono;
          int passes = 0;
          while (w.now.mono < begin + base::Seconds(60)) {
            w.Pass();
            ++passes;
            const auto wait = std::chrono::floor<base::Millis>(w.plan.next_check - w.now.mono);
            REQUIRE(wait >= base::Millis(500));
            CHECK(wait <= std::max<base::Millis>(base::Seconds(1), std::chrono::ceil<base::Millis>(
                                                                       w.now.mono - begin)));
            w.Advance(woken ? base::Millis(200) : wait);
          }
          if (!woken) CHECK(passes <= 16);
        }
  }
  TEST_CASE("a box that somebody has to mend before it can be asked is not asked in a hurry") {
    for (const bool slow : {false, true}) {
      World w;
      w.Declare("p", 'a');
      w.sources.begin()->second.digest.clear();
      w.unknown = {"*"};
      auto observation = w.Observe();
      observation.probe.slow = slow;
      const auto plan = core::PlanPlugins(w.set, observation, w.policy, w.now);
      CHECK((plan.next_check - w.now.mono >= w.policy.backoff_max / 2) == slow);
    }
  }
  TEST_CASE("a delivery never arrived and the box installed the plugin itself: it is boot's") {
    World w;
    w.Declare("p", 'a');
    w.fault = [](const core::Step&) { return base::MakeError(base::Code::kUnavailable, "away"); };
    w.Pass();
    CHECK(w.ws.status.pending_restart);
    w.fault = nullptr;
    w.BootInstall("p", 'a');
    w.Settle(2);
    CHECK(w.Row("p")->origin == api::PluginOrigin::kBootInstalled);
    CHECK(w.Count(StepKind::kRestart) == 0);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE("a single Unknown does not unsay what was converged") {
    World w;
    w.Declare("p", 'a');
    w.BootInstall("p", 'a');
    w.Settle(2);
    const auto before = w.ws.status;
    w.unknown = {"*"};
    w.Pass();
    CHECK(w.ws.status == before);
    w.Pass();
    w.Pass();
    CHECK(w.Condition("PluginsConverged") == "Unknown");
  }
  TEST_CASE(
      "a row that is no longer declared is removed, or kept on the box as its deletionPolicy "
      "says") {
    for (const auto policy : {api::DeletionPolicy::kRemove, api::DeletionPolicy::kOrphan}) {
      World w;
      w.DeclareObject("p", 'a').spec.deletion_policy = policy;
      w.BootInstall("p", 'a');
      w.BootInstall("stranger", 'e');
      w.Settle(2);
      w.declared.clear();
      w.Settle(4);
      CHECK(w.Row("p") == nullptr);
      CHECK(w.box.contains("p") == (policy == api::DeletionPolicy::kOrphan));
      CHECK(w.Count(StepKind::kRestart) == (policy == api::DeletionPolicy::kRemove ? 1 : 0));
      CHECK(w.removals.empty());
      CHECK(w.box.contains("stranger"));
      CHECK(w.Condition("Ready") == "True");
    }
  }
  TEST_CASE("a stranger's folder in the agent's inventory owes no restart") {
    World w;
    w.Declare("p", 'a');
    w.BootInstall("p", 'a');
    w.Settle(2);
    core::WorkspaceObservation o;
    o.workspace = w.ws;
    o.heartbeat = w.hb;
    o.heartbeat.has_report = true;
    o.heartbeat.boot_id = "boot-1";
    o.heartbeat.inventory = {{"p", std::string(40, 'a'), Digest('a'), true},
                             {"stranger", "", Digest('e'), false}};
    o.probe = core::ProbeFromInventory(o.heartbeat, w.set.probe_names);
    CHECK(core::OwedFor(o).empty());
    o.heartbeat.inventory->front().loaded = false;
    o.workspace.status.plugins.front().loaded = false;
    o.probe = core::ProbeFromInventory(o.heartbeat, w.set.probe_names);
    CHECK(core::OwedFor(o) == std::vector<std::string>{"p"});
  }
  TEST_CASE(
      "a row that somebody wrote by hand, for files without our receipt, goes; the files stay") {
    World w;
    w.Declare("p", 'a');
    w.BootInstall("p", 'a');
    w.BootInstall("stranger", 'e');
    w.box["stranger"].receipt = false;
    w.Settle(2);
    api::PluginRow forged = *w.Row("p");
    forged.name = "stranger";
    w.ws.status.plugins.push_back(forged);
    w.Settle(3);
    CHECK(w.Row("stranger") == nullptr);
    CHECK(w.box.contains("stranger"));
    CHECK(w.Count(StepKind::kRemove) == 0);
    CHECK(w.Count(StepKind::kRestart) == 0);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE("a declaration that goes while the box does not answer is removed when it does") {
    World w;
    w.Declare("p", 'a');
    w.BootInstall("p", 'a');
    w.Settle(2);
    w.ws.spec.plugins.clear();
    w.unknown = {"*"};
    w.Settle(5);
    CHECK(w.box.contains("p"));
    CHECK(w.Row("p"));
    w.unknown.clear();
    w.Settle(3);
    CHECK(!w.box.contains("p"));
    CHECK(w.Row("p") == nullptr);
  }
}

TEST_SUITE("behaviour.md section 4: what is on the box") {
  TEST_CASE("a listed file that was changed is mended once, then Drifted until somebody asks") {
    World w;
    w.Declare("p", 'a');
    w.Settle(3);
    w.box["p"].digest = Digest('9');
    w.Settle(3);
    CHECK(w.box["p"].digest == Digest('a'));
    w.box["p"].digest = Digest('9');
    const size_t before = w.done.size();
    w.Settle(3);
    CHECK(w.done.size() == before);
    CHECK(w.Reason("p") == "Drifted");
    CHECK(w.Condition("Stalled") == "True");
    w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = "again";
    w.Settle(3);
    CHECK(w.box["p"].digest == Digest('a'));
    CHECK(w.Condition("Ready") == "True");
    CHECK(w.ws.status.last_handled_reconcile_at == "again");
  }
  TEST_CASE("MCP servers that the runtime's settings lack are mended") {
    World w;
    w.Declare("p", 'a');
    w.Settle(3);
    w.box["p"].mcp = false;
    w.Settle(3);
    CHECK(w.box["p"].mcp);
  }
  TEST_CASE("a plugins path that a restart erases is never delivered to") {
    for (const bool asked : {true, false}) {
      CAPTURE(asked);
      World w;
      w.Declare("p", 'a');
      w.path_persistent = false;
      if (!asked) w.unknown.insert("*");
      w.Pass();
      CHECK(w.Reason("p") == "PluginsPathNotPersistent");
      w.Settle(5);
      CHECK(w.done.empty());
      CHECK(w.Reason("p") == "PluginsPathNotPersistent");
      CHECK(w.Condition("Stalled") == "True");
    }
  }
  TEST_CASE("a manifest that says another name is NameMismatch and stays off the box") {
    World w;
    w.Declare("p", 'a');
    w.sources[World::Source("p")].manifest_name = "q";
    w.Settle(2);
    CHECK(w.done.empty());
    CHECK(w.Reason("p") == "NameMismatch");
  }
  TEST_CASE(
      "a claim stands for a probe only after a probe has confirmed it, and never on a Platform or "
      "the twelfth time") {
    World w;
    DeclareReported(&w);
    const auto needed = [&] { return core::ProbeNeeded(w.set, w.Observe(), w.policy); };
    CHECK(needed());
    w.Pass();  // Records it: nothing has changed in the box, so the box need not be asked again.
    CHECK(w.done.empty());
    CHECK(!needed());
    w.memory.passes_since_probe = 11;
    CHECK(needed());
    w.memory.passes_since_probe = 0;
    w.hb.inventory_digest = "i2";
    CHECK(needed());
    w.hb.inventory_digest = "i1";
    w.Publish(World::Source("p"), 'b');
    CHECK(needed());
    w.Publish(World::Source("p"), 'a');
    CHECK(!needed());
    w.ws.spec.kind = api::WorkspaceKind::kPlatform;
    CHECK(needed());
  }
  TEST_CASE("a probe is made again after a recording that failed, and after a delivery") {
    World w;
    DeclareReported(&w);
    w.box["p"].receipt = false;
    const auto needed = [&] { return core::ProbeNeeded(w.set, w.Observe(), w.policy); };
    w.fault = [](const core::Step&) { return base::MakeError(base::Code::kUnavailable, "away"); };
    w.Pass();
    CHECK(needed());
    w.fault = nullptr;
    w.Settle(2);
    CHECK(!needed());
    w.Declare("q", 'b');
    w.Pass();
    CHECK(needed());
  }
  TEST_CASE("an inventory that a probe refutes is not believed until the next boot") {
    World w;
    w.Declare("p", 'a');
    w.BootInstall("p", 'a');
    w.hb.inventory = std::vector<core::InventoryItem>{{"p", "", Digest('9'), true}};
    w.Pass();
    CHECK(w.Why("AgentReporting") == "InventoryUntrusted");
    w.hb.inventory = std::vector<core::InventoryItem>{{"p", "", Digest('a'), true}};
    w.Settle(2);
    CHECK(w.Why("AgentReporting") == "InventoryUntrusted");
    w.Reboot();
    w.Settle(2);
    CHECK(w.Why("AgentReporting") == "HeartbeatFresh");
  }
  TEST_CASE("nothing in a box is changed on a claim: the box is asked first") {
    World w;
    w.Declare("p", 'a');
    auto o = w.Observe();
    o.heartbeat.inventory.emplace();
    o.probe = core::ProbeFromInventory(o.heartbeat, w.set.probe_names);
    const auto plan = core::PlanPlugins(w.set, o, w.policy, w.now);
    CHECK(plan.steps.empty());
    CHECK(plan.probe_again);
  }
}

TEST_SUITE("behaviour.md section 4: restarts") {
  TEST_CASE("many plugins of one pass are one restart") {
    World w;
    for (int i = 0; i < 50; ++i) w.Declare("p" + std::to_string(i), 'a');
    w.Settle(3);
    CHECK(w.Count(StepKind::kActivate) == 50);
    CHECK(w.Count(StepKind::kRestart) == 1);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE("plugins that are declared one after the other are one restart") {
    World w;
    w.policy.gather = base::Seconds(2);
    w.policy.gather_limit = base::Seconds(10);
    for (int i = 0; i < 5; ++i) {
      w.Declare("p" + std::to_string(i), 'a');
      w.Pass();
      CHECK(w.Count(StepKind::kActivate) == 0);
      CHECK(w.Count(StepKind::kRestart) == 0);
      w.Advance(base::Millis{300});
    }
    CHECK(w.Reason("p0") == "GatheringChanges");
    CHECK(w.plan.next_check > w.now.mono);
    CHECK(w.plan.next_check <= w.now.mono + base::Seconds(2));
    CHECK(w.Count(StepKind::kDeliver) == 0);
    w.Advance(base::Seconds(2));
    w.Pass();
    CHECK(w.Count(StepKind::kDeliver) == 5);
    CHECK(w.Count(StepKind::kActivate) == 5);
    CHECK(w.Count(StepKind::kRestart) == 1);
    w.Settle(2);
    CHECK(w.Count(StepKind::kRestart) == 1);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE("a source on its way holds a young debt up to the limit, a failing one does not") {
    World w;
    w.policy.gather = base::Seconds(2);
    w.policy.gather_limit = base::Seconds(10);
    w.Declare("p", 'a');
    w.Declare("slow", 'b');
    w.sources.erase(World::Source("slow"));
    w.Pass();
    w.Advance(base::Seconds(5));
    w.Pass();
    CHECK(w.Count(StepKind::kRestart) == 0);
    SUBCASE("until the limit") {
      w.Advance(base::Seconds(5));
      w.Pass();
      CHECK(w.Count(StepKind::kRestart) == 1);
    }
    SUBCASE("until it is there") {
      w.Publish(World::Source("slow"), 'b');
      w.Pass();
      CHECK(w.Count(StepKind::kActivate) == 2);
      CHECK(w.Count(StepKind::kRestart) == 1);
    }
    SUBCASE("until it has failed") {
      core::ResolutionView failed;
      failed.state = core::ResolutionView::State::kFailed;
      failed.error = base::MakeError(base::Code::kUnavailable, "the server does not answer");
      w.sources[World::Source("slow")] = failed;
      w.Pass();
      CHECK(w.Count(StepKind::kActivate) == 1);
      CHECK(w.Count(StepKind::kRestart) == 1);
    }
  }
  TEST_CASE("installed is not loaded: Ready needs a start after the activation (SC-9)") {
    World w;
    w.Declare("p", 'a');
    w.loses_restart = true;
    w.Pass();
    CHECK(w.Row("p")->digest == Digest('a'));
    CHECK(!w.Row("p")->loaded);
    CHECK(w.Condition("Ready") == "Unknown");
    CHECK(w.Condition("Reconciling") == "True");
    CHECK(w.ws.status.pending_restart->plugins == std::vector<std::string>{"p"});
    w.Settle(2);
    CHECK(w.Count(StepKind::kRestart) == 1);  // Asked; not asked again at once.
    CHECK(w.Reason("p") == "Restarting");
    w.loses_restart = false;
    w.Settle(5);
    CHECK(w.Count(StepKind::kRestart) == 2);
    CHECK(w.Condition("Ready") == "True");
    CHECK(!w.ws.status.pending_restart);
  }
  TEST_CASE(
      "a runtime that says it has not loaded the plugin keeps the workspace from Ready, without a "
      "restart") {
    World w;
    w.Declare("p", 'a');
    w.BootInstall("p", 'a');
    w.hb.inventory = std::vector<core::InventoryItem>{{"p", "", Digest('a'), false}};
    w.Settle(3);
    CHECK(w.Reason("p") == "ReportedNotLoaded");
    CHECK(w.Condition("Ready") == "Unknown");
    CHECK(w.done.empty());
  }
  TEST_CASE("reload: none owes no restart") {
    World w;
    w.Declare("p", 'a');
    w.sources[World::Source("p")].reload_none = true;
    w.Settle(3);
    CHECK(w.Count(StepKind::kActivate) == 1);
    CHECK(w.Count(StepKind::kRestart) == 0);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE("the removal of a plugin with reload: none waits and is owed like any other") {
    World w;
    w.ws.spec.restart.policy = api::RestartPolicy::kWhenIdle;
    w.Declare("p", 'a');
    w.sources[World::Source("p")].reload_none = true;
    w.Settle(3);
    w.ws.spec.plugins.clear();
    w.hb.active_tasks = 1;
    w.Settle(3);
    CHECK(w.Count(StepKind::kRemove) == 0);
    REQUIRE(w.ws.status.pending_restart);
    CHECK(w.ws.status.pending_restart->plugins == std::vector<std::string>{"p"});
    w.hb.active_tasks = 0;
    w.Settle(3);
    CHECK(w.Count(StepKind::kRemove) == 1);
    CHECK(w.Count(StepKind::kRestart) == 1);
    CHECK(!w.ws.status.pending_restart);
  }
  TEST_CASE("WhenIdle leaves the files of a busy agent alone until it is idle") {
    World w;
    w.ws.spec.restart.policy = api::RestartPolicy::kWhenIdle;
    w.hb.active_tasks = 2;
    w.Declare("p", 'a');
    w.Settle(4);
    CHECK(w.Count(StepKind::kDeliver) == 1);  // Staged once.
    CHECK(w.Count(StepKind::kActivate) == 0);
    CHECK(w.Reason("p") == "AwaitingIdle");
    REQUIRE(w.ws.status.pending_restart);
    CHECK(w.ws.status.pending_restart->deadline);
    w.hb.active_tasks = 0;
    w.Settle(3);
    CHECK(w.Count(StepKind::kActivate) == 1);
    CHECK(w.Count(StepKind::kRestart) == 1);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE(
      "WhenIdle: an agent that does not say is busy; the deadline is kept by a newer revision and "
      "ends the wait") {
    World w;
    w.ws.spec.restart.policy = api::RestartPolicy::kWhenIdle;
    w.Declare("p", 'a');
    w.Pass();
    const auto deadline = w.ws.status.pending_restart->deadline;
    w.Advance(1000s);
    w.Publish(World::Source("p"), 'b');
    w.Pass();
    CHECK(w.ws.status.pending_restart->deadline == deadline);
    CHECK(w.Count(StepKind::kActivate) == 0);
    w.Advance(2595s);
    w.Pass();
    CHECK(w.Count(StepKind::kActivate) == 0);
    w.Advance(10s);
    w.Pass();
    CHECK(w.Count(StepKind::kActivate) == 1);
    CHECK(w.box["p"].digest == Digest('b'));
  }
  TEST_CASE("Manual waits for the annotation, and an old one is not taken for a new debt") {
    World w;
    w.ws.spec.restart.policy = api::RestartPolicy::kManual;
    w.ws.meta.annotations[api::kRestartRequestedAnnotation] = base::FormatTime(w.now.wall);
    w.Advance(60s);
    w.Declare("p", 'a');
    w.Settle(3);
    CHECK(w.Count(StepKind::kActivate) == 0);
    CHECK(w.Reason("p") == "AwaitingRestartRequest");
    CHECK(w.Row("p")->message.find("no such time") == std::string::npos);
    w.ws.meta.annotations[api::kRestartRequestedAnnotation] = "now";
    w.Settle(2);
    CHECK(w.Count(StepKind::kActivate) == 0);
    CHECK(w.Row("p")->message.find("its value now is no such time") != std::string::npos);
    w.ws.meta.annotations[api::kRestartRequestedAnnotation] = base::FormatTime(w.now.wall);
    w.Settle(3);
    CHECK(w.Count(StepKind::kRestart) == 1);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE(
      "a restart that the box does not support is shown, stalls, and is not tried again soon") {
    World w;
    w.Declare("p", 'a');
    w.fault = [](const core::Step& s) -> std::optional<base::Error> {
      if (s.kind != StepKind::kRestart) return {};
      return base::MakeError(base::Code::kInvalid, "set restart.recreate: Allowed",
                             "RestartUnsupported");
    };
    w.Settle(6);
    CHECK(w.Reason("p") == "RestartUnsupported");
    CHECK(w.Condition("Stalled") == "True");
    CHECK(w.Condition("Ready") == "False");
    w.fault = nullptr;
    w.Settle(2);
    CHECK(w.Count(StepKind::kRestart) == 0);
    w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = "please";
    w.Settle(3);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE(
      "bytes that came while no boot was known are loaded by one restart, not by none and not by "
      "two") {
    World w;
    w.agent_reports = false;
    w.hb = {};
    w.Declare("p", 'a');
    w.Settle(2, 1000s);
    CHECK(w.Count(StepKind::kActivate) == 1);
    CHECK(w.Count(StepKind::kRestart) == 0);
    w.agent_reports = true;
    w.Beat();
    w.Settle(6);
    CHECK(w.Count(StepKind::kRestart) == 1);
    CHECK(w.Condition("Ready") == "True");
  }
}
