#include "core/recovery.hpp"

#include <doctest/doctest.h>

#include "core/world.hpp"

using core::StepKind;
using world::Digest;
using world::World;
using namespace std::chrono_literals;

namespace {
/// A Platform workspace whose runtime loads the management tools when it starts with the plugin on
/// the box.
struct Platform : World {
  bool tools_load = true;
  Platform() { MakePlatform(); }
  void Live() {
    const bool there = box.contains("mgmt") && box["mgmt"].boot != BootId();
    hb.management_present = there;
    hb.loaded_tools = there && tools_load ? std::vector<std::string>{"mcp__mgmt__list"}
                                          : std::vector<std::string>{};
  }
  void Run(int passes, base::Millis step = base::Seconds(10)) {
    for (int i = 0; i < passes; ++i) {
      Live();
      Pass();
      Advance(step);
    }
  }
};
}  // namespace

TEST_CASE(
    "a Platform without its management plugin stays Failed and is repaired in one attempt (SC-3)") {
  Platform w;
  w.Live();
  w.Pass();
  CHECK(w.ws.status.state == "Failed");
  CHECK(w.plan.recovery_attempt);
  CHECK(w.Count(StepKind::kActivate) == 1);
  CHECK(w.Count(StepKind::kRestart) == 1);
  REQUIRE(w.ws.status.recovery);
  CHECK(w.ws.status.recovery->attempts == 1);
  w.Run(2);
  CHECK(w.ws.status.state == "Online");
  CHECK(w.Condition("Ready") == "True");
  CHECK(w.ws.status.recovery->attempts == 0);
  CHECK(w.ws.status.recovery->last_attempt_time);
}

TEST_CASE("a plugin that vanishes again and again is put back once per cool-down, for ever") {
  Platform w;
  std::vector<base::MonoTime> acts;
  for (int i = 0; i < 200; ++i) {
    w.Live();
    const size_t before = w.done.size();
    w.Pass();
    const bool acted =
        std::find_if(w.done.begin() + static_cast<std::ptrdiff_t>(before), w.done.end(),
                     [](StepKind k) { return k != StepKind::kDeliver; }) != w.done.end();
    if (acted) acts.push_back(w.now.mono);
    w.box.clear();
    w.Advance(17s);
  }
  REQUIRE(acts.size() >= 10);
  for (size_t i = 1; i < acts.size(); ++i) CHECK(acts[i] - acts[i - 1] >= base::Seconds(300));
}

TEST_CASE("the cool-down holds across restarts of the operator and jumps of its clock (SC-4)") {
  Platform w;
  w.Live();
  w.Pass();
  REQUIRE(w.ws.status.recovery->attempts == 1);
  const auto first = w.now.mono;
  const auto until_next = [&](World& v) {
    for (int i = 0; i < 400; ++i) {
      v.box.clear();
      v.Advance(10s);
      v.Pass();
      if (v.plan.recovery_attempt) return v.now.mono;
    }
    FAIL("no further attempt");
    return v.now.mono;
  };
  SUBCASE("a restart half way") {
    w.Advance(150s);
    w.Restarted();
    const auto next = until_next(w);
    CHECK(next - first >= base::Seconds(300));
    CHECK(next - first <= base::Seconds(330));
  }
  SUBCASE("a restart every 20 s") {
    for (int i = 0; i < 14; ++i) {
      w.box.clear();
      w.Advance(20s);
      w.Restarted();
      w.Pass();
      CHECK(!w.plan.recovery_attempt);
    }
    CHECK(until_next(w) - first <= base::Seconds(330));
  }
  SUBCASE(
      "a wall clock that goes back ten years, then a restart: one more cool-down, not ten years") {
    w.now.wall -= 24h * 3650;
    w.Restarted();
    const auto next = until_next(w);
    CHECK(next - first >= base::Seconds(300));
    CHECK(next - first <= base::Seconds(330));
  }
  SUBCASE("a wall clock that leaps ten years within a process changes nothing") {
    w.now.wall += 24h * 3650;
    CHECK(until_next(w) - first >= base::Seconds(300));
  }
  SUBCASE("a wall clock that leaps after a restart changes nothing either") {
    w.Restarted();
    w.now.wall += 24h * 3650;
    CHECK(until_next(w) - first >= base::Seconds(300));
  }
  SUBCASE("a crash between the stamp and the act costs that attempt, not the cool-down") {
    w.Advance(400s);
    w.box.clear();
    w.Live();
    w.Pass(0);
    const auto stamped = w.now.mono;
    CHECK(w.ws.status.recovery->attempts >= 1);
    CHECK(until_next(w) - stamped >= base::Seconds(300));
  }
}

