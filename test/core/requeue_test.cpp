#include "core/requeue.hpp"

#include <doctest/doctest.h>

#include <set>

using namespace std::chrono_literals;

TEST_CASE("back-off is full jitter below a doubling bound, capped, and decided by the seed alone") {
  const core::Backoff backoff{1s, 300s};
  for (int32_t attempts = -1; attempts < 80; ++attempts) {
    base::Millis bound = 1s;
    for (int i = 1; i < attempts && bound < 300s; ++i) bound *= 2;
    bound = std::min<base::Millis>(bound, 300s);
    std::set<int64_t> seen;
    for (uint64_t seed = 0; seed < 200; ++seed) {
      const base::Millis delay = core::BackoffDelay(backoff, attempts, seed);
      CHECK(delay >= 1ms);
      CHECK(delay <= bound);
      CHECK(delay == core::BackoffDelay(backoff, attempts, seed));
      seen.insert(delay.count());
    }
    CHECK(seen.size() > 150);
  }
}

TEST_CASE("what an error asks for is respected, within bounds") {
  core::RetryRule rule;
  base::Error error = base::MakeError(base::Code::kUnavailable, "busy");
  error.retry_after = 40s;
  CHECK(core::RetryDelay(rule, error, 1) == 40s);
  error.retry_after = 24h;
  CHECK(core::RetryDelay(rule, error, 1) == 3600s);
  error.retry_after.reset();
  CHECK(core::RetryDelay(rule, error, 1) <= 1s);
  error.code = base::Code::kInvalid;
  CHECK(core::RetryDelay(rule, error, 1) == 3600s);
}

TEST_CASE("a stamped wait is clamped to 0..wait and, within a process, deaf to the wall clock") {
  const base::WallTime stamp{base::Seconds(1'000'000)};
  const base::Millis wait = 300s;
  const base::MonoTime start{base::Seconds(50)};
  struct Row {
    base::Millis takeover_after_stamp, since_takeover, jump, left;
  };
  const Row rows[] = {
      {0s, 0s, 0s, 300s},
      {100s, 0s, 0s, 200s},
      {100s, 50s, 0s, 150s},
      {100s, 50s, 24h * 3650, 150s},
      {100s, 50s, -24h * 3650, 150s},
      {400s, 0s, 0s, 0s},
      {-24h * 3650, 0s, 0s, 300s},
      {-24h * 3650, 200s, 0s, 100s},
      {-24h * 3650, 301s, 0s, 0s},
      {100s, 400s, 0s, 0s},
  };
  for (const Row& row : rows) {
    const base::Now takeover{stamp + row.takeover_after_stamp, start};
    const base::Now now{takeover.wall + row.since_takeover + row.jump, start + row.since_takeover};
    CHECK(core::RemainingWait(stamp, wait, takeover, now) == row.left);
  }
}

TEST_CASE("jitter stays within its fraction, and the next moment is later than now") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const base::Millis j = core::Jittered(300s, 0.1, seed);
    CHECK(j >= 300s);
    CHECK(j <= 330s);
  }
  const base::Now now{base::WallTime{}, base::MonoTime(5s)};
  CHECK(core::After(now, -5s) > now.mono);
}
