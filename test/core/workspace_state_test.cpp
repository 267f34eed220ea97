#include "core/workspace_state.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "core/restart_debt.hpp"
#include "core/world.hpp"

using world::World;
using namespace std::chrono_literals;

namespace {
/// A workspace that is Online, as last written.
World Online() {
  World w;
  w.Settle(2);
  REQUIRE(w.ws.status.state == "Online");
  return w;
}
const meta::ConditionStatus kTrue = meta::ConditionStatus::kTrue;
const meta::ConditionStatus kFalse = meta::ConditionStatus::kFalse;
const meta::ConditionStatus kUnknown = meta::ConditionStatus::kUnknown;
}  // namespace

TEST_SUITE("behaviour.md section 3: the ordered table") {
  TEST_CASE("1: being deleted is Terminating, whatever else holds") {
    World w = Online();
    w.ws.meta.deletion_time = w.now.wall;
    w.ws.spec.suspend = true;
    w.Decide();
    CHECK(w.decision.state == "Terminating");
    CHECK(w.decision.ready == kFalse);
    CHECK(w.decision.message == "the workspace is being deleted");
    for (const char* name : {"a", "b", "c", "d"}) {
      api::PluginRow& row = w.ws.status.plugins.emplace_back();
      row.name = name;
      row.origin = api::PluginOrigin::kDelivered;
      row.deletion_policy = api::DeletionPolicy::kRemove;
    }
    w.ws.status.plugins.back().deletion_policy = api::DeletionPolicy::kOrphan;
    w.Decide();
    CHECK(w.decision.message ==
          "the workspace is being deleted: 3 plugins are removed from its box first (a, b, c), "
          "until " +
              base::FormatTime(w.now.wall + w.policy.deletion_deadline) + " at the latest");
  }
  TEST_CASE("2: suspend is Suspended, Ready Unknown, not Reconciling") {
    World w = Online();
    w.ws.spec.suspend = true;
    w.Decide();
    CHECK(w.decision.state == "Suspended");
    CHECK(w.decision.ready == kUnknown);
    CHECK(!w.decision.reconciling);
  }
  TEST_CASE("3: a reporting Platform whose gate fails is Failed, not Online") {
    World w;
    w.MakePlatform();
    w.Decide();
    CHECK(w.decision.state == "Failed");
    CHECK(w.decision.reason == "ManagementMissing");
    CHECK(w.decision.ready == kFalse);
    CHECK(w.decision.reconciling);
    CHECK(w.decision.gate_passed->status == kFalse);
  }
  TEST_CASE("3: an Agent workspace has no gate") {
    World w = Online();
    w.Decide();
    CHECK(!w.decision.gate_passed);
  }
  TEST_CASE(
      "4: no heartbeat yet is Provisioning until the deadline, then Failed; a heartbeat mends it") {
    World w;
    w.agent_reports = false;
    w.hb = {};
    w.Pass();
    CHECK(w.ws.status.state == "Provisioning");
    CHECK(w.Condition("Ready") == "Unknown");
    CHECK(w.Condition("Reconciling") == "True");
    w.Advance(899s);
    w.Pass();
    CHECK(w.ws.status.state == "Provisioning");
    CHECK(w.decision.next_check <= w.now.mono + base::Seconds(2));
    w.Advance(2s);
    w.Pass();
    CHECK(w.ws.status.state == "Failed");
    CHECK(w.Why("Ready") == "ProvisioningTimeout");
    CHECK(w.Condition("Ready") == "False");
    w.agent_reports = true;
    w.Beat();
    w.Pass();
    CHECK(w.ws.status.state == "Online");
  }
  TEST_CASE("a box that only another spec or other settings can bring is Failed at once") {
    World w;
    w.box_state = core::BoxState::kUnknown;
    w.agent_reports = false;
    w.hb = {};
    const auto refused = [&] {
      core::WorkspaceObservation o = w.Observe();
      o.box.reason = "BoxPathNotAllowed";
      o.box.cause = "it is not allowed";
      o.box.needs_mending = true;
      return core::DecideWorkspace(o, w.ws.status, w.policy, w.now);
    };
    const core::WorkspaceDecision d = refused();
    CHECK(d.state == "Failed");
    CHECK(d.ready == kFalse);
    CHECK(d.stalled);
    CHECK_FALSE(d.reconciling);
    CHECK(d.reason == "BoxPathNotAllowed");
    CHECK(d.message == "it is not allowed");
    // Mended after the deadline: its first box has all of its time.
    w.Advance(2000s);
    w.box_state = core::BoxState::kRunning;
    w.Decide();
    CHECK(w.decision.state == "Provisioning");
    CHECK(w.decision.reconciling);
    CHECK_FALSE(w.decision.stalled);
    // Who still reports is in a box that is not asked for any more.
    w.agent_reports = true;
    w.Beat();
    w.Decide();
    CHECK(w.decision.state == "Online");
    CHECK(refused().state == "Failed");
    w.ws.spec.suspend = true;
    CHECK(refused().state == "Suspended");
  }
  TEST_CASE("4: what had failed before a take-over stands through the grace after it") {
    World w;
    w.agent_reports = false;
    w.hb = {};
    w.Pass();
    w.Advance(901s);
    w.Pass();
    REQUIRE(w.Why("Ready") == "ProvisioningTimeout");
    const auto before = w.ws.status;
    w.Restarted();
    w.Pass();
    CHECK(w.ws.status.state == "Failed");
    CHECK(w.ws.status.conditions == before.conditions);
    w.Advance(181s);
    w.Pass();
    CHECK(w.ws.status.conditions == before.conditions);
    w.identity = "another-box";  // A new box has its own deadline, in the grace too.
    w.Restarted();
    w.Pass();
    CHECK(w.ws.status.state == "Provisioning");
  }
  TEST_CASE("4: a token that cannot be given is named as long as nobody has reported") {
    for (const auto type : {api::BoxType::kDirectory, api::BoxType::kExternal}) {
      World w;
      w.agent_reports = false;
      w.hb = {};
      w.ws.spec.box.type = type;
      core::WorkspaceObservation observation = w.Observe();
      observation.token_trouble = "secrets are exhausted";
      const auto decision = core::DecideWorkspace(observation, w.ws.status, w.policy, w.now);
      CHECK(decision.message.ends_with(": no token for its agent: secrets are exhausted"));
    }
  }
  TEST_CASE("4, 6: that nobody is heard is told from that nobody reports, and forgotten with it") {
    World w;
    std::string why = "no right";
    const auto message = [&](const char* type) {
      core::WorkspaceObservation o = w.Observe();
      o.box.reports_refused = why;
      const auto conditions = core::DecideWorkspace(o, w.ws.status, w.policy, w.now).Conditions(1);
      return meta::FindCondition(conditions, type)->message;
    };
    const std::string said = "; what it reports is refused: no right";
    w.agent_reports = false;
    w.hb = {};
    CHECK(message("Ready").ends_with(said));
    CHECK(message("AgentReporting") == "the agent of this box has not reported yet" + said);
    w.agent_reports = true;
    w.Reboot();
    w.Pass();
    CHECK(message("Ready") == "the agent reports");
    CHECK(message("AgentReporting") == "");
    w.agent_reports = false;
    w.Advance(181s);
    CHECK(message("Ready").ends_with(said));
    CHECK(message("AgentReporting").ends_with(said));
    // The same after a start, whatever was written before it.
    for (const bool written : {false, true})
      for (const bool refused : {false, true}) {
        CAPTURE(written);
        CAPTURE(refused);
        World after = w;
        after.Pass();
        if (written)
          for (meta::Condition& c : after.ws.status.conditions)
            if (c.type == "AgentReporting") c.message += "; what it reports is refused: earlier";
        after.Restarted();
        after.hb = {};
        after.Advance(181s);
        core::WorkspaceObservation o = after.Observe();
        o.box.reports_refused = refused ? why : "";
        const auto conditions =
            core::DecideWorkspace(o, after.ws.status, after.policy, after.now).Conditions(1);
        const std::string told = meta::FindCondition(conditions, "AgentReporting")->message;
        CHECK(told.starts_with("no heartbeat since "));
        CHECK(told.ends_with(said) == refused);
        CHECK(told.find("earlier") == std::string::npos);
      }
  }
  TEST_CASE("4: an External workspace without a heartbeat awaits its agent, without a deadline") {
    World w;
    w.ws.spec.box.type = api::BoxType::kExternal;
    w.box_state = core::BoxState::kUnknown;
    w.agent_reports = false;
    w.hb = {};
    w.Pass();
    CHECK(w.ws.status.state == "AwaitingAgent");
    CHECK(w.Condition("Reconciling") == "True");
    w.Advance(24h);
    w.Pass();
    CHECK(w.ws.status.state == "AwaitingAgent");
  }
  TEST_CASE("4: a new box begins anew, with a new deadline") {
    World w = Online();
    w.agent_reports = false;
    w.Advance(2000s);
    w.identity = "box-2";
    w.Pass();
    CHECK(w.ws.status.state == "Provisioning");
    CHECK(!w.ws.status.agent);
    w.Advance(890s);
    w.Pass();
    CHECK(w.ws.status.state == "Provisioning");
    w.Advance(20s);
    w.Pass();
    CHECK(w.ws.status.state == "Failed");
  }
  TEST_CASE("4: a new container begins anew, but it stays known that the agent of its Pod worked") {
    World w = Online();
    w.identity = "pod:u1/c1";
    w.Reboot();
    w.Pass();
    REQUIRE(w.ws.status.agent);
    CHECK(w.ws.status.agent->boot_id == w.BootId());
    w.hb.agent_version = "1.2";
    w.Reboot();
    w.Pass();
    w.agent_reports = false;
    w.identity = "pod:u1/";
    w.Pass();
    w.identity = "pod:u1/c2";
    w.Pass();
    CHECK(w.ws.status.state == "Provisioning");
    REQUIRE(w.ws.status.agent);
    CHECK(w.ws.status.agent->boot_id.empty());
    CHECK(w.ws.status.agent->version == "1.2");
    CHECK_FALSE(core::HasReported(w.Observe()));
    const auto written = w.ws.status;
    w.Advance(60s);
    w.Pass();
    CHECK(w.ws.status == written);
    SUBCASE("until it reports") {
      w.agent_reports = true;
      w.Reboot();
      w.Pass();
      REQUIRE(w.ws.status.agent);
      CHECK(w.ws.status.agent->boot_id == w.BootId());
      CHECK(w.ws.status.state == "Online");
    }
    SUBCASE("or its Pod is another one") {
      w.identity = "pod:u2/c1";
      w.Pass();
      CHECK_FALSE(w.ws.status.agent);
    }
  }
  TEST_CASE("5: a box that stops after it had reported is Offline at once") {
    World w = Online();
    w.box_state = core::BoxState::kStopped;
    w.Pass();
    CHECK(w.ws.status.state == "Offline");
    CHECK(w.Why("Ready") == "BoxStopped");
    CHECK(w.Condition("Ready") == "Unknown");
    CHECK(w.Condition("BoxRunning") == "False");
  }
  TEST_CASE("6: silence on a running box is Offline after one timeout, not before") {
    World w = Online();
    w.agent_reports = false;
    w.Advance(150s);
    w.Decide();
    CHECK(w.decision.state == "Online");
    w.Advance(31s);
    w.Decide();
    CHECK(w.decision.state == "Offline");
    CHECK(w.decision.reason == "HeartbeatStale");
    CHECK(w.decision.ready == kUnknown);
  }
  TEST_CASE("6: silence of a box that cannot be asked keeps the state for three timeouts") {
    World w = Online();
    w.agent_reports = false;
    w.box_state = core::BoxState::kUnknown;
    w.Advance(200s);
    w.Pass();
    CHECK(w.ws.status.state == "Online");
    CHECK(w.Condition("Ready") == "Unknown");
    w.Advance(320s);
    w.Pass();
    CHECK(w.ws.status.state == "Online");
    w.Advance(30s);
    w.Pass();
    CHECK(w.ws.status.state == "Offline");
    CHECK(w.decision.message.find("no route") != std::string::npos);
  }
  TEST_CASE("a box of which nobody would tell us that it is away is looked at again in time") {
    World w = Online();
    core::WorkspaceObservation o = w.Observe();
    const auto next = [&] {
      return core::DecideWorkspace(o, w.ws.status, w.policy, w.now).next_check - w.now.mono;
    };
    CHECK(next() > base::Millis{60s});
    o.box.look_again = base::Millis{60s};
    CHECK(next() == base::Millis{60s});
  }
  TEST_CASE("6: a silent External workspace awaits its agent") {
    World w;
    w.ws.spec.box.type = api::BoxType::kExternal;
    w.box_state = core::BoxState::kUnknown;
    w.Settle(2);
    CHECK(w.ws.status.state == "Online");
    w.agent_reports = false;
    w.Advance(200s);
    w.Pass();
    CHECK(w.ws.status.state == "AwaitingAgent");
  }
  TEST_CASE("7: an error rate over the threshold is Degraded until it is below the lower one") {
    World w = Online();
    const std::pair<double, const char*> steps[] = {
        {0.49, "Online"},  {0.5, "Degraded"}, {0.31, "Degraded"},
        {0.3, "Degraded"}, {0.29, "Online"},  {0.45, "Online"},
        {1.0, "Degraded"}, {0.0, "Online"},   {NAN, "Online"}};
    for (const auto& [rate, state] : steps) {
      w.hb.error_rate = rate;
      w.Pass();
      CAPTURE(rate);
      CHECK(w.ws.status.state == state);
      CHECK(w.Condition("Ready") == (std::string(state) == "Online" ? "True" : "False"));
    }
  }
  TEST_CASE("8: a fresh heartbeat is Online, Ready True when the plugins have converged") {
    World w = Online();
    w.Decide();
    CHECK(w.decision.ready == kTrue);
  }
}