TEST_CASE("fetching consumes nothing, and nothing else goes before the management plugin") {
  Platform w;
  w.Declare("p", 'a');
  auto& r = w.sources["gitea://o/mgmt#tag:v1"];
  r.state = core::ResolutionView::State::kResolved;
  r.digest.clear();
  w.fault = [](const core::Step& s) -> std::optional<base::Error> {
    REQUIRE(s.kind != StepKind::kActivate);
    if (s.kind == StepKind::kFetch)
      return base::MakeError(base::Code::kCancelled, "still on its way");
    return {};
  };
  w.Run(5);
  CHECK(w.Planned(StepKind::kFetch) == 1);
  CHECK(!w.ws.status.recovery);
  CHECK(w.Reason("p") == "RecoveryAwaitingManagement");
  w.fault = nullptr;
  w.Publish("gitea://o/mgmt#tag:v1", 'f');
  w.Live();
  w.Pass();
  CHECK(w.ws.status.recovery->attempts == 1);
  CHECK(w.box.contains("mgmt"));
  CHECK(w.box.contains("p"));
  CHECK(w.Count(StepKind::kRestart) == 1);
}

TEST_CASE("a dead management source does not keep the other plugins away") {
  Platform w;
  w.Declare("p", 'a');
  auto& r = w.sources["gitea://o/mgmt#tag:v1"];
  r = {};
  r.state = core::ResolutionView::State::kFailed;
  r.error = base::MakeError(base::Code::kUnavailable, "down", "SourceUnavailable");
  w.Run(3);
  CHECK(w.box.contains("p"));
  CHECK(w.ws.status.state == "Failed");
  CHECK(w.ws.status.recovery->attempts == 1);
}

TEST_CASE("a probe that is undecided starts no attempt") {
  Platform w;
  w.unknown = {"*"};
  w.Run(10);
  CHECK(w.Count(StepKind::kActivate) == 0);  // Staging may go on; nothing visible changes.
  CHECK(w.Count(StepKind::kRestart) == 0);
  CHECK(!w.ws.status.recovery);
  CHECK(w.ws.status.state == "Failed");
}

TEST_CASE("a missing model fails closed and starts no attempt: a human is needed") {
  Platform w;
  w.ManagementRuns();
  w.hb.model_present = false;
  for (int i = 0; i < 5; ++i) {
    w.Pass();
    w.Advance(400s);
  }
  CHECK(w.ws.status.state == "Failed");
  CHECK(w.Why("GatePassed") == "ModelMissing");
  CHECK(w.Condition("Stalled") == "True");
  CHECK(w.done.empty());
  CHECK(!w.ws.status.recovery);
}

TEST_CASE(
    "tools that are not loaded are one restart per attempt; after three Stalled, then once in "
    "twelve cool-downs") {
  Platform w;
  w.tools_load = false;
  w.BootInstall("mgmt", 'f');
  std::vector<base::MonoTime> at;
  for (int i = 0; i < 260; ++i) {
    w.Live();
    w.Pass();
    if (w.plan.recovery_attempt) {
      at.push_back(w.now.mono);
      CHECK(w.Planned(StepKind::kRestart) == 1);
      CHECK(w.Planned(StepKind::kActivate) == 0);
    }
    if (at.size() < 3) CHECK(w.Condition("Stalled") == "False");
    w.Advance(40s);
  }
  REQUIRE(at.size() >= 5);
  CHECK(w.Condition("Stalled") == "True");
  CHECK(at[1] - at[0] <= base::Seconds(340));
  CHECK(at[2] - at[1] <= base::Seconds(340));
  CHECK(at[3] - at[2] >= base::Seconds(3600));
  CHECK(at[4] - at[3] >= base::Seconds(3600));
  w.tools_load = true;
  w.Run(3);
  CHECK(w.ws.status.state == "Online");
  CHECK(w.ws.status.recovery->attempts == 0);
  CHECK(w.ws.status.recovery->restarts == 0);
}

TEST_CASE("a delivery begins the count of restarts that have not loaded the tools anew") {
  Platform w;
  w.tools_load = false;
  const auto restarts = [&](int32_t wanted) {
    const auto& recovery = w.ws.status.recovery;
    for (int i = 0; i < 100 && (!recovery || recovery->restarts != wanted); ++i) {
      w.Live();
      w.Pass();
      w.Advance(40s);
    }
    return recovery && recovery->restarts == wanted;
  };
  REQUIRE(restarts(2));
  w.box.clear();
  CHECK(restarts(0));
}

TEST_CASE("deliveries are not counted as restarts that have not loaded the tools") {
  Platform w;
  w.tools_load = false;
  while (!w.ws.status.recovery || w.ws.status.recovery->attempts < 4) {
    w.Live();
    w.Pass();
    if (w.ws.status.recovery && w.ws.status.recovery->attempts < 4) w.box.clear();
    w.Advance(40s);
  }
  REQUIRE(w.box.contains("mgmt"));
  CHECK(w.ws.status.recovery->restarts == 0);
  const auto delivered = w.now.mono;
  std::vector<base::MonoTime> at;
  for (int i = 0; i < 140 && at.size() < 4; ++i) {
    w.Live();
    w.Pass();
    if (w.plan.recovery_attempt) at.push_back(w.now.mono);
    if (at.size() < 3) CHECK(w.Condition("Stalled") == "False");
    w.Advance(40s);
  }
  REQUIRE(at.size() == 4);
  CHECK(at[0] - delivered <= base::Seconds(340));
  CHECK(at[2] - at[1] <= base::Seconds(340));
  CHECK(at[3] - at[2] >= base::Seconds(3600));
  CHECK(w.ws.status.recovery->attempts == 8);
}

