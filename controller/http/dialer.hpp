#pragma once

#include <functional>
#include <string>
#include <utility>
// Asio 1.74 needs <utility> before it.
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>

#include "base/result.hpp"

/// Inside this folder only: a connection that one call has for itself, on an io_context of its own.
namespace http {

/// Where a URL points to.
struct Place {
  bool tls = false;
  std::string host;  ///< Without brackets.
  std::string port;
  std::string Authority() const { return host + ":" + port; }
};

/// `scheme://host[:port]`, http or https. Errors: kInvalid.
base::Result<Place> PlaceOf(const std::string& url);

class Dialer {
 public:
  using ErrorCode = boost::system::error_code;
  using TlsStream = boost::asio::ssl::stream<boost::asio::ip::tcp::socket>;
  enum class Step { kConnect, kTls };
  using Done = std::function<void(Step, const ErrorCode&)>;

  explicit Dialer(boost::asio::io_context& io) : resolver_(io) {}
  /// Connects, and shakes hands if `place.tls`; the certificate must bear `name`. Then calls `done`
  /// once, with the step that failed or the last one.
  void Run(TlsStream& stream, const Place& place, const std::string& name, Done done);
  void Cancel() { resolver_.cancel(); }

 private:
  void Secure(TlsStream& stream, const Place& place, const std::string& name, const Done& done);

  boost::asio::ip::tcp::resolver resolver_;
};

}  // namespace http