TEST_SUITE("behaviour.md section 3: taking over") {
  TEST_CASE(
      "the last written state stands for one timeout after a start; silence counts from there") {
    World w = Online();
    const auto before = w.ws.status;
    w.agent_reports = false;
    w.Restarted();
    w.Advance(179s);
    w.Pass();
    CHECK(w.ws.status.state == "Online");
    CHECK(w.ws.status.conditions.size() == before.conditions.size());
    CHECK(w.Condition("Ready") == "True");
    w.Advance(2s);
    w.Pass();
    CHECK(w.ws.status.state == "Offline");
  }
  TEST_CASE("a Degraded, Failed or Offline workspace keeps its Ready through a take-over, too") {
    World w = Online();
    w.hb.error_rate = 0.9;
    w.Pass();
    w.agent_reports = false;
    w.Restarted();
    w.Pass();
    CHECK(w.ws.status.state == "Degraded");
    CHECK(w.Condition("Ready") == "False");
  }
  TEST_CASE("a start writes nothing: not for who reports, not for who has been silent for long") {
    struct Row {
      const char* state;
      bool silent;
      double error_rate;
      bool suspend;
    };
    const Row rows[] = {{"Online", false, 0, false},
                        {"Degraded", false, 0.9, false},
                        {"Offline", true, 0, false},
                        {"Suspended", true, 0, true}};
    for (const Row& row : rows) {
      CAPTURE(row.state);
      World w = Online();
      w.hb.error_rate = row.error_rate;
      w.ws.spec.suspend = row.suspend;
      w.Pass();
      if (row.silent) {
        w.agent_reports = false;
        w.Advance(181s);
        w.Pass();
      }
      REQUIRE(w.ws.status.state == row.state);
      const auto before = w.ws.status;
      w.agent_reports = false;
      w.Restarted();
      w.Pass();
      CHECK(w.ws.status.conditions == before.conditions);
      w.Advance(row.silent ? 181s : 60s);  // Those who reported before are given the timeout.
      w.Pass();
      CHECK(w.ws.status.conditions == before.conditions);
      CHECK(w.ws.status.state == row.state);
    }
  }
  TEST_CASE("a box that is stopped is Offline even right after a take-over") {
    World w = Online();
    w.agent_reports = false;
    w.Restarted();
    w.box_state = core::BoxState::kStopped;
    w.Pass();
    CHECK(w.ws.status.state == "Offline");
  }
  TEST_CASE(
      "a provisioning deadline that passed while nobody looked waits one timeout for the agent") {
    World w;
    w.agent_reports = false;
    w.hb = {};
    w.Pass();
    w.Advance(2000s);
    w.Restarted();
    w.Pass();
    CHECK(w.ws.status.state == "Provisioning");
    w.Advance(181s);
    w.Pass();
    CHECK(w.ws.status.state == "Failed");
  }
  TEST_CASE("a wall clock that jumps does not make a provisioning wait endless") {
    World w;
    w.agent_reports = false;
    w.hb = {};
    w.Pass();
    w.now.wall -= 24h * 3650;
    w.Pass();
    w.Advance(901s);
    w.Pass();
    CHECK(w.ws.status.state == "Failed");
  }
  TEST_CASE("a heartbeat of another box is not taken for this one's") {
    World w = Online();
    w.identity = "box-2";
    w.agent_reports = false;
    w.Pass();
    CHECK(w.ws.status.state == "Provisioning");
  }
}

