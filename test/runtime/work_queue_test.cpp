#include "runtime/work_queue.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "runtime/metrics.hpp"
#include "runtime/timed_wait.hpp"
#include "support/counted_waits.hpp"
#include "support/eventually.hpp"
#include "support/fake_clock.hpp"

using base::Millis;
using runtime::Priority;
using runtime::WorkQueue;

namespace {

meta::ObjectKey K(const std::string& name) { return {"ns", name}; }

struct Bench {
  explicit Bench(runtime::WorkQueueOptions options = {})
      : queue(With(std::move(options), &clock)) {}
  static runtime::WorkQueueOptions With(runtime::WorkQueueOptions options,
                                        const base::Clock* clock) {
    options.clock = clock;
    options.jitter_seed = 3;
    return options;
  }
  std::string Next() {
    const auto key = queue.TryGet();
    return key ? key->name : "-";
  }
  /// Takes and gives back at once.
  std::string Pass() {
    const auto key = queue.TryGet();
    if (!key) return "-";
    queue.Done(*key);
    return key->name;
  }
  support::FakeClock clock;
  WorkQueue queue;
};

runtime::WorkQueueOptions NoJitter() {
  runtime::WorkQueueOptions options;
  options.backoff.jitter = 0;
  return options;
}

}  // namespace

TEST_CASE("a key added many times is handed out once") {
  Bench b;
  for (int i = 0; i < 5; ++i) b.queue.Add(K("a"));
  CHECK(b.queue.Size() == 1);
  CHECK(b.Pass() == "a");
  CHECK(b.Pass() == "-");
}

TEST_CASE("a key added while it is processed is handed out exactly once more, after Done") {
  Bench b;
  b.queue.Add(K("a"));
  CHECK(b.Next() == "a");
  for (int i = 0; i < 3; ++i) b.queue.Add(K("a"));
  CHECK(b.Next() == "-");  // Never twice at once.
  b.queue.Done(K("a"));
  CHECK(b.Pass() == "a");
  CHECK(b.Pass() == "-");
}

TEST_CASE("keys come in the order of their ready times, not of their adds") {
  Bench b;
  b.queue.AddAfter(K("late"), Millis{300});
  b.queue.AddAfter(K("soon"), Millis{100});
  b.queue.Add(K("now"));
  CHECK(b.Pass() == "now");
  CHECK(b.Pass() == "-");
  b.clock.Advance(Millis{200});
  b.queue.Add(K("later added"));
  CHECK(b.Pass() == "soon");
  CHECK(b.Pass() == "later added");
  b.clock.Advance(Millis{100});
  CHECK(b.Pass() == "late");
}

