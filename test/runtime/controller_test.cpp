#include "runtime/controller.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "runtime/manager.hpp"
#include "runtime/metrics.hpp"
#include "runtime/running_controller.hpp"
#include "support/captured_log.hpp"

using base::Code;
using base::Millis;
using runtime::Requeue;
using runtime_test::Running;
using support::Eventually;

namespace {

meta::ObjectKey K(const std::string& name) { return {"ns", name}; }

base::Error Failure(Code code) { return base::MakeError(code, "as scripted"); }

}  // namespace

TEST_CASE("each outcome of a run leads to what the table says") {
  struct Row {
    const char* name;
    base::Result<Requeue> answer;
    uint32_t failures;
    size_t delayed;
    const char* metric;
  };
  base::Error asked = Failure(Code::kUnavailable);
  asked.retry_after = Millis{77'000};
  const Row rows[] = {
      {"none", Requeue::None(), 0, 0,
       "controller_runtime_reconcile_total{controller=\"thing\",result=\"success\"}"},
      {"after", Requeue::After(Millis{5'000}), 0, 1,
       "controller_runtime_reconcile_total{controller=\"thing\",result=\"requeue_after\"}"},
      {"error", Failure(Code::kUnavailable), 1, 1,
       "controller_runtime_reconcile_errors_total{controller=\"thing\"}"},
      {"conflict", Failure(Code::kConflict), 1, 1,
       "controller_runtime_reconcile_total{controller=\"thing\",result=\"error\"}"},
      {"retry after", asked, 1, 1,
       "controller_runtime_reconcile_errors_total{controller=\"thing\"}"},
      {"terminal", Failure(Code::kInvalid), 0, 0,
       "controller_runtime_terminal_reconcile_errors_total{controller=\"thing\"}"},
      {"cancelled", Failure(Code::kCancelled), 1, 1,
       "controller_runtime_reconcile_errors_total{controller=\"thing\"}"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    Running run([&](const auto&, auto) { return row.answer; });
    CHECK(run.Metric(row.metric) == 0);  // There before the first run.
    run.Start();
    run.controller.Queue().Add(K("a"));
    REQUIRE(run.AwaitIdle(1));
    CHECK(run.controller.Queue().Failures(K("a")) == row.failures);
    CHECK(run.controller.Queue().Stats().delayed == row.delayed);
    CHECK(run.Metric(row.metric) == 1);
    if (row.answer.has_value() || !row.answer.error().retry_after) continue;
    run.clock.Advance(Millis{76'000});
    CHECK(run.controller.Queue().Stats().ready == 0);
  }
}

TEST_CASE("a success and a terminal error end the back-off of earlier failures") {
  const base::Result<Requeue> ends[] = {Requeue::None(), Requeue::After(Millis{5'000}),
                                        Failure(Code::kInvalid)};
  for (const auto& end : ends) {
    std::atomic<bool> fail{true};
    Running run([&](const auto&, auto) -> base::Result<Requeue> {
      if (fail) return Failure(Code::kInternal);
      return end;
    });
    run.Start();
    run.controller.Queue().Add(K("a"));
    REQUIRE(run.AwaitIdle(1));
    REQUIRE(run.controller.Queue().Failures(K("a")) == 1);
    fail = false;
    run.clock.Advance(Millis{1'000});
    REQUIRE(run.AwaitIdle(2));
    CHECK(run.controller.Queue().Failures(K("a")) == 0);
  }
}

TEST_CASE("a lost race is no warning, unless it is lost again and again") {
  Running run([](const auto&, auto) -> base::Result<Requeue> { return Failure(Code::kConflict); });
  run.Start();
  std::string first, third;
  {
    const support::CapturedLog log;
    run.controller.Queue().Add(K("a"));
    REQUIRE(Eventually([&] { return run.controller.Queue().Failures(K("a")) == 1; }));
    REQUIRE(run.AwaitIdle(1));
    first = log.Text();
    for (int runs = 2; runs <= 3; ++runs) {
      run.clock.Advance(Millis{60'000});
      REQUIRE(run.AwaitIdle(runs));
    }
    third = log.Text().substr(first.size());
  }
  CHECK(first.find("info    overtaken by another write") != std::string::npos);
  CHECK(first.find("warning") == std::string::npos);
  CHECK(third.find("warning reconcile failed") != std::string::npos);
}

TEST_CASE("an exception is caught, counted and retried") {
  Running run([](const auto&, auto) -> base::Result<Requeue> { throw std::runtime_error("bug"); });
  run.Start();
  run.controller.Queue().Add(K("a"));
  REQUIRE(Eventually([&] { return run.controller.Queue().Failures(K("a")) == 1; }));
  CHECK(run.Metric("controller_runtime_reconcile_panics_total{controller=\"thing\"}") == 1);
}

TEST_CASE("an exception ends the process if that is asked for") {
  const pid_t child = ::fork();
  if (child == 0) {
    std::set_terminate([] { ::_exit(42); });  // Without the core file.
    Running run([](const auto&, auto) -> base::Result<Requeue> { throw std::runtime_error("bug"); },
                [](auto& options) { options.recover_exceptions = false; });
    run.Start();
    run.controller.Queue().Add(K("a"));
    Eventually([] { return false; });
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 42);
}

TEST_CASE("the deadline of a run requests its stop and only then counts as a timeout") {
  Running run([](const auto& key, std::stop_token stop) -> base::Result<Requeue> {
    if (key.name == "quick") return Failure(Code::kTimeout);
    Eventually([&] { return stop.stop_requested(); });
    return Failure(Code::kCancelled);
  });
  const char* timeouts = "controller_runtime_reconcile_timeouts_total{controller=\"thing\"}";
  run.Start();
  run.controller.Queue().Add(K("quick"));
  REQUIRE(run.AwaitIdle(1));
  CHECK(run.Metric(timeouts) == 0);
  run.controller.Queue().Add(K("slow"));
  REQUIRE(Eventually([&] { return run.controller.Queue().Stats().processing == 1; }));
  REQUIRE(Eventually([&] {
    run.clock.Advance(Millis{600'000});
    return run.Metric(timeouts) >= 1;
  }));
  CHECK(Eventually([&] { return run.controller.Queue().Failures(K("slow")) >= 1; }));
}

TEST_CASE("workers are bounded and no run starts before the sources are ready") {
  std::atomic<int> busy{0}, most{0};
  std::atomic<bool> synced{false}, early{false};
  Running run(
      [&](const auto&, auto) -> base::Result<Requeue> {
        if (!synced) early = true;
        const int now = ++busy;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        std::this_thread::yield();
        --busy;
        return Requeue::None();
      },
      [&](auto& options) {
        options.workers = 3;
        options.wait_for = {{"things", [&](std::stop_token stop) -> base::Status {
                               Eventually([&] { return synced || stop.stop_requested(); });
                               return {};
                             }}};
      });
  for (int i = 0; i < 200; ++i) run.controller.Queue().Add(K(std::to_string(i)));
  run.Start();
  synced = true;
  REQUIRE(run.AwaitIdle(200));
  CHECK_FALSE(early);
  CHECK(most <= 3);
}

TEST_CASE("a source that does not sync in time fails the controller with its name") {
  Running run([](const auto&, auto) { return Requeue::None(); },
              [](auto& options) {
                options.wait_for = {{"plugins", [](std::stop_token stop) -> base::Status {
                                       Eventually([&] { return stop.stop_requested(); });
                                       return base::MakeError(Code::kCancelled, "403 forbidden");
                                     }}};
              });
  std::atomic<bool> over{false};
  run.thread = std::jthread([&](std::stop_token stop) {
    run.ended = run.controller.Run(stop);
    over = true;
  });
  REQUIRE(Eventually([&] {
    run.clock.Advance(Millis{60'000});
    return over.load();
  }));
  run.thread.join();
  REQUIRE_FALSE(run.ended);
  CHECK(run.ended.error().code == Code::kTimeout);
  CHECK(run.ended.error().message.find("plugins") != std::string::npos);
  CHECK(run.ended.error().message.find("403") != std::string::npos);
}

TEST_CASE("the stop lets runs in flight end, hands out nothing more, and is bounded") {
  std::atomic<bool> entered{false}, release{false};
  {
    Running run(
        [&](const auto&, std::stop_token stop) -> base::Result<Requeue> {
          entered = true;
          Eventually([&] { return stop.stop_requested(); });
          return Failure(Code::kCancelled);
        },
        [](auto& options) { options.workers = 1; });
    run.Start();
    run.controller.Queue().Add(K("a"));
    run.controller.Queue().Add(K("b"));
    REQUIRE(Eventually([&] { return entered.load(); }));
    run.Stop();
    CHECK(run.ended.has_value());
    CHECK(run.reconciler.runs == 1);
    // A run that the stop has cut short has not failed.
    CHECK(run.Metric("controller_runtime_reconcile_errors_total{controller=\"thing\"}") == 0);
  }
  // One that does not listen. It ends before the test does.
  entered = false;
  Running run([&](const auto&, auto) -> base::Result<Requeue> {
    entered = true;
    Eventually([&] { return release.load(); });
    return Requeue::None();
  });
  run.Start();
  run.controller.Queue().Add(K("a"));
  REQUIRE(Eventually([&] { return entered.load(); }));
  run.thread.request_stop();
  std::atomic<bool> over{false};
  std::jthread mover([&] {
    while (!over) {
      run.clock.AwaitWaiters(1);
      run.clock.Advance(Millis{500});
    }
  });
  run.thread.join();
  over = true;
  mover.join();
  REQUIRE_FALSE(run.ended);
  CHECK(run.ended.error().code == Code::kTimeout);
  release = true;
  REQUIRE(Eventually([&] { return run.reconciler.runs == 1; }));
  REQUIRE(Eventually([&] { return run.controller.Queue().Stats().processing == 0; }));
}

TEST_CASE("what must hold before a run is asked each time, and its failure is the run's") {
  std::atomic<int> asked{0};
  Running run([](const auto&, auto) { return Requeue::None(); },
              [&](auto& options) {
                options.before = [&](const auto&, auto) -> base::Status {
                  if (++asked == 1) return Failure(Code::kTimeout);
                  return {};
                };
              });
  run.Start();
  run.controller.Queue().Add(K("a"));
  REQUIRE(Eventually([&] { return run.controller.Queue().Failures(K("a")) == 1; }));
  CHECK(run.reconciler.runs == 0);
  REQUIRE(Eventually([&] { return run.controller.Queue().Stats().processing == 0; }));
  run.clock.Advance(Millis{1'000});
  CHECK(run.AwaitIdle(1));
}

TEST_CASE("each run has an id of its own, and there is none outside of a run") {
  std::mutex mutex;
  std::set<std::string> ids;
  Running run([&](const auto&, auto) {
    std::lock_guard lock(mutex);
    ids.insert(std::string(runtime::CurrentReconcileId()));
    return Requeue::None();
  });
  run.Start();
  for (int i = 0; i < 10; ++i) run.controller.Queue().Add(K(std::to_string(i)));
  REQUIRE(run.AwaitIdle(10));
  CHECK(ids.size() == 10);
  CHECK_FALSE(ids.contains(""));
  CHECK(runtime::CurrentReconcileId().empty());
}

TEST_CASE(
    "two controllers of one name do not run beside each other: their metrics would be mixed") {
  Running run([](const auto&, auto) { return Requeue::None(); });
  const auto start = [&](const std::string& name) {
    runtime::ControllerOptions options;
    options.name = name;
    options.metrics = &run.metrics;
    runtime::Controller other(options, run.reconciler);
    std::stop_source stop;
    stop.request_stop();
    return other.Run(stop.get_token());
  };
  const auto refused = start("thing");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("controller thing: another one has this name") == 0);
  CHECK(start("other"));
  CHECK(start("other"));  // The first is gone.
  CHECK(run.Metric("controller_runtime_max_concurrent_reconciles{controller=\"thing\"}") > 0);
}

TEST_CASE("self triggers are counted") {
  Running run([](const auto&, auto) { return Requeue::None(); });
  run.controller.CountSelfTrigger();
  CHECK(run.Metric("controller_runtime_self_triggers_total{controller=\"thing\"}") == 1);
}

namespace {

/// Writes down what parts do.
struct Trace {
  void Add(const std::string& what) {
    std::lock_guard lock(mutex);
    text += what + " ";
  }
  std::string Text() {
    std::lock_guard lock(mutex);
    return text;
  }
  runtime::Runnable Part(const std::string& name) {
    return {name,
            [this, name](std::stop_token stop) -> base::Status {
              Add("+" + name);
              const std::stop_callback note(stop, [this] { told = true; });
              Eventually([&] { return stop.stop_requested(); });
              Add("-" + name);
              return {};
            },
            [this, name](std::stop_token) -> base::Status {
              Eventually([&] { return Text().find("+" + name + " ") != std::string::npos; });
              Add("!" + name);
              return {};
            }};
  }
  std::mutex mutex;
  std::string text;
  std::atomic<bool> told{false};  ///< A part was asked to stop.
};

}  // namespace

TEST_CASE("parts start in order, each when the one before is ready, and stop in reverse order") {
  Trace trace;
  runtime::Manager manager;
  for (const char* name : {"api", "informer", "controller"}) manager.Add(trace.Part(name));
  base::Status ended = Failure(Code::kInternal);
  {
    std::jthread thread([&](std::stop_token stop) { ended = manager.Run(stop); });
    REQUIRE(Eventually([&] { return manager.Ready(); }));
  }
  CHECK(ended.has_value());
  CHECK_FALSE(manager.Ready());
  CHECK(trace.Text() ==
        "+api !api +informer !informer +controller !controller -controller -informer -api ");
}

TEST_CASE("a part that fails ends the others and names itself") {
  Trace trace;
  runtime::Manager manager;
  manager.Add(trace.Part("api"));
  manager.Add({"listener", [](std::stop_token) -> base::Status {
                 return base::MakeError(Code::kAlreadyExists, "port 8443 is in use");
               }});
  const base::Status ended = manager.Run({});
  REQUIRE_FALSE(ended);
  CHECK(ended.error().code == Code::kAlreadyExists);
  CHECK(ended.error().message == "listener: port 8443 is in use");
  CHECK(trace.Text() == "+api !api -api ");
}

TEST_CASE("a part that throws is an error, not the end of the process") {
  runtime::Manager manager;
  manager.Add({"bad", [](std::stop_token) -> base::Status { throw std::runtime_error("bug"); }});
  const base::Status ended = manager.Run({});
  REQUIRE_FALSE(ended);
  CHECK(ended.error().message == "bad: threw: bug");
}

TEST_CASE("a part that is never ready fails the start in time, with its own words") {
  support::FakeClock clock;
  Trace trace;
  runtime::ManagerOptions options;
  options.clock = &clock;
  runtime::Manager manager(options);
  auto part = trace.Part("informer");
  // The clock stands still from then on: what is stopped has all the time it needs.
  std::atomic<bool> told{false};
  part.ready = [&told](std::stop_token stop) -> base::Status {
    const std::stop_callback note(stop, [&told] { told = true; });
    Eventually([&] { return stop.stop_requested(); });
    return base::MakeError(Code::kCancelled, "403 forbidden");
  };
  manager.Add(part);
  manager.Add(trace.Part("never started"));
  base::Status ended;
  std::atomic<bool> over{false};
  std::jthread thread([&] {
    ended = manager.Run({});
    over = true;
  });
  REQUIRE(Eventually([&] {
    if (!told) clock.Advance(Millis{60'000});
    return over.load();
  }));
  thread.join();
  REQUIRE_FALSE(ended);
  CHECK(ended.error().code == Code::kTimeout);
  CHECK(ended.error().message.find("informer: not ready") == 0);
  CHECK(ended.error().message.find("403") != std::string::npos);
  CHECK(trace.Text() == "+informer -informer ");
}

TEST_CASE("the stop is bounded and names the parts that do not end") {
  support::FakeClock clock;
  Trace trace;
  runtime::ManagerOptions options;
  options.clock = &clock;
  auto release = std::make_shared<std::atomic<int>>(0);
  base::Status ended;
  {
    runtime::Manager manager(options);
    manager.Add(trace.Part("first"));
    manager.Add({"deaf", [release](std::stop_token) -> base::Status {
                   Eventually([&] { return release->load() == 1; });
                   *release = 2;
                   return {};
                 }});
    std::jthread thread([&](std::stop_token stop) { ended = manager.Run(stop); });
    REQUIRE(Eventually([&] { return manager.Ready(); }));
    thread.request_stop();
    REQUIRE(Eventually([&] {
      if (!trace.told) clock.Advance(Millis{100});  // Until the deaf one's time is over.
      return trace.Text().find("-first") != std::string::npos;
    }));
    thread.join();
  }
  REQUIRE_FALSE(ended);
  CHECK(ended.error().code == Code::kTimeout);
  CHECK(ended.error().message.find("deaf") != std::string::npos);
  CHECK(ended.error().message.find("first") == std::string::npos);
  *release = 1;
  REQUIRE(Eventually([&] { return release->load() == 2; }));
}

TEST_CASE("a stop is clean only if every part has ended and says that its work has") {
  enum class End { kWell, kLeavesWork, kFails };
  for (const End how : {End::kWell, End::kLeavesWork, End::kFails}) {
    Trace trace;
    runtime::Manager manager;
    manager.Add(trace.Part("first"));
    manager.Add({"last", [how](std::stop_token stop) -> base::Status {
                   Eventually([&] { return stop.stop_requested(); });
                   if (how == End::kWell) return {};
                   return Failure(how == End::kLeavesWork ? Code::kTimeout : Code::kUnavailable);
                 }});
    {
      std::jthread thread([&](std::stop_token stop) { (void)manager.Run(stop); });
      REQUIRE(Eventually([&] { return manager.Ready(); }));
      CHECK(manager.StoppedCleanly());
    }
    CHECK(manager.StoppedCleanly() == (how != End::kLeavesWork));
    CHECK(trace.Text() == "+first !first -first ");
  }
}

TEST_CASE("a stop that leaves a part behind is not clean") {
  support::FakeClock clock;
  runtime::ManagerOptions options;
  options.clock = &clock;
  auto release = std::make_shared<std::atomic<int>>(0);
  std::atomic<bool> over{false};
  runtime::Manager manager(options);
  manager.Add({"deaf", [release](std::stop_token) -> base::Status {
                 Eventually([&] { return release->load() == 1; });
                 *release = 2;
                 return {};
               }});
  std::jthread thread([&](std::stop_token stop) {
    (void)manager.Run(stop);
    over = true;
  });
  REQUIRE(Eventually([&] { return manager.Ready(); }));
  thread.request_stop();
  REQUIRE(Eventually([&] {
    clock.Advance(Millis{1'000});
    return over.load();
  }));
  CHECK_FALSE(manager.StoppedCleanly());
  *release = 1;
  REQUIRE(Eventually([&] { return release->load() == 2; }));
}
