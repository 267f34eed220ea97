#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apiserver/store/store.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"

namespace apiserver {

struct ApiServerOptions {
  std::string data_dir;  ///< Made 0700: database, lock, CA, token, kubeconfig.
  std::string address =
      "127.0.0.1";    ///< An IP literal; the serving certificate is also for ::1 and localhost.
  uint16_t port = 0;  ///< 0: any free one; see Port().
  std::vector<std::string> crds;  ///< YAML (or JSON) texts of CustomResourceDefinitions; one text
                                  ///< may hold several documents.
  std::vector<std::string> namespaces = {"default"};  ///< Made at start.
  std::string tokens_file;                 ///< Further tokens (TokenTable::Load), or empty.
  std::string server_version = "v1.34.0";  ///< gitVersion of /version: the Kubernetes API level.
  base::Seconds event_ttl{3600};
  size_t event_limit = 5000;  ///< Events kept; the oldest go first.
  base::Seconds bookmark_period{60};
  size_t watch_buffer_limit = 8 << 20;  ///< Bytes a watcher may leave unread before it is closed.
  size_t body_limit = 3 << 20;
  size_t connection_limit = 1024;
  int worker_threads = 4;
  StoreOptions store;  ///< data_dir in it is ignored.
};

/// The embedded Kubernetes API over loopback HTTPS: namespaces, secrets, configmaps, events,
/// leases, the CRDs (read only), the kinds that the given CRDs define, and the review APIs.
/// Generic: knows no kind of ours.
///
/// Start makes (and at later starts keeps) in data_dir: ca.crt and ca.key, admin.token and
/// operator.token (all secrets 0600), kubeconfig (0600, user admin, rewritten at each start since
/// the port may change) and operator.kubeconfig (0600: user system:serviceaccount-like
/// "molecule:operator", group system:masters; what the controllers of the same process use). Both
/// kubeconfigs embed CA and token.
class ApiServer {
 public:
  /// Errors: those of Store::Open, http::Server::Start (PortInUse), kInvalid for a CRD that is not
  /// understood (named).
  static base::Result<std::unique_ptr<ApiServer>> Start(
      ApiServerOptions options, const base::Clock& clock = base::SystemClock::Get());
  ~ApiServer();
  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;

  uint16_t Port() const;
  /// "https://127.0.0.1:PORT"
  const std::string& Url() const;
  std::string KubeconfigPath() const;          ///< For people: data_dir/kubeconfig.
  std::string OperatorKubeconfigPath() const;  ///< For the controllers of this process.
  /// Empty when it can serve and write; else why not (the store's trouble): for readiness.
  std::string NotReady() const;
  /// What could not be understood of the CRDs' validation rules, `kind: path: rule: why`; such
  /// rules refuse the writes they guard.
  std::vector<std::string> BrokenRules() const;
  /// Ends watches, finishes requests for at most 5 s, closes the store. Idempotent.
  void Stop();

 private:
  struct Impl;
  explicit ApiServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace apiserver
