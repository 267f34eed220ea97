#include "reconcile/status_contests.hpp"

#include <doctest/doctest.h>

#include <functional>

namespace {

api::WorkspaceStatus Status(const char* state, const char* reason = "r", int time = 0) {
  api::WorkspaceStatus status;
  status.state = state;
  status.conditions = {{"Ready", meta::ConditionStatus::kTrue, 0,
                        base::WallTime{} + base::Seconds{time}, reason, "m"}};
  return status;
}

/// Two operators, each with a view of its own, that hear of each other's writes at once.
struct Two {
  reconcile::StatusContests ours, theirs;
  api::WorkspaceStatus there;
  base::MonoTime now{};
  int writes = 0;
  bool told = false;
  bool Turn(reconcile::StatusContests& whose, const api::WorkspaceStatus& view) {
    if (there == view || whose.Ask("u", there, view, now).count() > 0) return false;
    told = whose.Written("u", there, view, now) || told;
    there = view;
    ++writes;
    return true;
  }
};

}  // namespace

TEST_CASE("two operators that see a Workspace differently write it a few times a minute") {
  Two two;
  for (int second = 0; second < 600; ++second) {
    two.now += base::Seconds{1};
    for (int i = 0; i < 20; ++i) {
      two.Turn(two.ours, Status("Online"));
      two.Turn(two.theirs, Status("Offline"));
    }
    if (second == 59) CHECK(two.writes <= 2 * 4 + 2);
  }
  CHECK(two.told);
  CHECK(two.writes <= 2 * (10 + 4));
  CHECK(two.writes >= 2 * 8);  // Neither gives up.
}

TEST_CASE("who changes his mind, or is alone, waits for nobody") {
  Two two;
  for (int i = 0; i < 50; ++i) {
    two.now += base::Seconds{1};
    CHECK(two.Turn(two.ours, Status(i % 2 == 0 ? "Online" : "Offline")));
  }
  // Times and texts that another writer changes are no contest.
  for (int i = 1; i < 50; ++i) {
    two.there = Status("Offline", "r", i);
    CHECK(two.Turn(two.ours, Status("Offline", "r", 100 + i)));
  }
  // Somebody changes it by hand: it is put back at once, and later, too.
  two.told = false;
  for (int i = 0; i < 2; ++i) {
    two.there = Status("Nonsense");
    CHECK(two.Turn(two.ours, Status("Offline")));
  }
  CHECK_FALSE(two.told);
  two.now += base::Seconds{600};
  for (int i = 0; i < 3; ++i) {
    two.there = Status("Nonsense");
    CHECK(two.Turn(two.ours, Status("Offline")));
  }
  CHECK(two.told);
  two.there = Status("Nonsense");
  CHECK_FALSE(two.Turn(two.ours, Status("Offline")));
  CHECK(two.Turn(two.ours, Status("Online")));  // News.
  two.ours.Forget("u");
  two.there = Status("Nonsense");
  CHECK(two.Turn(two.ours, Status("Online")));
}

TEST_CASE("what answers a reconcile request is written at once, and is no contest") {
  Two two;
  for (int i = 0; i < 20; ++i) {
    two.there = Status("Nonsense");
    api::WorkspaceStatus wanted = Status("Online");
    wanted.last_handled_reconcile_at = std::to_string(i);
    CHECK(two.Turn(two.ours, wanted));
  }
  CHECK_FALSE(two.told);
}

TEST_CASE("rows, box, agent and debt that are taken back are a contest, too") {
  const std::function<void(api::WorkspaceStatus&)> changes[] = {
      [](auto& s) { s.plugins.emplace_back().name = "p"; },
      [](auto& s) { s.conditions[0].status = meta::ConditionStatus::kFalse; },
      [](auto& s) { s.conditions[0].reason = "other"; },
      [](auto& s) { s.box.emplace().identity = "b"; },
      [](auto& s) { s.agent.emplace().boot_id = "b"; },
      [](auto& s) { s.pending_restart.emplace().boot_id = "b"; }};
  for (const auto& change : changes) {
    Two two;
    api::WorkspaceStatus theirs = Status("Online");
    change(theirs);
    for (int i = 0; i < 40; ++i) {
      two.Turn(two.ours, Status("Online"));
      two.Turn(two.theirs, theirs);
    }
    CHECK(two.writes <= 2 * 4 + 1);
  }
}
