#pragma once

#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "app/cluster/election.hpp"
#include "app/settings/settings.hpp"
#include "base/result.hpp"
#include "kube/kubeconfig.hpp"
#include "runtime/timed_wait.hpp"
#include "server/certificate_keeper.hpp"

namespace app {

struct OperatorOptions {
  kube::ClientConfig api;              ///< Where the Kubernetes API is and who we are to it.
  std::string data_dir;                ///< Artifacts and scratch space.
  std::string settings_path;           ///< May be empty.
  Settings defaults;                   ///< What the mode sets.
  std::string address = "127.0.0.1";   ///< Of the operator's HTTP API.
  uint16_t port = 0;                   ///< 0: `preferred_port`, or any free one if that is taken.
  uint16_t preferred_port = 0;         ///< 0: none.
  int connections = 4096;              ///< Of the HTTP API at the same time.
  bool metrics_authorization = false;  ///< /metrics for who may read it, see ScrapeAccess.
  std::string ns;                      ///< Watch one namespace only; empty: all.
  std::string mode = "embedded";
  /// Serve the HTTP API over TLS with a certificate of our own making; absent: plain HTTP.
  std::optional<server::CertificateOptions> tls = {};
  int workers = 4;
  /// For each cache to fill, the Pod cache too; past it the run ends with reason NotReady.
  base::Millis start_limit = runtime::kLongestDelay;
  ElectionOptions election;  ///< Replicas that share a Lease; off: this process is alone.
  bool pods = false;         ///< The API serves Pods: Pod boxes are.
  /// Further readiness: says what is wrong, or nothing.
  std::function<std::string()> not_ready = nullptr;
  /// Called once when everything is synced and listening (leading or standing by), with the URL of
  /// the operator's HTTP API.
  std::function<void(const std::string& url)> on_ready = nullptr;
};

/// Runs the controllers and the operator's HTTP API until `stop`; the same in a cluster and
/// embedded (one path). Ok after an orderly stop. Errors: what could not start, named; or the part
/// that failed; kUnavailable with reason LeaseLost when another replica took over.
base::Status RunOperator(OperatorOptions options, std::stop_token stop);

}  // namespace app
