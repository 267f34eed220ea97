#include <doctest/doctest.h>

#include "core/world.hpp"

namespace {

using core::RowAction;
using core::StepKind;
using world::Digest;

/// An External box: what its agent has done is what its inventory says.
struct PullBox : world::World {
  PullBox() {
    ws.spec.box.type = api::BoxType::kExternal;
    box_state = core::BoxState::kUnknown;
    hb.inventory.emplace();
  }
  void Hold(const std::string& name, char digest, bool loaded = true) {
    hb.inventory->push_back({name, std::string(40, digest), Digest(digest), loaded, !loaded});
  }
  void Lose() { hb.inventory->clear(); }
  const core::RowDecision* Decision() const {
    return plan.rows.empty() ? nullptr : &plan.rows.front();
  }
  /// A plugin that was pulled and loaded is no longer declared.
  void BeginRemoval() {
    Declare("p", 'a');
    Hold("p", 'a');
    Settle(3);
    REQUIRE(Condition("Ready") == "True");
    ws.spec.plugins.clear();
    ++ws.meta.generation;
    Pass();
  }
};

}  // namespace

TEST_SUITE("core/plan") {
  TEST_CASE_FIXTURE(PullBox,
                    "what is no longer declared is removed by an External box's own agent, once "
                    "the debt is written, and its runtime is restarted once") {
    BeginRemoval();
    REQUIRE(Decision() != nullptr);
    CHECK(Decision()->action == RowAction::kDefer);
    CHECK(Reason("p") == "Removing");
    REQUIRE(ws.status.pending_restart);
    CHECK(ws.status.pending_restart->plugins == std::vector<std::string>{"p"});
    CHECK(Planned(StepKind::kRestart) == 0);
    Pass();
    CHECK(Decision()->action == RowAction::kRemove);
    CHECK(Planned(StepKind::kRestart) == 0);
    CHECK(Condition("Ready") != "True");

    Lose();
    loses_restart = true;
    Beat();
    Beat();
    Pass();
    CHECK(Decision() == nullptr);
    CHECK(Planned(StepKind::kRestart) == 1);
    Pass();  // A new process knows of it, too.
    REQUIRE(ws.status.pending_restart);
    CHECK(ws.status.pending_restart->plugins == std::vector<std::string>{"p"});
    Reboot();
    Settle(2);
    CHECK_FALSE(ws.status.pending_restart);
    CHECK(Planned(StepKind::kRestart) == 0);
    CHECK(Condition("Ready") == "True");
  }

  TEST_CASE_FIXTURE(PullBox,
                    "what an External box does not have is forgotten when its agent has heard that "
                    "it is not declared, not while it may still install it") {
    Declare("p", 'a');
    Pass();
    REQUIRE(Reason("p") == "AwaitingPull");
    ws.spec.plugins.clear();
    ++ws.meta.generation;
    for (int reports = 0; reports < 2; ++reports) {
      Pass();
      REQUIRE(Decision() != nullptr);
      CHECK(Decision()->action == RowAction::kWait);
      CHECK(plan.next_check == now.mono + base::Seconds{2 * ws.spec.heartbeat.period_seconds});
      Beat();
    }
    SUBCASE("it was at it") {
      Hold("p", 'a');
      Settle(2);
      REQUIRE(Decision() != nullptr);
      CHECK(Decision()->action == RowAction::kRemove);
    }
    SUBCASE("it was not") {
      Pass();
      CHECK(Decision() == nullptr);
    }
  }

  TEST_CASE_FIXTURE(PullBox,
                    "what an External box has brought itself, with bytes that nobody knows, is not "
                    "asked away: its agent has no receipt of it") {
    ws.spec.restart.policy = api::RestartPolicy::kManual;  // Its own bytes may not come yet.
    Declare("p", 'a');
    SUBCASE("from the beginning") {}
    SUBCASE("somebody has replaced what was ours") {
      Hold("p", 'a');
      Settle(3);
      REQUIRE(Row("p")->revision == std::string(40, 'a'));
      Lose();
    }
    hb.inventory->push_back({"p", "", Digest('s'), true, false});
    Settle(2);
    REQUIRE(Row("p")->digest == Digest('s'));
    CHECK(Row("p")->revision.empty());
    ws.spec.plugins.clear();
    ++ws.meta.generation;
    Settle(2);
    CHECK(Row("p") == nullptr);
    CHECK_FALSE(ws.status.pending_restart);
    CHECK(Condition("Ready") == "True");
  }

  TEST_CASE_FIXTURE(PullBox, "an agent is not told to remove what its user has not consented to") {
    ws.spec.restart.policy = api::RestartPolicy::kManual;
    BeginRemoval();
    Pass();
    REQUIRE(Decision() != nullptr);
    CHECK(Decision()->action == RowAction::kDefer);
    CHECK(Reason("p") == "AwaitingRestartRequest");
    Advance(base::Seconds{10});
    ws.meta.annotations[api::kRestartRequestedAnnotation] = base::FormatTime(now.wall);
    Settle(2);
    CHECK(Decision()->action == RowAction::kRemove);
  }

  TEST_CASE("an agent is named the revision that the update policy holds, not the source's") {
    struct {
      api::UpdatePolicy policy;
      char wanted;
    } const rows[] = {
        {api::UpdatePolicy::kTrack, 'b'},
        {api::UpdatePolicy::kPin, 'a'},
        {api::UpdatePolicy::kManual, 'a'},
    };
    for (const auto& [policy, wanted] : rows)
      for (const bool lost : {false, true}) {
        CAPTURE(static_cast<int>(policy));
        CAPTURE(lost);
        PullBox w;
        w.DeclareObject("p", 'a').spec.update.policy = policy;
        w.Hold("p", 'a');
        w.Settle(3);
        w.Publish(world::World::Source("p"), 'b');
        if (lost) w.Lose();
        w.Settle(2);
        REQUIRE(w.Decision() != nullptr);
        REQUIRE(w.Decision()->wanted);
        CHECK(w.Decision()->wanted->digest == Digest(wanted));
        CHECK(w.Decision()->wanted->commit == std::string(40, wanted));
      }
  }

  TEST_CASE(
      "what an agent has installed by an earlier answer does not become what is held: it is told "
      "to go back, and comes to rest") {
    for (const auto policy : {api::UpdatePolicy::kPin, api::UpdatePolicy::kManual}) {
      CAPTURE(static_cast<int>(policy));
      PullBox w;
      w.DeclareObject("p", 'a').spec.update.policy = policy;
      w.Hold("p", 'a');
      w.Settle(3);
      w.Publish(world::World::Source("p"), 'b');
      w.Lose();
      w.Hold("p", 'b');
      for (int report = 0; report < 4; ++report) {  // It takes its time.
        w.Beat();
        w.Pass();
        REQUIRE(w.Decision()->wanted);
        CHECK(w.Decision()->wanted->digest == Digest('a'));
        CHECK(w.Row("p")->digest == Digest('b'));
        CHECK(w.Reason("p") == "AwaitingPull");
      }
      w.Lose();
      w.Hold("p", 'a');
      w.Settle(2);
      CHECK(w.Decision()->wanted->digest == Digest('a'));
      CHECK(w.Row("p")->digest == Digest('a'));
      CHECK(w.Row("p")->approved_digest.empty());
      CHECK(w.Reason("p") == "UpdateAvailable");
    }
  }

  TEST_CASE("what an External box holds on to and its source has lost is given up on request") {
    PullBox w;
    w.DeclareObject("p", 'a').spec.update.policy = api::UpdatePolicy::kPin;
    w.Hold("p", 'a');
    w.Settle(3);
    w.Publish(world::World::Source("p"), 'b');
    w.Lose();
    w.Hold("p", 'c');
    core::ResolutionView gone;
    gone.state = core::ResolutionView::State::kFetched;
    gone.digest = Digest('e');
    w.put_back["p"] = gone;
    w.Settle(2);
    CHECK(w.Reason("p") == "RevisionGone");
    CHECK(w.Condition("Stalled") == "True");
    w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = base::FormatTime(w.now.wall);
    w.Settle(2);
    CHECK(w.Decision()->wanted->digest == Digest('b'));
    w.Lose();
    w.Hold("p", 'b');
    w.Settle(2);
    CHECK(w.Reason("p") == "Loaded");
    CHECK(w.Condition("Ready") == "True");
  }

  TEST_CASE("what is put back on a box that was emptied is what was held, for boot-install too") {
    world::World w;
    w.DeclareObject("p", 'a').spec.update.policy = api::UpdatePolicy::kPin;
    w.Settle(3);
    w.Publish(world::World::Source("p"), 'b');
    w.Pass();
    REQUIRE(w.plan.rows.size() == 1);
    REQUIRE(w.plan.rows[0].wanted);
    CHECK(w.plan.rows[0].wanted->digest == Digest('a'));
    w.unknown.insert("*");
    w.Pass();
    REQUIRE(w.plan.rows[0].wanted);
    CHECK(w.plan.rows[0].wanted->digest == Digest('a'));
  }
}