TEST_CASE("boxes that come and go without ever reporting share one deadline") {
  World w;
  w.hb = {};
  w.agent_reports = false;
  for (int i = 2; i < 12; ++i) {
    w.Pass();
    w.identity = "box-" + std::to_string(i);
    w.Advance(100s);
  }
  w.Pass();
  CHECK(w.ws.status.state == "Failed");
  CHECK(w.Condition("Ready") == "False");
}

TEST_CASE("the boot of the box before is known as such, for as long as the next one is there") {
  World w;
  w.Pass();
  const auto former = [&] { return core::FormerBootId(w.Observe()); };
  CHECK(former() == "");
  w.identity = "box-2";
  CHECK(former() == "boot-1");
  const auto as_new_process = [&](auto check) {
    const core::WorkspaceMemory memory = w.memory;
    w.memory = {};
    check();
    w.memory = memory;
  };
  as_new_process([&] { CHECK(former() == "boot-1"); });
  w.hb = {};
  w.agent_reports = false;
  w.Pass();
  CHECK(former() == "boot-1");
  w.Pass();
  w.identity = "box-3";
  w.Pass();
  CHECK(former() == "boot-1");
  w.identity = "box-2";  // What was only away for a moment is no successor of itself.
  CHECK(former() == "");
  w.identity = "box-3/container";  // Known better, the same.
  CHECK(former() == "boot-1");
}

