#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "http/message.hpp"

namespace http {

struct ClientOptions {
  std::string base_url = {};  ///< http://host:port or https://host:port, no path.
  std::string ca_pem = {};    ///< The only roots trusted (https); empty: the system's roots.
  std::string client_certificate_pem = {};  ///< With client_key_pem, or empty.
  std::string client_key_pem = {};
  std::string server_name = {};  ///< Name to verify if it differs from the URL's host.
  /// http://[user[:password]@]host[:port] that opens tunnels (CONNECT); https base URLs only. Then,
  /// and to an IPv6 address ([...] in the URL), Send() uses at most 16 connections at once, worked
  /// by the calling threads.
  std::string proxy_url = {};
  size_t response_limit = 64 << 20;  ///< Bytes of one body; more is kInvalid.
  /// Send() uses at most so many kept connections, worked by the calling threads, instead of
  /// cpprestsdk's pool: nothing is sent twice, and one caller does not wait behind others. 0: the
  /// pool.
  int own_connections = 0;
};

/// Receives body bytes as they arrive; returning false ends the request (kCancelled). Runs on the
/// thread that called; may block (back-pressure).
using BodySink = std::function<bool(std::string_view bytes)>;

struct CallOptions {
  base::Millis deadline{30'000};  ///< Total, for Send; for Stream: until the response head.
  base::Millis idle{300'000};     ///< Stream only: longest silence between body bytes.
  std::stop_token stop = {};
  /// Send over `own_connections` only: what is sent may happen whether its answer is heard or not,
  /// so after `stop` the answer is awaited for so much longer. Nothing is sent any more.
  base::Millis stop_grace{0};
};

/// Reason of errors by which nothing was sent (over `own_connections`), beside ConnectFailed and
/// TlsFailure.
inline constexpr char kNotSent[] = "NotSent";

/// An HTTP client for one server (cpprestsdk http_client behind it): pooled keep-alive connections,
/// total deadlines, prompt cancellation. Thread safe. SIGPIPE is ignored from the first one on. The
/// library sends a request again if a kept connection was closed without an answer, whatever its
/// method: what must not happen twice goes over `own_connections`.
/// Errors: kTimeout, kCancelled, kUnavailable (refused, DNS, reset), kUnauthorized with reason
/// TlsFailure (certificate), kInvalid (too large).
class Client {
 public:
  static base::Result<std::unique_ptr<Client>> Create(ClientOptions options);
  virtual ~Client() = default;
  /// Any HTTP status is a value here.
  virtual base::Result<Response> Send(const Request& request, const CallOptions& call) = 0;
  /// Streams the body of a 2xx response into `sink` until it ends (value: head without body); for
  /// other statuses the body is collected. On the calling thread, over a connection of its own.
  virtual base::Result<Response> Stream(const Request& request, const CallOptions& call,
                                        const BodySink& sink) = 0;
};

/// To be called as the first statement of main: sizes cpprestsdk's pool (its default is 40
/// threads).
void InitialiseClientThreads(int threads);

}  // namespace http
