#include <doctest/doctest.h>

#include "meta/object.hpp"

using namespace std::chrono_literals;

TEST_CASE("lastTransitionTime moves only when the status flips") {
  const base::WallTime first{1000s}, second{2000s + 345ms};
  const auto at_first = meta::MergeConditions(
      {}, {{"Ready", meta::ConditionStatus::kUnknown, 1, {}, "A", ""}}, first);
  auto same = meta::MergeConditions(
      at_first, {{"Ready", meta::ConditionStatus::kUnknown, 2, {}, "B", "text"}}, second);
  CHECK(same[0].last_transition_time == first);
  CHECK(same[0].reason == "B");
  const auto flipped = meta::MergeConditions(
      same, {{"Ready", meta::ConditionStatus::kTrue, 2, {}, "C", ""}}, second);
  CHECK(flipped[0].last_transition_time == base::WallTime{2000s});
}

TEST_CASE("an object key reads as kubectl writes it") {
  CHECK(meta::ObjectKey{"ns", "a"}.Text() == "ns/a");
  CHECK(meta::ObjectKey{"", "a"}.Text() == "a");
}
