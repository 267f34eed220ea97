#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "agent/agent.hpp"
#include "base/result.hpp"
#include "http/client.hpp"

/// Private to agent/: the connection to the operator.
namespace agent {

/// Sends with the token of the token file; after a 401 the file is read again and the request sent
/// once more if it has changed. Thread safe.
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
  OperatorLink(const AgentOptions& options, std::unique_ptr<http::Client> client)
      : options_(options), client_(std::move(client)) {}
  base::Result<std::string> ReadToken() const;
  base::Result<http::Response> Fetch(const http::Request& request, int fd, std::stop_token stop);

  const AgentOptions& options_;
  std::unique_ptr<http::Client> client_;
};

}  // namespace agent