TEST_CASE("a waiting key keeps its earliest time") {
  Bench b;
  b.queue.AddAfter(K("a"), Millis{100});
  b.queue.AddAfter(K("a"), Millis{500});
  b.clock.Advance(Millis{100});
  CHECK(b.Pass() == "a");
  b.queue.AddAfter(K("b"), Millis{500});
  b.queue.AddAfter(K("b"), Millis{100});
  b.clock.Advance(Millis{100});
  CHECK(b.Pass() == "b");
  b.clock.Advance(Millis{1'000});
  CHECK(b.Pass() == "-");
}

TEST_CASE("a fresh edit overtakes a backlog of low priority, at the tail of its own level") {
  Bench b;
  for (int i = 0; i < 1000; ++i) b.queue.Add(K("low" + std::to_string(i)), Priority::kLow);
  b.queue.Add(K("first"));
  b.queue.Add(K("low500"));                 // Raised.
  b.queue.Add(K("first"), Priority::kLow);  // Not lowered.
  CHECK(b.Pass() == "first");
  CHECK(b.Pass() == "low500");
  CHECK(b.Pass() == "low0");
}

TEST_CASE("low priority is not starved by a constant load") {
  Bench b;
  b.queue.Add(K("low"), Priority::kLow);
  bool served = false;
  for (int i = 0; i < 50 && !served; ++i) {
    b.queue.Add(K("normal"));
    b.clock.Advance(Millis{100});
    served = b.Pass() == "low";
  }
  CHECK(served);
}

TEST_CASE("aged low keys take one turn in eight, not all of them") {
  Bench b;
  for (int i = 0; i < 100; ++i) b.queue.Add(K("low" + std::to_string(i)), Priority::kLow);
  b.clock.Advance(Millis{60'000});
  for (int i = 0; i < 100; ++i) b.queue.Add(K("normal" + std::to_string(i)));
  int low = 0;
  for (int i = 0; i < 80; ++i) low += b.Pass()[0] == 'l';
  CHECK(low == 10);
}

TEST_CASE("the back-off doubles from one second to five minutes and Forget ends it") {
  Bench b(NoJitter());
  const int64_t wanted[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300};
  for (const int64_t seconds : wanted) {
    b.queue.Add(K("a"));
    b.Next();
    CHECK(b.queue.AddRateLimited(K("a")) == Millis{seconds * 1000});
    b.queue.Done(K("a"));
    CHECK(b.Pass() == "-");
    b.clock.Advance(Millis{seconds * 1000});
    CHECK(b.Next() == "a");
    b.queue.Done(K("a"));
  }
  CHECK(b.queue.Failures(K("a")) == 12);
  b.queue.Forget(K("a"));
  CHECK(b.queue.Failures(K("a")) == 0);
  CHECK(b.queue.AddRateLimited(K("a")) == Millis{1000});
}

TEST_CASE("a back-off never overflows and never leaves its bounds") {
  runtime::BackoffOptions options;
  runtime::Jitter jitter(1);
  for (uint32_t n = 0; n <= 100; ++n) {
    const Millis step = runtime::BackoffStep(options, n);
    CHECK(step >= options.first);
    CHECK(step <= options.cap);
    const Millis delay = runtime::BackoffDelay(options, n, jitter);
    CHECK(delay > Millis{0});
    CHECK(delay <= step);
  }
  CHECK(runtime::BackoffStep(options, UINT32_MAX) == options.cap);
  options.cap = Millis::max();
  CHECK(runtime::BackoffStep(options, 1000) == Millis::max());
}

TEST_CASE("the jitter is full: delays fall in all quarters of the step") {
  runtime::Jitter jitter(5);
  int quarters[4] = {};
  for (int i = 0; i < 4000; ++i) {
    const auto delay = runtime::BackoffDelay({Millis{1000}, Millis{1000}, 1.0}, 0, jitter);
    ++quarters[std::min<int64_t>(3, delay.count() / 250)];
  }
  for (const int count : quarters) CHECK(count > 800);
}

TEST_CASE("a longer wait that the error asks for is honoured") {
  Bench b(NoJitter());
  b.queue.Add(K("a"));
  b.Next();
  CHECK(b.queue.AddRateLimited(K("a"), Millis{30'000}) == Millis{30'000});
  b.queue.Done(K("a"));
  b.clock.Advance(Millis{29'999});
  CHECK(b.Pass() == "-");
  b.clock.Advance(Millis{1});
  CHECK(b.Pass() == "a");
}

TEST_CASE("events during back-off run at once and do not inflate it") {
  Bench b(NoJitter());
  const auto fail = [&] {
    REQUIRE(b.Next() == "a");
    b.queue.AddRateLimited(K("a"));
    b.queue.Done(K("a"));
  };
  b.queue.Add(K("a"));
  fail();  // 1 s
  b.clock.Advance(Millis{1'000});
  fail();  // 2 s
  for (int i = 0; i < 20; ++i) {
    b.clock.Advance(Millis{10});
    b.queue.Add(K("a"));
    fail();
    CHECK(b.queue.Failures(K("a")) == 2);
  }
  // The running back-off was neither restarted nor lengthened: 2 s after the second failure.
  b.clock.Advance(Millis{1'799});
  CHECK(b.Pass() == "-");
  b.clock.Advance(Millis{1});
  fail();
  CHECK(b.queue.Failures(K("a")) == 3);
}

TEST_CASE("a retry keeps the priority of its run") {
  Bench b(NoJitter());
  b.queue.Add(K("low"), Priority::kLow);
  b.Next();
  b.queue.AddRateLimited(K("low"));
  b.queue.Done(K("low"));
  b.clock.Advance(Millis{1'000});
  b.queue.Add(K("normal"));
  CHECK(b.Pass() == "normal");
  CHECK(b.Pass() == "low");
}

TEST_CASE("absurd delays are clamped") {
  Bench b;
  b.queue.AddAfter(K("far"), Millis::max());
  b.queue.AddAfter(K("past"), Millis::min());
  CHECK(b.Pass() == "past");
  CHECK(b.Pass() == "-");
  b.clock.Advance(runtime::kLongestDelay);
  CHECK(b.Pass() == "far");
}

TEST_CASE("a step of the wall clock moves nothing") {
  Bench b;
  b.queue.AddAfter(K("a"), Millis{1'000});
  b.clock.StepWall(std::chrono::hours{24});
  CHECK(b.Pass() == "-");
  b.clock.StepWall(-std::chrono::hours{48});
  b.clock.Advance(Millis{1'000});
  CHECK(b.Pass() == "a");
}

TEST_CASE("a removed key is not handed out") {
  Bench b;
  b.queue.Add(K("a"));
  b.queue.AddAfter(K("b"), Millis{10});
  b.queue.Remove(K("a"));
  b.queue.Remove(K("b"));
  b.clock.Advance(Millis{10});
  CHECK(b.Pass() == "-");
  CHECK(b.queue.Size() == 0);
}

TEST_CASE("a delayed key wakes a waiting worker when its time comes") {
  Bench b;
  std::optional<meta::ObjectKey> got;
  std::jthread worker([&] { got = b.queue.Get(); });
  b.queue.AddAfter(K("late"), Millis{5'000});
  b.queue.AddAfter(K("soon"), Millis{1'000});
  // The worker may have looked before the adds; it waits for some time of this clock in the end.
  while (b.queue.Size() == 2) {
    b.clock.AwaitWaiters(1);
    b.clock.Advance(Millis{1'000});
  }
  worker.join();
  REQUIRE(got);
  CHECK(got->name == "soon");
}

TEST_CASE("a key that is due later than what is watched already wakes nobody") {
  support::CountedWaits clock;
  runtime::WorkQueueOptions options;
  options.clock = &clock;
  WorkQueue queue(options);
  std::vector<std::jthread> workers;
  for (int i = 0; i < 3; ++i)
    workers.emplace_back([&] {
      while (queue.Get({})) continue;
    });
  CHECK(support::Eventually([&] { return clock.waits >= 3; }));
  queue.AddAfter(K("first"), Millis{60'000});
  CHECK(support::Eventually([&] { return clock.waits == 4; }));  // One watches the time now.
  for (int i = 0; i < 100; ++i) queue.AddAfter(K(std::to_string(i)), Millis{70'000 + i});
  queue.AddAfter(K("earlier"), Millis{50'000});
  CHECK(support::Eventually([&] { return clock.waits >= 5; }));
  CHECK(clock.waits == 5);
  queue.ShutDown();
}

TEST_CASE("no wake-up is lost among workers that wait for times") {
  WorkQueue queue(runtime::WorkQueueOptions{});
  std::atomic<int> seen{0};
  std::vector<std::jthread> workers;
  for (int i = 0; i < 4; ++i)
    workers.emplace_back([&] {
      while (const auto key = queue.Get({})) {
        ++seen;
        queue.Done(*key);
      }
    });
  // Watches that end late must not hide what is due early: one round for each mix of the two.
  std::mt19937 random(5);
  for (int round = 1; round <= 300; ++round) {
    queue.AddAfter(K("far" + std::to_string(round)), Millis{600'000 - round});
    queue.AddAfter(K(std::to_string(round)), Millis{static_cast<int>(random() % 3)});
    if (!support::Eventually([&] { return seen == round; })) break;
  }
  CHECK(seen == 300);
  queue.ShutDown();
}

TEST_CASE("what is due while one worker is busy is watched by another one") {
  // On the real clock: one that is moved wakes everybody.
  support::CountedWaits clock;
  runtime::WorkQueueOptions options;
  options.clock = &clock;
  WorkQueue queue(options);
  std::atomic<int> handed{0};
  std::atomic<bool> release{false};
  std::vector<std::jthread> workers;
  for (int i = 0; i < 2; ++i)
    workers.emplace_back([&] {
      while (const auto key = queue.Get({})) {
        ++handed;
        release.wait(false);
        queue.Done(*key);
      }
    });
  // Both sleep for ever; only one of them is woken to watch the first time, and then the second.
  REQUIRE(support::Eventually([&] { return clock.waits == 2; }));
  queue.AddAfter(K("first"), Millis{200});
  REQUIRE(support::Eventually([&] { return clock.waits >= 3; }));
  queue.AddAfter(K("second"), Millis{200});
  CHECK(support::Eventually([&] { return handed == 2; }));
  release = true;
  release.notify_all();
  queue.ShutDown();
}

TEST_CASE("a key that was added while it was processed wakes a waiting worker once it is done") {
  support::CountedWaits clock;
  runtime::WorkQueueOptions options;
  options.clock = &clock;
  WorkQueue queue(options);
  queue.Add(K("a"));
  REQUIRE(queue.TryGet());
  std::atomic<bool> got{false};
  std::jthread waiting([&] {
    if (const auto key = queue.Get({})) {
      got = true;
      queue.Done(*key);
    }
  });
  REQUIRE(support::Eventually([&] { return clock.waits == 1; }));
  queue.Add(K("a"));
  queue.Done(K("a"));  // Who had it does not come back for more.
  CHECK(support::Eventually([&] { return got.load(); }));
  queue.ShutDown();
}

TEST_CASE("a queue keeps nothing of a key that is done") {
  Bench b;
  for (int i = 0; i < 1000; ++i) {
    b.queue.Add(K(std::to_string(i)));
    CHECK(b.Next() == std::to_string(i));
    if (i % 2 == 0) b.queue.AddRateLimited(K(std::to_string(i)));
    b.queue.Done(K(std::to_string(i)));
  }
  CHECK(b.queue.Stats().known == 500);
  for (int i = 0; i < 1000; ++i) b.queue.Remove(K(std::to_string(i)));
  CHECK(b.queue.Stats().known == 0);
}

TEST_CASE("a stop token wakes its worker and no other") {
  Bench b;
  std::atomic<int> ended{0};
  std::jthread first([&](std::stop_token stop) { b.queue.Get(stop), ++ended; });
  std::jthread second([&](std::stop_token stop) { b.queue.Get(stop), ++ended; });
  b.clock.AwaitWaiters(2);
  first.request_stop();
  first.join();
  CHECK(ended == 1);
  b.queue.ShutDown();
  second.join();
  CHECK(ended == 2);
}

TEST_CASE("a shutdown wakes everybody, drops what waits and ignores what comes") {
  runtime::WorkQueueOptions options;
  options.backoff.first = options.backoff.cap = base::Millis{3'600'000};
  options.backoff.jitter = 0;  // None comes back by itself.
  for (int round = 0; round < 300; ++round) {
    WorkQueue queue(options);
    std::vector<std::jthread> workers;
    std::atomic<int> handed{0};
    for (int i = 0; i < 4; ++i) {
      workers.emplace_back([&] {
        while (const auto key = queue.Get()) {
          ++handed;
          queue.AddRateLimited(*key);
          queue.Done(*key);
        }
      });
    }
    for (int i = 0; i < 20; ++i) queue.Add(K(std::to_string(i)));
    queue.ShutDown();
    queue.Add(K("after"));
    workers.clear();
    CHECK(queue.Size() == 0);
    CHECK(handed <= 20);
  }
}

TEST_CASE("draining waits for what is processed, not for what is queued, and not for ever") {
  Bench b;
  b.queue.Add(K("a"));
  b.queue.Add(K("b"));
  CHECK(b.Next() == "a");
  bool drained = true;
  {
    std::jthread drainer([&] { drained = b.queue.Drain(Millis{1'000}); });
    b.clock.AwaitWaiters(1);
    b.clock.Advance(Millis{1'000});
  }
  CHECK_FALSE(drained);
  {
    std::jthread drainer([&] { drained = b.queue.Drain(Millis{1'000}); });
    b.queue.Done(K("a"));
  }
  CHECK(drained);
}

TEST_CASE("the queue equals a plain model through random operations") {
  // The model: for each key its ready time and level; ties by the order of the change.
  struct Model {
    bool queued = false, processing = false, low = false;
    int64_t ready = 0;
    uint64_t order = 0;
  };
  for (unsigned seed = 1; seed <= 30; ++seed) {
    runtime::WorkQueueOptions options;
    options.ageing = Millis{1'000'000'000};
    Bench b(options);
    std::map<std::string, Model> model;
    std::mt19937 random(seed);
    int64_t now = 0;
    uint64_t order = 0;
    for (int step = 0; step < 3000; ++step) {
      const std::string name(1, static_cast<char>('a' + random() % 6));
      switch (random() % 5) {
        case 0:
        case 1: {
          const int64_t delay = random() % 2 ? 0 : random() % 50;
          const bool low = random() % 2;
          b.queue.AddAfter(K(name), Millis{delay}, low ? Priority::kLow : Priority::kNormal);
          Model& m = model[name];
          const int64_t ready = now + delay;
          const bool raised = m.queued && m.low && !low;
          if (!m.queued) {
            m.queued = true, m.low = low, m.ready = ready, m.order = ++order;
          } else if (raised) {
            m.ready = std::max(std::min(m.ready, ready), now), m.low = false, m.order = ++order;
          } else if (ready < m.ready && m.ready > now) {
            m.ready = ready, m.order = ++order;
          }
          break;
        }
        case 2: {
          std::string best = "-";
          for (const auto& [key, m] : model) {
            if (!m.queued || m.processing || m.ready > now) continue;
            const auto rank = [](const Model& x) { return std::tuple(x.low, x.ready, x.order); };
            if (best == "-" || rank(m) < rank(model[best])) best = key;
          }
          REQUIRE(b.Next() == best);
          if (best != "-") model[best].queued = false, model[best].processing = true;
          break;
        }
        case 3:
          b.queue.Done(K(name));
          model[name].processing = false;
          break;
        case 4: {
          const auto passed = static_cast<int64_t>(random() % 20);
          now += passed;
          b.clock.Advance(Millis{passed});
          break;
        }
      }
      size_t waiting = 0;
      for (const auto& [key, m] : model) waiting += m.queued && !m.processing;
      REQUIRE(b.queue.Size() == waiting);
    }
  }
}

TEST_CASE("many workers never have one key at once and lose no add") {
  WorkQueue queue;
  constexpr int kKeys = 20, kAdds = 5'000;
  std::atomic<int> busy[kKeys] = {};
  std::atomic<int> value[kKeys] = {};
  std::atomic<int> seen[kKeys] = {};
  std::atomic<bool> overlap{false};
  std::vector<std::jthread> workers;
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back([&] {
      while (const auto key = queue.Get()) {
        const int k = std::stoi(key->name);
        if (busy[k].fetch_add(1) != 0) overlap = true;
        seen[k] = value[k].load();
        // The result path adds too, as controllers do.
        if (seen[k] % 7 == 0) queue.AddAfter(*key, Millis{1});
        busy[k].fetch_sub(1);
        queue.Done(*key);
      }
    });
  }
  for (int i = 0; i < kAdds; ++i) {
    value[i % kKeys].fetch_add(1);
    queue.Add(K(std::to_string(i % kKeys)));
  }
  for (int k = 0; k < kKeys; ++k) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{10};
    while (seen[k] != value[k] && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    CHECK(seen[k] == value[k]);
  }
  queue.ShutDown();
  workers.clear();
  CHECK_FALSE(overlap);
}

TEST_CASE("the numbers of a queue add up and its depth is never negative") {
  runtime::Metrics metrics;
  runtime::WorkQueueOptions options = NoJitter();
  options.name = "workspace";
  options.metrics = &metrics;
  Bench b(options);
  b.queue.Add(K("a"));
  b.queue.Add(K("a"));
  b.queue.Add(K("b"), Priority::kLow);
  b.queue.AddAfter(K("c"), Millis{1'000});
  CHECK(b.Next() == "a");
  b.clock.Advance(Millis{500});
  auto stats = b.queue.Stats();
  CHECK(stats.ready == 1);
  CHECK(stats.delayed == 1);
  CHECK(stats.processing == 1);
  CHECK(stats.adds == 3);
  CHECK(stats.longest_seconds == doctest::Approx(0.5));
  const std::string text = metrics.Text();
  for (const char* line : {
           "workqueue_depth{name=\"workspace\",controller=\"workspace\",priority=\"normal\"} 0\n",
           "workqueue_depth{name=\"workspace\",controller=\"workspace\",priority=\"low\"} 1\n",
           "workqueue_adds_total{name=\"workspace\",controller=\"workspace\"} 3\n",
           "workqueue_retries_total{name=\"workspace\",controller=\"workspace\"} 0\n",
           "workqueue_unfinished_work_seconds{name=\"workspace\",controller=\"workspace\"} 0.5\n",
           "workqueue_longest_running_processor_seconds{name=\"workspace\",controller="
           "\"workspace\"} "
           "0.5\n",
           "workqueue_queue_duration_seconds_count{name=\"workspace\",controller=\"workspace\"} "
           "1\n",
           "workqueue_work_duration_seconds_count{name=\"workspace\",controller=\"workspace\"} 0\n",
       }) {
    CHECK_MESSAGE(text.find(line) != std::string::npos, line);
  }
}
