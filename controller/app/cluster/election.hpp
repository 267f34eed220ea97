#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.hpp"
#include "base/dead_man_timer.hpp"
#include "base/result.hpp"
#include "kube/client.hpp"
#include "runtime/event_recorder.hpp"
#include "runtime/leader_election.hpp"
#include "runtime/metrics.hpp"
#include "server/leader_link.hpp"

namespace app {

/// How replicas agree on who works. Off: this process is alone.
struct ElectionOptions {
  bool on = false;
  std::string ns;  ///< Of the Lease; empty: the client's default namespace.
  std::string name = "workspace-operator";  ///< Of the Lease.
  base::Millis lease_duration{15'000};
  base::Millis renew_deadline{10'000};
  base::Millis retry_period{2'000};
  /// Where other replicas reach this one's HTTP API; empty: from the address it listens on.
  std::string advertise_url;
};

/// The election of one operator process, with a client of its own: renewals wait for nothing else,
/// and are not fenced by themselves.
class Election {
 public:
  struct Needs {
    kube::ClientConfig api;
    kube::ClientOptions client;
    runtime::Metrics* metrics = nullptr;
    std::function<bool()> may_release;
  };
  static base::Result<std::unique_ptr<Election>> Open(const ElectionOptions& options, Needs needs);

  runtime::LeaderElector& Elector() { return *elector_; }
  /// Contends, waits until we lead, and records an Event on the Lease. `own`: where our HTTP API
  /// listens. kCancelled on stop, LeaseLost.
  base::Status Lead(const std::string& own, runtime::EventRecorder& events, std::stop_token stop);
  /// A write or a program that changes a box, which we have begun, and of which we do not know
  /// whether it has ended: until the lease would run out at the latest, nobody else may lead. Any
  /// thread.
  void NoteLostEffect();
  /// Who answers requests that only the leader can answer. Any thread.
  server::Leadership Who() const;

 private:
  std::string identity_, ns_, name_, advertise_;
  std::atomic<int64_t> lost_effect_{0};  ///< When the last one was lost: nanoseconds, 0: none.
  base::DeadManTimer timer_;
  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<runtime::LeaseLock> lock_;
  std::unique_ptr<runtime::LeaderElector> elector_;
};

/// The URL under which other replicas reach the server that listens at `own`: `advertise` if set;
/// where the address of `own` means "all", it is replaced by $POD_IP, or else the machine's name.
std::string AdvertisedUrl(const std::string& advertise, const std::string& own);

}  // namespace app
