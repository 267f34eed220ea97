#include "runtime/controller.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "base/log.hpp"
#include "base/sha256.hpp"
#include "base/thread_name.hpp"
#include "runtime/deadline_watch.hpp"
#include "runtime/metrics.hpp"
#include "runtime/timed_wait.hpp"

namespace runtime {
namespace {

thread_local std::string current_reconcile_id;

WorkQueueOptions QueueOptions(const ControllerOptions& options) {
  WorkQueueOptions queue = options.queue;
  queue.name = options.name;
  queue.clock = options.clock;
  queue.metrics = options.metrics;
  return queue;
}

/// Sets CurrentReconcileId() for one run, whose log lines have it too.
class RunId {
 public:
  RunId() : scope_({"reconcileID", current_reconcile_id = base::RandomUuid()}) {}
  RunId(const RunId&) = delete;
  RunId& operator=(const RunId&) = delete;
  ~RunId() { current_reconcile_id.clear(); }

 private:
  const base::LogScope scope_;
};

constexpr uint32_t kRacesLost = 2;  ///< In a row, by one key, before it is worth a warning.

}  // namespace

std::string_view CurrentReconcileId() { return current_reconcile_id; }

struct Controller::State {
  State(ControllerOptions given, Reconciler& how)
      : options(std::move(given)), reconciler(how), queue(QueueOptions(options)) {}

  void RegisterMetrics();
  base::Status WaitForSources(const std::stop_token& stop);
  void Work(const std::stop_token& stop);
  void RunOne(const meta::ObjectKey& key, const std::stop_token& stop);
  base::Result<Requeue> Call(const meta::ObjectKey& key, const std::stop_token& stop);
  void Settle(const meta::ObjectKey& key, const base::Result<Requeue>& result);
  void Count(const char* result) {
    if (options.metrics == nullptr) return;
    options.metrics->CounterOf(Total(), {options.name, result}).Add();
  }
  static Metrics::Family Total() {
    return {"controller_runtime_reconcile_total",
            "Total number of reconciliations per controller.",
            {"controller", "result"}};
  }

  const ControllerOptions options;
  Reconciler& reconciler;
  WorkQueue queue;
  std::mutex mutex;
  std::condition_variable ended;
  int workers = 0;
  bool running = false;
  std::unique_ptr<DeadlineWatch> deadlines;