TEST_CASE(
    "the last word of the box before does not count for this one, whatever comes after does") {
  World w;
  w.Pass();
  const auto last_word = [&] { return core::IsLastWordOfFormerBox(w.Observe()); };
  CHECK_FALSE(last_word());
  w.agent_reports = false;
  w.Advance(1s);
  w.identity = "box-2";
  w.hb.box_identity = "";  // Its agent does not say which box it is in.
  CHECK(last_word());
  w.Pass();
  CHECK(last_word());
  w.Advance(1s);
  w.hb.received = w.now.mono;  // Heard of before its box was seen, it was this one's all the time.
  CHECK_FALSE(last_word());
  World anew;
  anew.Pass();
  anew.identity = "box-2";
  anew.Reboot();
  CHECK_FALSE(core::IsLastWordOfFormerBox(anew.Observe()));
}

TEST_CASE(
    "a box that is outdated stays Online and Ready, which says so, and is told once a change") {
  World w = Online();
  core::WorkspaceObservation o = w.Observe();
  o.box.reason = "PodOutdated";
  o.box.cause = "image is a:1, not a:2";
  const auto decide = [&] {
    return core::DecideWorkspace(o, w.ws.status, w.policy, w.now).Conditions(1);
  };
  const auto now = decide();
  const auto* ready = meta::FindCondition(now, "Ready");
  CHECK(ready->status == kTrue);
  CHECK(ready->message == "the agent reports; image is a:1, not a:2");
  REQUIRE(core::NewBoxTrouble(w.ws.status.conditions, now));
  CHECK(core::NewBoxTrouble({}, now)->message == "image is a:1, not a:2");
  CHECK_FALSE(core::NewBoxTrouble(now, now));
  o.box.cause = "image is a:1, not a:3";
  CHECK(core::NewBoxTrouble(now, decide()));
  CHECK_FALSE(core::NewBoxTrouble(now, w.ws.status.conditions));
  // Whatever else is to be told of one that runs; its readiness goes up and down.
  o.box.reason = "PodTemplateMissing";
  CHECK(core::NewBoxTrouble(now, decide())->reason == "PodTemplateMissing");
  CHECK(meta::FindCondition(decide(), "Ready")->message.ends_with("not a:3"));
  o.box.reason = "ContainerNotReady";
  CHECK_FALSE(core::NewBoxTrouble(now, decide()));
  CHECK(meta::FindCondition(decide(), "Ready")->message == "the agent reports");
}

