#include "reconcile/slow_boxes.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "support/fake_clock.hpp"

using base::Millis;

namespace {

struct Fixture {
  support::FakeClock clock;
  reconcile::SlowBoxes boxes{2, Millis{5'000}, clock};

  /// One pass whose box takes that long; false: it was sent away.
  bool Pass(const std::string& uid, Millis took) {
    auto turn = boxes.Enter(uid);
    if (!turn) return false;
    turn->Timed([&] { clock.Advance(took); });
    return true;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "boxes that hang share their places, and nobody else waits for them") {
  for (const char* uid : {"a", "b", "c"}) CHECK(Pass(uid, Millis{30'000}));
  auto a = boxes.Enter("a"), b = boxes.Enter("b");
  REQUIRE(a);
  REQUIRE(b);
  CHECK_FALSE(boxes.Enter("c"));
  std::vector<reconcile::SlowBoxes::Turn> others;
  for (int i = 0; i < 20; ++i) {
    auto turn = boxes.Enter("quick-" + std::to_string(i));
    REQUIRE(turn);
    others.push_back(*std::move(turn));
  }
  a.reset();
  CHECK(boxes.Enter("c"));
}

TEST_CASE_FIXTURE(Fixture,
                  "a box that answers again is like any other; so is one that is forgotten") {
  for (const char* uid : {"a", "b", "c", "d"}) CHECK(Pass(uid, Millis{5'000}));
  auto a = boxes.Enter("a"), b = boxes.Enter("b");
  CHECK_FALSE(boxes.Enter("c"));
  a.reset();  // Its pass spent no time on the box.
  CHECK(Pass("c", Millis{4'999}));
  auto d = boxes.Enter("d");
  CHECK(boxes.Enter("c"));
  CHECK(boxes.Enter("a"));
  d.reset();
  CHECK(Pass("d", Millis{9'000}));
  d.emplace(*boxes.Enter("d"));
  CHECK(Pass("e", Millis{9'000}));
  CHECK_FALSE(boxes.Enter("e"));
  boxes.Forget("e");
  CHECK(boxes.Enter("e"));
}

TEST_CASE_FIXTURE(Fixture, "only the calls to the box count, all of a pass together") {
  auto first = boxes.Enter("a"), second = boxes.Enter("b");
  clock.Advance(Millis{60'000});  // An API server that is slow.
  first.reset();
  for (int i = 0; i < 2; ++i)
    CHECK(second->Timed([&] {
      clock.Advance(Millis{2'500});
      return i;
    }) == i);
  second.reset();
  auto taken = boxes.Enter("b");
  CHECK(Pass("x", Millis{6'000}));
  auto more = boxes.Enter("x");
  CHECK(Pass("y", Millis{6'000}));
  CHECK_FALSE(boxes.Enter("y"));
  CHECK(boxes.Enter("a"));
}
