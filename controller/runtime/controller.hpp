#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "meta/object.hpp"
#include "runtime/work_queue.hpp"

namespace runtime {

/// When to look at a key again after a run that did not fail.
struct Requeue {
  std::optional<base::Millis> after;
  Priority priority = Priority::kNormal;
  /// Only when something happens.
  static Requeue None() { return {}; }
  /// After `delay`, or earlier when something happens.
  static Requeue After(base::Millis delay, Priority priority = Priority::kNormal) {
    return {delay, priority};
  }
};

/// Port: what a controller runs.
class Reconciler {
 public:
  virtual ~Reconciler() = default;
  /// One pass over one object. The object may be gone: then clean up and return None. Runs on
  /// several threads, but never twice at once for one key. `stop` is requested when the controller
  /// stops or the deadline of the run has come.
  virtual base::Result<Requeue> Reconcile(const meta::ObjectKey& key, std::stop_token stop) = 0;
};

struct ControllerOptions {
  std::string name;  ///< Unique among those that share `metrics`: label `controller`.
  int workers = 4;
  base::Millis deadline{600'000};  ///< Of one run.
  base::Millis sync_limit{
      120'000};  ///< For `wait_for`; then Run() fails with kTimeout and the source's name.
  base::Millis stop_limit{6'000};  ///< For runs in flight after stop; then Run() returns kTimeout.
  WorkQueueOptions queue;          ///< name, clock and metrics are taken from here.
  const base::Clock* clock = &base::SystemClock::Get();
  Metrics* metrics = nullptr;  ///< controller_runtime_*; must outlive the controller.
  /// What must be synced before the first run, e.g. {"workspaces", [&] (auto stop) { return
  /// informer.WaitForSync(stop); }}.
  struct Source {
    std::string name;
    std::function<base::Status(std::stop_token)> wait;
  };
  std::vector<Source> wait_for;
  /// An exception of the reconciler is counted and retried; false: it ends the process, for who
  /// would rather have a core file than a process that goes on with a bug.
  bool recover_exceptions = true;
  /// Called before each run; an Error is treated as the run's. For read-your-own-writes:
  /// informer.WaitFor(key, ...).
  std::function<base::Status(const meta::ObjectKey&, std::stop_token)> before = nullptr;
};

/// Workers that take keys from a queue and hand them to a reconciler.
///
/// | outcome            | then                                                                  |
/// |--------------------|-----------------------------------------------------------------------|
/// | None               | Forget                                                                |
/// | After(d)           | Forget, AddAfter(d)                                                   |
/// | kInvalid           | Forget; not retried until something changes (terminal error)          |
/// | kCancelled by stop | nothing                                                               |
/// | another error      | AddRateLimited(at least retry_after); a warning, but for a lost race  |
/// | exception          | counted as a panic, then as kInternal                                 |
class Controller {
 public:
  Controller(ControllerOptions options, Reconciler& reconciler);
  ~Controller();
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  /// Where event handlers add keys. Keys may be added before Run().
  WorkQueue& Queue();
  const std::string& Name() const;
  /// Blocks until `stop`. Ok after an orderly stop; kAlreadyExists when another controller of these
  /// metrics has the name; kTimeout when a source did not sync in time or
  /// a run did not end in time.
  base::Status Run(std::stop_token stop);
  /// Counts a run that was caused by nothing but our own status write.
  void CountSelfTrigger();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// The id of the run on this thread, for log lines and messages; empty outside of one.
std::string_view CurrentReconcileId();

}  // namespace runtime