TEST_CASE("why a box does not run is told once for each reason") {
  const auto box = [](meta::ConditionStatus status, const char* reason, const char* message = "") {
    return std::vector<meta::Condition>{{"BoxRunning", status, 0, {}, reason, message}};
  };
  const auto pulls = box(kFalse, "ImagePullBackOff", "image a");
  CHECK(core::NewBoxTrouble({}, pulls)->message == "image a");
  CHECK(core::NewBoxTrouble(box(kUnknown, "ContainerCreating"), pulls));
  CHECK_FALSE(core::NewBoxTrouble(box(kFalse, "ImagePullBackOff", "image b"), pulls));
  CHECK(core::NewBoxTrouble(pulls, box(kFalse, "CrashLoopBackOff")));
  CHECK_FALSE(core::NewBoxTrouble(pulls, box(kUnknown, "ContainerCreating")));
  CHECK_FALSE(core::NewBoxTrouble(pulls, box(kTrue, "BoxRunning")));
  CHECK_FALSE(core::NewBoxTrouble({}, box(kFalse, "BoxStopped")));
  CHECK_FALSE(core::NewBoxTrouble({}, box(kFalse, "PodMissing")));
}

TEST_CASE("a box is made anew for its spec when a restart would be allowed") {
  World w = Online();
  const base::WallTime since = std::chrono::floor<base::Seconds>(w.now.wall);
  const auto granted = [&] { return core::PermitRecreate(w.Observe(), since, w.now).granted; };
  w.ws.spec.restart.policy = api::RestartPolicy::kImmediate;
  CHECK(granted());
  w.ws.spec.restart.policy = api::RestartPolicy::kManual;
  CHECK_FALSE(granted());
  auto& asked = w.ws.meta.annotations[api::kRestartRequestedAnnotation];
  asked = base::FormatTime(since - base::Seconds{1});  // For something else, before.
  CHECK_FALSE(granted());
  asked = base::FormatTime(since);
  CHECK(granted());
  w.ws.meta.annotations.clear();
  w.ws.spec.restart.policy = api::RestartPolicy::kWhenIdle;
  core::WorkspaceObservation o = w.Observe();
  o.heartbeat.active_tasks = 2;
  CHECK_FALSE(core::PermitRecreate(o, since, w.now).granted);
  o.heartbeat.active_tasks.reset();
  CHECK_FALSE(core::PermitRecreate(o, since, w.now).granted);
  CHECK(core::PermitRecreate(o, since - base::Seconds{o.workspace.spec.restart.deadline_seconds},
                             w.now)
            .granted);
  o.heartbeat.active_tasks = 0;
  CHECK(core::PermitRecreate(o, since, w.now).granted);
}

TEST_CASE("every decision looks again later than now") {
  World w;
  for (int i = 0; i < 50; ++i) {
    w.Pass();
    CHECK(w.decision.next_check > w.now.mono);
    CHECK(w.plan.next_check > w.now.mono);
    w.agent_reports = i % 7 < 4;
    w.box_state = static_cast<core::BoxState>(i % 3);
    w.Advance(base::Seconds(i * 13 % 200));
  }
}
