#pragma once

#include <openssl/types.h>

#include <memory>
#include <string>

#include "base/result.hpp"
#include "http/client/client.hpp"
#include "http/client/route.hpp"

/// Inside this folder only: a request that the calling thread sends by itself, without cpprestsdk.
namespace http {

struct DirectServer {
  Route route;
  std::string name;              ///< That the certificate must bear, and the Host header if
                                 ///< it is not the place's; empty: the place's.
  std::shared_ptr<SSL_CTX> tls;  ///< Null: plain.
  size_t response_limit = 0;     ///< Bytes of a body that is collected.

  const std::string& VerifiedName() const { return name.empty() ? route.place.host : name; }
};

/// `GET host:port/path`, for messages.
std::string CallText(const DirectServer& server, const Request& request);

/// Head and body as they go out (RFC 9112). kInvalid: a target or header that would end its line.
base::Result<std::string> ComposeRequest(const DirectServer& server, const Request& request);

/// kUnavailable with reason ConnectionLost; `what` is the CallText().
base::Error ConnectionBroke(const std::string& what);

}  // namespace http