TEST_CASE("a runtime that still loads fails the gate, but is not restarted for it") {
  Platform w;
  w.Run(4);
  REQUIRE(w.ws.status.state == "Online");
  w.Run(40);  // The cool-down is over.
  const auto restarts = w.Count(StepKind::kRestart);
  w.hb.management_present.reset();
  w.hb.loaded_tools.clear();
  w.Pass();
  CHECK(w.ws.status.state == "Failed");
  CHECK(w.Count(StepKind::kRestart) == restarts);
  w.hb.management_present = false;
  w.Pass();
  CHECK(w.Count(StepKind::kRestart) == restarts + 1);
}

TEST_CASE("restart policy Manual blocks recovery visibly until it is asked for") {
  Platform w;
  w.ws.spec.restart.policy = api::RestartPolicy::kManual;
  w.Run(5);
  CHECK(w.Count(StepKind::kActivate) == 0);
  CHECK(w.ws.status.state == "Failed");
  CHECK(w.Condition("Stalled") == "True");
  CHECK(
      meta::FindCondition(w.ws.status.conditions, "Ready")->message.find("restart-requested-at") !=
      std::string::npos);
  w.ws.meta.annotations[api::kRestartRequestedAnnotation] = base::FormatTime(w.now.wall);
  w.Run(3);
  CHECK(w.ws.status.state == "Online");
}

TEST_CASE("a request for a time that has not come does not allow recovery under Manual") {
  Platform w;
  w.ws.spec.restart.policy = api::RestartPolicy::kManual;
  w.ws.meta.annotations[api::kRestartRequestedAnnotation] = base::FormatTime(w.now.wall + 1h);
  w.Run(5);
  CHECK(w.Count(StepKind::kActivate) == 0);
  CHECK(meta::FindCondition(w.ws.status.conditions, "Ready")->message.find("that has not come") !=
        std::string::npos);
  w.Advance(3600s);
  w.Run(3);
  CHECK(w.ws.status.state == "Online");
}

TEST_CASE("a request by a clock that is a few minutes ahead allows recovery under Manual") {
  Platform w;
  w.ws.spec.restart.policy = api::RestartPolicy::kManual;
  w.ws.meta.annotations[api::kRestartRequestedAnnotation] = base::FormatTime(w.now.wall + 4min);
  w.Run(5);
  CHECK(w.ws.status.state == "Online");
}

TEST_CASE("an attempt whose stamp had no answer is made at the next pass, and counted once") {
  for (const int unheard : {1, 2, 20}) {
    for (const bool later : {false, true}) {
      CAPTURE(unheard);
      CAPTURE(later);
      Platform w;
      if (later) {  // Not the first attempt of this process, nor of this workspace.
        w.tools_load = false;
        w.Run(2);
        REQUIRE(w.ws.status.recovery->attempts == 1);
        w.Run(40);
        REQUIRE(w.ws.status.recovery->attempts == 2);
        w.box.clear();
        w.Advance(400s);
      }
      const int32_t before = later ? 2 : 0;
      const auto restarts = w.Count(StepKind::kRestart);
      for (int i = 0; i < unheard; ++i) {
        w.Live();
        w.PassUnheard(i % 2 == 0);
        CHECK(w.plan.recovery_attempt);
        w.Advance(5s);
      }
      CHECK(w.Count(StepKind::kRestart) == restarts);
      w.Live();
      w.Pass();
      CHECK(w.Count(StepKind::kRestart) == restarts + 1);
      CHECK(w.ws.status.recovery->attempts == before + 1);
      CHECK(*w.ws.status.recovery->last_attempt_time >= w.now.wall);
      w.box.clear();
      w.Run(20);
      CHECK(w.Count(StepKind::kRestart) ==
            restarts + 1);  // The cool-down of the one that was made.
    }
  }
}

TEST_CASE(
    "who follows one whose stamp had no answer cannot know that nothing was done, and waits") {
  Platform w;
  w.Live();
  w.PassUnheard(true);
  w.Restarted();
  w.Run(29);
  CHECK(w.Count(StepKind::kActivate) == 0);
  w.Run(3);
  CHECK(w.Count(StepKind::kActivate) == 1);
}

TEST_CASE("a request under Manual is not used up by an attempt whose stamp had no answer") {
  Platform w;
  w.ws.spec.restart.policy = api::RestartPolicy::kManual;
  w.Run(5);
  w.ws.meta.annotations[api::kRestartRequestedAnnotation] = base::FormatTime(w.now.wall);
  w.Live();
  w.PassUnheard(true);
  w.Run(3);
  CHECK(w.ws.status.state == "Online");
  CHECK(w.ws.status.recovery->attempts == 0);
}

TEST_CASE("a reconcile request resets back-off, never the cool-down") {
  Platform w;
  w.Live();
  w.Pass();
  w.box.clear();
  w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = "now";
  w.Run(5);
  CHECK(w.ws.status.recovery->attempts == 1);
  CHECK(!w.box.contains("mgmt"));
}