  Counter* errors = nullptr;
  Counter* terminal = nullptr;
  Counter* panics = nullptr;
  Counter* timeouts = nullptr;
  Counter* self_triggers = nullptr;
  Gauge* active = nullptr;
  Gauge* concurrent = nullptr;  ///< Not 0 while a controller of this name lives.
  bool name_taken = false;
  Histogram* seconds = nullptr;
};

void Controller::State::RegisterMetrics() {
  if (options.metrics == nullptr) return;
  Metrics& m = *options.metrics;
  const Metrics::Labels names{"controller"}, values{options.name};
  const auto counter = [&](const char* name, const char* help) {
    return &m.CounterOf({name, help, names}, values);
  };
  errors = counter("controller_runtime_reconcile_errors_total",
                   "Total number of reconciliation errors per controller.");
  terminal = counter("controller_runtime_terminal_reconcile_errors_total",
                     "Total number of reconciliation errors that are not retried.");
  panics = counter("controller_runtime_reconcile_panics_total",
                   "Total number of reconciliations that threw.");
  timeouts = counter("controller_runtime_reconcile_timeouts_total",
                     "Total number of reconciliations ended by their deadline.");
  self_triggers = counter("controller_runtime_self_triggers_total",
                          "Total number of wake-ups caused by nothing but an own status write.");
  active =
      &m.GaugeOf({"controller_runtime_active_workers", "Number of busy workers.", names}, values);
  Gauge& most = m.GaugeOf(
      {"controller_runtime_max_concurrent_reconciles", "Number of workers.", names}, values);
  name_taken = most.Value() != 0;
  if (!name_taken) (concurrent = &most)->Set(std::max(1, options.workers));
  seconds = &m.HistogramOf(
      {"controller_runtime_reconcile_time_seconds", "Length of time per reconciliation.", names},
      values, {0.005, 0.01, 0.025, 0.05, 0.1,  0.15, 0.2,  0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6,
               0.7,   0.8,  0.9,   1.0,  1.25, 1.5,  1.75, 2.0,  2.5, 3.0,  3.5, 4.0,  4.5, 5,
               6,     7,    8,     9,    10,   15,   20,   25,   30,  40,   50,  60});
  for (const char* result : {"success", "requeue_after", "error"}) {
    m.CounterOf(Total(), {options.name, result});
  }
}

base::Status Controller::State::WaitForSources(const std::stop_token& stop) {
  for (const ControllerOptions::Source& source : options.wait_for) {
    DeadlineWatch::Guard guard(*deadlines, options.sync_limit, stop);
    const base::Status waited = source.wait(guard.Token());
    if (waited) continue;
    if (stop.stop_requested()) return {};
    base::Error error = waited.error();
    if (guard.Expired()) error.code = base::Code::kTimeout;
    error.message = fmt::format("controller {}: source {} is not ready: {}", options.name,
                                source.name, error.message);
    return error;
  }
  return {};
}

/// The reconciler behind the wall that no exception crosses.
base::Result<Requeue> Controller::State::Call(const meta::ObjectKey& key,
                                              const std::stop_token& stop) {
  std::string what = "of an unknown type";
  try {
    if (options.before) {
      if (auto ready = options.before(key, stop); !ready) return std::move(ready).error();
    }
    return reconciler.Reconcile(key, stop);
  } catch (const std::exception& e) {
    if (!options.recover_exceptions) throw;
    what = e.what();
  } catch (...) {  // Counted below like any other.
    if (!options.recover_exceptions) throw;
  }
  if (panics != nullptr) panics->Add();
  return base::MakeError(base::Code::kInternal, "the reconciler threw: " + what, "Panic");
}

void Controller::State::RunOne(const meta::ObjectKey& key, const std::stop_token& stop) {
  const RunId id;
  const base::MonoTime started = options.clock->Read().mono;
  base::LogDebug("reconcile begins", {{"controller", options.name}, {"key", key.Text()}});
  if (active != nullptr) active->Add(1);
  base::Result<Requeue> result = Requeue::None();
  bool expired = false;
  {
    DeadlineWatch::Guard guard(*deadlines, options.deadline, stop);
    result = Call(key, guard.Token());
    expired = guard.Expired();
  }
  if (active != nullptr) active->Add(-1);
  if (seconds != nullptr) {
    seconds->Observe(std::chrono::duration<double>(options.clock->Read().mono - started).count());
  }
  if (expired && timeouts != nullptr) timeouts->Add();
  if (!result && result.error().code == base::Code::kCancelled && stop.stop_requested()) return;
  Settle(key, result);
}

/// The table in the header.
void Controller::State::Settle(const meta::ObjectKey& key, const base::Result<Requeue>& result) {
  if (result) {
    queue.Forget(key);
    if (result->after) queue.AddAfter(key, *result->after, result->priority);
    Count(result->after ? "requeue_after" : "success");
    return;
  }
  const base::Error& error = result.error();
  Count("error");
  if (errors != nullptr) errors->Add();
  std::string retry = "when it changes";
  if (error.code == base::Code::kInvalid) {
    if (terminal != nullptr) terminal->Add();
    queue.Forget(key);
  } else {
    const base::Millis delay =
        queue.AddRateLimited(key, error.retry_after.value_or(base::Millis{}));
    retry = fmt::format("{} ms", delay.count());
  }
  // Somebody wrote the object between our look and our write: that is what the version is for, and
  // no news unless it goes on.
  const bool overtaken = error.code == base::Code::kConflict && queue.Failures(key) <= kRacesLost;
  base::Log(overtaken ? base::LogLevel::kInfo : base::LogLevel::kWarning,
            overtaken ? "overtaken by another write, looking again" : "reconcile failed",
            {{"controller", options.name},
             {"key", key.Text()},
             {"code", base::CodeName(error.code)},
             {"error", error.message},
             {"retryIn", retry}});
}

void Controller::State::Work(const std::stop_token& stop) {
  while (const auto key = queue.Get(stop)) {
    RunOne(*key, stop);
    queue.Done(*key);
  }
  std::lock_guard lock(mutex);
  --workers;
  ended.notify_all();
}

Controller::Controller(ControllerOptions options, Reconciler& reconciler)
    : state_(std::make_shared<State>(std::move(options), reconciler)) {
  state_->RegisterMetrics();
}

Controller::~Controller() {
  state_->queue.ShutDown();
  if (state_->concurrent != nullptr) state_->concurrent->Set(0);
}

WorkQueue& Controller::Queue() { return state_->queue; }
const std::string& Controller::Name() const { return state_->options.name; }

void Controller::CountSelfTrigger() {
  if (state_->self_triggers != nullptr) state_->self_triggers->Add();
}

base::Status Controller::Run(std::stop_token stop) {
  const auto s = state_;
  if (s->name_taken)
    return base::MakeError(base::Code::kAlreadyExists,
                           "controller " + s->options.name +
                               ": another one has this name; their metrics would be mixed");
  {
    std::lock_guard lock(s->mutex);
    if (s->running) {
      return base::MakeError(base::Code::kAlreadyExists,
                             "controller " + s->options.name + " has run already");
    }
    s->running = true;
  }
  s->deadlines = std::make_unique<DeadlineWatch>(*s->options.clock);
  if (auto synced = s->WaitForSources(stop); !synced || stop.stop_requested()) return synced;
  std::vector<std::thread> threads;
  s->workers = std::max(1, s->options.workers);
  for (int i = s->workers; i > 0; --i) {
    threads.emplace_back([s, stop] {
      base::NameThread("work-" + s->options.name);
      s->Work(stop);
    });
  }

  std::stop_callback wake(stop, [&s] {
    s->queue.ShutDown();
    std::lock_guard lock(s->mutex);
    s->ended.notify_all();
  });
  std::unique_lock lock(s->mutex);
  while (!stop.stop_requested()) WaitUntil(*s->options.clock, s->ended, lock, kNever);
  const base::MonoTime deadline = s->options.clock->Read().mono + ClampDelay(s->options.stop_limit);
  while (s->workers > 0 && s->options.clock->Read().mono < deadline) {
    WaitUntil(*s->options.clock, s->ended, lock, deadline);
  }
  const int left = s->workers;
  lock.unlock();
  for (std::thread& thread : threads) {
    if (left > 0) {
      thread.detach();  // They share the state; the process is about to end.
    } else {
      thread.join();
    }
  }
  if (left == 0) return {};
  return base::MakeError(base::Code::kTimeout,
                         fmt::format("controller {}: {} runs did not end within {} ms of the stop",
                                     s->options.name, left, s->options.stop_limit.count()));
}

}  // namespace runtime
