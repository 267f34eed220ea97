#pragma once

#include <optional>
#include <string>

#include "base/result.hpp"
#include "http/message.hpp"

/// Inside this folder only: where a connection leads to, and by which way.
namespace http {

/// Where a URL points to.
struct Place {
  bool tls = false;
  std::string host;  ///< Without brackets.
  std::string port;
  std::string Authority() const { return UrlHost(host) + ":" + port; }
};

/// `scheme://host[:port]`, http or https. Errors: kInvalid.
base::Result<Place> PlaceOf(const std::string& url);

/// A proxy that opens a tunnel to the place (CONNECT, RFC 9110 section 9.3.6).
struct Proxy {
  Place place;
  std::string user;  ///< Empty: it asks for nobody.
  std::string password;
};

/// `http://[user[:password]@]host[:port]`, the user percent-encoded. Errors: kInvalid, which repeat
/// no password.
base::Result<Proxy> ProxyOf(const std::string& url);

struct Route {
  Place place;
  std::optional<Proxy> proxy = {};
};

/// The request that opens the tunnel.
std::string ComposeConnect(const Route& route);
/// Empty, or why the proxy's answer (its head) opens none.
std::string WhyNoTunnel(const Route& route, const std::string& head);

/// The route to `url`, through `proxy_url` unless that is empty. A tunnel leads to https only.
/// Errors: kInvalid.
base::Result<Route> RouteTo(const std::string& url, const std::string& proxy_url);

}  // namespace http
