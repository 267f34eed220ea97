#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace runtime {

/// A part of the process that runs on a thread of its own.
struct Runnable {
  std::string name;
  /// Blocks until `stop`. An Error before that ends the process' run; Ok means that the part has
  /// nothing more to do.
  std::function<base::Status(std::stop_token)> run;
  /// If set: the next part starts only after this has returned Ok (e.g. informer synced, socket
  /// listening).
  std::function<base::Status(std::stop_token)> ready = nullptr;
  /// For `ready`; none: ManagerOptions::start_limit. Who waits for a lease waits for ever.
  std::optional<base::Millis> ready_limit = std::nullopt;
};

struct ManagerOptions {
  base::Millis start_limit{120'000};  ///< For each `ready`.
  base::Millis stop_limit{8'000};     ///< For all parts together.
  const base::Clock* clock = &base::SystemClock::Get();
};

/// Starts parts in the order in which they were added and stops them in reverse order, each to its
/// end, within one time limit.
class Manager {
 public:
  explicit Manager(ManagerOptions options = {});
  ~Manager();
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  /// Before Run().
  void Add(Runnable runnable);
  /// Runs until `stop` or until a part fails. Errors: the first part's own (its name in front), or
  /// kTimeout that names the parts which did not start or stop in time; their threads are then left
  /// behind, and the caller should end the process without destroying what they use.
  base::Status Run(std::stop_token stop);
  /// True between "all parts are ready" and the stop.
  bool Ready() const;
  /// False once a part did not end in time after it was asked to, or said so of what it runs: its
  /// work may still go on.
  bool StoppedCleanly() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace runtime
