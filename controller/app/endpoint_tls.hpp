#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "http/server/server.hpp"
#include "kube/client.hpp"
#include "runtime/metrics.hpp"
#include "server/certificate_keeper.hpp"

namespace app {

/// TLS of the operator's HTTP API: the keeper, its own client (certificates are every replica's
/// matter, so no leader's fence applies), the CA file beside the data, and metrics.
class EndpointTls {
 public:
  /// Reads or makes the authority and signs the first certificate; tries until `stop`.
  static base::Result<std::unique_ptr<EndpointTls>> Open(const kube::ClientConfig& api,
                                                         server::CertificateOptions options,
                                                         const std::string& data_dir,
                                                         runtime::Metrics& metrics,
                                                         std::stop_token stop);

  const http::TlsMaterial& First() const { return first_; }
  /// PEM of what agents have to trust, as of now. Thread safe.
  std::string Bundle() const { return keeper_->Bundle(); }
  /// The same as a file, for agents on this machine; kept up to date.
  const std::string& BundlePath() const { return bundle_path_; }
  base::Status Run(http::Server& server, std::stop_token stop);

 private:
  EndpointTls() = default;
  void WriteBundle();

  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<server::CertificateKeeper> keeper_;
  http::TlsMaterial first_;
  std::string bundle_path_, written_;
  runtime::Metrics::Collector gauges_;
};

}  // namespace app
