#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "runtime/lease_lock.hpp"

namespace runtime {

class Metrics;

struct LeaderElectionOptions {
  std::string name;                     ///< Of the Lease, for metrics and messages.
  std::string identity;                 ///< Unique for each process, not only for each machine.
  base::Millis lease_duration{15'000};  ///< Others wait this long after the last renewal.
  base::Millis renew_deadline{10'000};  ///< Without a renewal for this long we stop leading.
  base::Millis retry_period{2'000};     ///< Between renewals, and (shortened by jitter) looks.
  const base::Clock* clock = &base::BootClock::Get();
  Metrics* metrics = nullptr;
  uint64_t jitter_seed = 0;
  /// Asked when stopping: whether all work of the leader has ended, so that the lease may be given
  /// back. Empty: yes.
  std::function<bool()> may_release = nullptr;
  /// Called with each renewal: the moment (on `clock`) at which this process must not run any more
  /// unless it is called again. Half-way between renew_deadline and lease_duration: after the fence
  /// has closed, before anybody else can lead. Nothing: the danger is over.
  std::function<void(std::optional<base::MonoTime>)> die_at = nullptr;
  /// Called (on the thread of Run) when another holder is seen, ourselves included.
  std::function<void(const LeaseRecord&)> on_new_leader = nullptr;
};

/// kInvalid unless lease_duration > renew_deadline > 1.2 * retry_period; names what to change.
base::Status ValidateLeaderElection(const LeaderElectionOptions& options);

/// What is known of the leader.
struct LeaderView {
  std::string identity;
  std::string address;
  bool ours = false;
  bool valid = false;  ///< Its lease has not run out, as far as we can see.
};

/// Contends for one Lease, keeps it, and fences the writes of a process that may have lost it.
///
///   observing --Contend()--> contending --free, or unchanged for its own duration--> leading
///                                ^ 409                                                  |
///                                +------                     renew_deadline without a renewal,
///                                                            or another holder: lost (Run fails)
///
/// Time is only ever our own: a record counts from the moment we saw it change, on a clock that
/// goes on while the machine sleeps. Renewals count from the moment they were sent.
///
/// Threads: Run() works on its caller's thread; everything else may be called from any thread.
class LeaderElector {
 public:
  LeaderElector(LeaderElectionOptions options, LeaseLock& lock);
  ~LeaderElector();
  LeaderElector(const LeaderElector&) = delete;
  LeaderElector& operator=(const LeaderElector&) = delete;

  /// Observes until Contend(), then contends and keeps the lease until `stop`, and gives it back
  /// then. Ok after an orderly stop; kUnavailable with reason LeaseLost when the lease was lost:
  /// the process must end.
  base::Status Run(std::stop_token stop);
  /// From now on we want to lead: caches are warm. `address` is published with the lease: where
  /// others find the leader.
  void Contend(std::string address = "");
  /// Ok when leading; kCancelled on stop; LeaseLost when it is too late already.
  base::Status WaitUntilLeading(std::stop_token stop) const;

  /// The fence: how much longer a write that starts now may take, so that it cannot reach the
  /// server in another leader's time. kUnavailable with reason NotLeader when we do not lead, or
  /// the last renewal was sent longer ago than renew_deadline. Cheap, lock free.
  base::Result<base::Millis> MayWrite() const;
  bool Leading() const { return MayWrite().has_value(); }
  LeaderView Leader() const;
  /// For the liveness probe: a leader that has neither renewed nor ended within lease_duration and
  /// a half is stuck.
  base::Status Healthy() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace runtime
