#pragma once

#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "agent/agent.hpp"
#include "base/result.hpp"
#include "http/client/client.hpp"

/// Private to agent/: the connection to the operator.
namespace agent {

/// Sends with the token of the token file; after a 401 the file is read again and the request sent
/// once more if it has changed. The CA file is read before each request: an authority may be
/// rotated beneath a running agent. Thread safe.
class OperatorLink {
 public:
  static base::Result<std::unique_ptr<OperatorLink>> Open(const AgentOptions& options);

  /// Any HTTP status is a value. kNotFound with reason TokenMissing: there is no token yet.
  base::Result<http::Response> Post(const std::string& path, const std::string& body,
                                    std::stop_token stop);
  /// GETs into a new file (0600) and checks that the answer's ETag is `digest`.
  base::Status Download(const std::string& path, const std::string& digest, const std::string& file,
                        std::stop_token stop);

 private:
  explicit OperatorLink(const AgentOptions& options) : options_(options) {}
  /// The client for what the CA file says now; a file that is gone or bad keeps the last good one.
  base::Result<std::shared_ptr<http::Client>> CurrentClient();
  base::Result<std::string> ReadToken() const;
  base::Result<http::Response> Fetch(const http::Request& request, int fd, std::stop_token stop);

  const AgentOptions& options_;
  std::mutex mutex_;
  std::string ca_pem_;                    ///< By mutex_: what client_ trusts.
  std::shared_ptr<http::Client> client_;  ///< By mutex_.
};

}  // namespace agent
