#include "runtime/deadline_watch.hpp"

#include <doctest/doctest.h>

#include "support/counted_waits.hpp"
#include "support/eventually.hpp"

using base::Millis;
using runtime::DeadlineWatch;
using support::Eventually;

TEST_CASE("a call that ends in time costs the watch at most its first wake-up") {
  support::CountedWaits clock;
  DeadlineWatch watch(clock);
  CHECK(Eventually([&] { return clock.waits == 1; }));
  { const DeadlineWatch::Guard first(watch, Millis{60'000}, {}); }
  CHECK(Eventually([&] { return clock.waits == 2; }));
  for (int i = 0; i < 100; ++i) const DeadlineWatch::Guard later(watch, Millis{61'000}, {});
  // One that is sooner is watched; what came in between has woken nobody.
  const DeadlineWatch::Guard sooner(watch, Millis{50'000}, {});
  CHECK(Eventually([&] { return clock.waits >= 3; }));
  CHECK(clock.waits.load() == 3);
}

TEST_CASE("each deadline ends its own call, in whatever order they were set") {
  DeadlineWatch watch(base::SystemClock::Get());
  const DeadlineWatch::Guard never(watch, Millis{600'000}, {});
  for (const int limit : {30, 1, 0, 15, 40, 5}) {
    const DeadlineWatch::Guard guard(watch, Millis{limit}, {});
    CHECK(Eventually([&] { return guard.Token().stop_requested(); }));
    CHECK(guard.Expired());
  }
  CHECK_FALSE(never.Expired());
  std::stop_source outer;
  const DeadlineWatch::Guard cancelled(watch, Millis{600'000}, outer.get_token());
  outer.request_stop();
  CHECK(cancelled.Token().stop_requested());
  CHECK_FALSE(cancelled.Expired());
}
