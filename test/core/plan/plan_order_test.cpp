#include <doctest/doctest.h>

#include "core/plan/plugin_plan.hpp"
#include "core/world.hpp"

using core::StepKind;
using world::Digest;
using world::World;
using namespace std::chrono_literals;

TEST_SUITE("behaviour.md section 4: who goes first") {
  TEST_CASE("boot-install that runs postpones delivery, but not for ever") {
    World w;
    w.hb.boot_install = api::BootInstallStatus{"Running", ""};
    w.Declare("p", 'a');
    w.Settle(4);
    CHECK(w.done.empty());
    CHECK(w.Reason("p") == "BootInstallRunning");
    SUBCASE("done: what it installed is recorded") {
      w.BootInstall("p", 'a');
      w.hb.boot_install = api::BootInstallStatus{"Done", ""};
      w.Settle(2);
      CHECK(w.done.empty());
      CHECK(w.Condition("Ready") == "True");
    }
    SUBCASE("failed: the operator delivers what is missing") {
      w.hb.boot_install = api::BootInstallStatus{"Failed", "no route"};
      w.Settle(3);
      CHECK(w.Count(StepKind::kActivate) == 1);
      CHECK(w.ws.status.agent->boot_install->error == "no route");
    }
    SUBCASE("stuck: the provisioning deadline ends the wait") {
      w.Advance(900s);
      w.Settle(2);
      CHECK(w.Count(StepKind::kActivate) == 1);
    }
  }
  TEST_CASE("a box that has not reported is left alone until the provisioning deadline") {
    World w;
    w.agent_reports = false;
    w.hb = {};
    w.Declare("p", 'a');
    w.Settle(5);
    CHECK(w.done.empty());
    CHECK(w.Reason("p") == "AwaitingBootReport");
    w.Advance(900s);
    w.Pass();
    CHECK(w.Count(StepKind::kActivate) == 1);
  }
  TEST_CASE("a stopped box is left alone") {
    World w;
    w.Declare("p", 'a');
    w.box_state = core::BoxState::kStopped;
    w.Settle(5);
    CHECK(w.done.empty());
  }
  TEST_CASE(
      "an External box whose runtime never reports what it has loaded is restarted once for the "
      "same bytes") {
    World w;
    w.ws.spec.box.type = api::BoxType::kExternal;
    w.Declare("p", 'a');
    w.Beat();
    const auto has = [&](char digest) {
      w.hb.inventory = {{"p", std::string(40, digest), Digest(digest), false}};
    };
    has('a');
    w.Settle(4);
    CHECK(w.boot == 2);  // One restart, and not one with each heartbeat.
    CHECK(w.Row("p")->loaded);
    CHECK(w.Reason("p") == "ReportedNotLoaded");  // As for boxes that are probed.
    CHECK(w.Condition("Ready") == "Unknown");
    w.Restarted();
    w.Settle(2);
    CHECK(w.boot == 2);
    // Other bytes owe another one.
    w.Publish(World::Source("p"), 'b');
    has('b');
    w.Settle(4);
    CHECK(w.boot == 3);
    CHECK(w.Row("p")->digest == Digest('b'));
    w.hb.inventory->front().loaded = true;
    w.Settle(2);
    CHECK(w.boot == 3);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE(
      "an External box whose runtime is slow to report what boot-install brought is not restarted "
      "(SC-1)") {
    World w;
    w.ws.spec.box.type = api::BoxType::kExternal;
    w.box_state = core::BoxState::kUnknown;
    w.Declare("p", 'a');
    const auto has = [&](bool loaded, bool newer) {
      w.hb.inventory = {{"p", std::string(40, 'a'), Digest('a'), loaded, newer}};
    };
    SUBCASE("the operator has seen the bytes come") {
      w.hb.boot_install = api::BootInstallStatus{"Running", ""};
      has(false, true);
      w.Pass();
    }
    SUBCASE("it has not") {}
    w.Reboot();  // Of itself: the runtime starts.
    const int started = w.boot;
    w.hb.boot_install = api::BootInstallStatus{"Done", ""};
    has(false, false);
    w.Settle(3, 2s);
    CHECK(w.boot == started);
    CHECK(w.Row("p")->loaded);
    CHECK(w.Reason("p") == "ReportedNotLoaded");
    CHECK_FALSE(w.ws.status.pending_restart.has_value());
    has(true, false);
    w.Settle(2, 2s);
    CHECK(w.boot == started);
    CHECK(w.Condition("Ready") == "True");
    // The same bytes once more (they were lost, and nobody has seen it) owe one; one only, if the
    // agent goes on saying so.
    has(false, true);
    w.Settle(3, 2s);
    CHECK(w.boot == started + 1);
    w.Settle(3, 2s);
    CHECK(w.boot == started + 1);
    has(true, false);
    w.Settle(2, 2s);
    CHECK(w.Condition("Ready") == "True");
    // Other bytes that came after that start owe one.
    has(false, true);
    w.hb.inventory->front().digest = Digest('b');
    w.Publish(World::Source("p"), 'b');
    w.Settle(3, 2s);
    CHECK(w.boot == started + 2);
  }
  TEST_CASE(
      "an External box pulls: nothing is delivered, the row and the pull list say so (SC-6)") {
    World w;
    w.ws.spec.box.type = api::BoxType::kExternal;
    w.box_state = core::BoxState::kUnknown;
    w.hb.inventory.emplace();
    w.Declare("p", 'a');
    w.Pass();
    CHECK(w.plan.steps.empty());
    REQUIRE(w.plan.rows.size() == 1);
    REQUIRE(w.plan.rows[0].wanted);
    CHECK(w.plan.rows[0].wanted->digest == Digest('a'));
    CHECK(w.Reason("p") == "AwaitingPull");
    w.hb.inventory =
        std::vector<core::InventoryItem>{{"p", std::string(40, 'a'), Digest('a'), false}};
    w.Pass();
    CHECK(w.Planned(StepKind::kRestart) == 1);  // Asked for in the heartbeat's answer.
    w.hb.inventory =
        std::vector<core::InventoryItem>{{"p", std::string(40, 'a'), Digest('a'), true}};
    w.Settle(2);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE("dependencies go first, and a failed one holds back what needs it, nothing else") {
    World w;
    w.DeclareObject("z-base", 'a');
    w.DeclareObject("b-top", 'b').spec.depends_on = {"z-base"};
    w.DeclareObject("other", 'c');
    w.fault = [](const core::Step& s) -> std::optional<base::Error> {
      if (s.kind == StepKind::kDeliver && s.plugin == "z-base")
        return base::MakeError(base::Code::kTimeout, "slow");
      return {};
    };
    w.Pass();
    CHECK(w.box.contains("other"));
    CHECK(!w.box.contains("b-top"));
    CHECK(w.Row("z-base")->attempts == 1);
    CHECK(w.Row("z-base")->next_attempt_time);
    w.Pass();
    CHECK(!w.box.contains("b-top"));
    w.fault = nullptr;
    w.Settle(5);
    CHECK(w.box.contains("b-top"));
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE(
      "what has failed joins when something else goes to the box: one restart; what only a person "
      "can mend does not") {
    for (const bool passes : {true, false}) {
      World w;
      w.Declare("a", 'a');
      bool away = true;
      int tries = 0;
      w.fault = [&](const core::Step& s) -> std::optional<base::Error> {
        tries += s.kind == StepKind::kDeliver && s.plugin == "a";
        if (!away || s.kind != StepKind::kDeliver) return {};
        return base::MakeError(passes ? base::Code::kUnavailable : base::Code::kForbidden, "no");
      };
      for (int i = 0; i < 8; ++i) {  // Its back-off has grown to minutes.
        w.Pass();
        if (passes) w.Advance(base::Seconds(600));
      }
      w.Pass();
      away = false;
      tries = 0;
      w.Pass();
      CHECK(tries == 0);
      w.Declare("b", 'b');
      w.Pass();
      CHECK(tries == (passes ? 1 : 0));
      CHECK(w.box.contains("b"));
      CHECK(w.box.contains("a") == passes);
      w.Settle(3, base::Seconds(2));
      CHECK(w.Count(StepKind::kRestart) == 1);
    }
  }
  TEST_CASE("one bad source never blocks the others, and what it had installed stays") {
    World w;
    w.Declare("bad", 'a');
    w.Declare("good", 'b');
    auto& r = w.sources[World::Source("bad")];
    r = {};
    r.state = core::ResolutionView::State::kFailed;
    SUBCASE("an error that may pass") {
      r.error = base::MakeError(base::Code::kUnavailable, "host git.example is down",
                                "SourceUnavailable");
      w.Settle(3);
      CHECK(w.Condition("Stalled") == "False");
      CHECK(w.Condition("Reconciling") == "True");
    }
    SUBCASE("one that does not") {
      r.error = base::MakeError(base::Code::kInvalid, "no tag v1", "RefNotFound");
      w.Settle(3);
      CHECK(w.Condition("Stalled") == "True");
      CHECK(w.Condition("Reconciling") == "False");
    }
    CHECK(w.box.contains("good"));
    CHECK(w.Row("good")->loaded);
    CHECK(w.Reason("bad") == r.error->reason);
    CHECK(w.Condition("Ready") == "False");
    CHECK(meta::FindCondition(w.ws.status.conditions, "Ready")->message.find(r.error->message) !=
          std::string::npos);
  }
  TEST_CASE("a commit whose bytes are not there yet is fetched first") {
    World w;
    w.Declare("p", 'a');
    auto& r = w.sources[World::Source("p")];
    r.state = core::ResolutionView::State::kResolved;
    r.digest.clear();
    w.Pass();
    REQUIRE(w.plan.steps.size() == 1);
    CHECK(w.plan.steps[0].kind == StepKind::kFetch);
    w.Settle(3);
    CHECK(w.Condition("Ready") == "True");
  }
  TEST_CASE(
      "failures back off, are counted in the row, survive a new process, and a request resets them "
      "once") {
    World w;
    w.Declare("p", 'a');
    int tries = 0;
    w.fault = [&](const core::Step& s) -> std::optional<base::Error> {
      if (s.kind != StepKind::kDeliver) return {};
      ++tries;
      return base::MakeError(base::Code::kForbidden, "no", "BoxForbidden");
    };
    w.Pass();
    CHECK(tries == 1);
    CHECK(w.Row("p")->attempts == 1);
    CHECK(w.Condition("Stalled") == "True");
    w.Settle(5);
    CHECK(tries == 1);
    w.Restarted();
    w.Settle(5);
    CHECK(tries == 1);
    CHECK(w.Row("p")->attempts == 1);
    w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = "r1";
    w.Settle(5);
    CHECK(tries == 2);
    CHECK(w.ws.status.last_handled_reconcile_at == "r1");
    w.Advance(3600s);
    w.Settle(2);
    CHECK(tries == 3);
    CHECK(w.Row("p")->attempts == 2);
  }
  TEST_CASE("suspended and deleted workspaces get no steps and keep their rows") {
    for (const bool deleted : {false, true}) {
      World w;
      w.Declare("p", 'a');
      w.Settle(3);
      w.box.clear();
      const size_t before = w.done.size();
      if (deleted)
        w.ws.meta.deletion_time = w.now.wall;
      else
        w.ws.spec.suspend = true;
      w.Settle(3);
      CHECK(w.done.size() == before);
      CHECK(w.Row("p"));
      CHECK(w.ws.status.state == (deleted ? "Terminating" : "Suspended"));
    }
  }
  TEST_CASE("a suspended declaration leaves what is there") {
    World w;
    w.DeclareObject("p", 'a');
    w.Settle(3);
    w.declared[0].spec.suspend = true;
    w.Publish(World::Source("p"), 'b');
    w.Settle(3);
    CHECK(w.box["p"].digest == Digest('a'));
    CHECK(w.Condition("Ready") == "True");
  }
}

TEST_CASE("cleaning up ends by success, by its deadline, or at once when it cannot succeed") {
  World w;
  w.Declare("p", 'a');
  w.Settle(3);
  w.ws.meta.deletion_time = w.now.wall;
  const auto plan = [&](core::CleanupFacts facts) {
    return core::PlanCleanup(w.ws, facts, w.policy, w.now);
  };
  CHECK(plan({}).remove == std::vector<std::string>{"p"});
  CHECK(!plan({}).release);
  CHECK(plan({.removed = true}).release);
  CHECK(plan({.removed = true}).warning.empty());
  CHECK(!plan({.box_gone = true}).release);  // It may be about to come back, with its volume.
  const base::MonoTime tried = w.now.mono;
  w.Advance(31s);
  CHECK(!plan({.first_tried = tried}).release);
  CHECK(plan({.namespace_terminating = true, .first_tried = tried}).release);
  CHECK(plan({.box_gone = true, .first_tried = tried}).release);
  CHECK(plan({.box_gone = true, .first_tried = tried}).warning.find("does not exist") !=
        std::string::npos);
  w.Advance(600s);
  CHECK(plan({.first_tried = tried}).release);
  CHECK(!plan({.first_tried = tried}).warning.empty());
  CHECK(!plan({}).release);  // Nobody was there meanwhile.
  CHECK(plan({}).remove == std::vector<std::string>{"p"});
  w.now.wall -= 24h * 3650;
  CHECK(!plan({.first_tried = w.now.mono}).release);
  CHECK(plan({.first_tried = w.now.mono - base::Seconds(601)}).release);
}

TEST_CASE("a cleanup that failed is tried again soon, then ever more rarely") {
  World w;
  w.Declare("p", 'a');
  w.Settle(3);
  w.ws.meta.deletion_time = w.now.wall;
  const base::MonoTime first = w.now.mono;
  base::Millis before{0};
  for (int tries = 0; tries < 5; ++tries) {
    const base::MonoTime next =
        core::PlanCleanup(w.ws, {.first_tried = first}, w.policy, w.now).next_check;
    const auto wait = std::chrono::floor<base::Millis>(next - w.now.mono);
    CHECK(wait >= before);
    CHECK(wait <= 20s);
    before = wait;
    w.Advance(wait);
  }
  CHECK(before >= 8s);
}
