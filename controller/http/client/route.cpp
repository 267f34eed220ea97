#include "http/client/route.hpp"

#include <cpprest/base_uri.h>
#include <fmt/format.h>

#include "base/base64.hpp"

namespace http {
namespace {

base::Error Invalid(const std::string& text) { return base::MakeError(base::Code::kInvalid, text); }

}  // namespace

base::Result<Place> PlaceOf(const std::string& url) {
  const size_t mark = url.find("://");
  const std::string scheme = url.substr(0, mark);
  if (mark == std::string::npos || (scheme != "https" && scheme != "http"))
    return Invalid("the URL `" + url + "` must start with http:// or https://");
  Place place{scheme == "https", url.substr(mark + 3), scheme == "https" ? "443" : "80"};
  std::string& host = place.host;
  host = host.substr(0, host.find('/'));
  if (const size_t colon = host.rfind(':');
      colon != std::string::npos && host.find(']', colon) == std::string::npos) {
    place.port = host.substr(colon + 1);
    host.resize(colon);
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty() || place.port.empty()) return Invalid("malformed URL `" + url + "`");
  return place;
}

base::Result<Proxy> ProxyOf(const std::string& url) {
  // Whatever is wrong, the text is not repeated: it may hold a password.
  const auto bad = [] {
    return Invalid("a proxy's URL must be http://[user[:password]@]host[:port]; this one is not");
  };
  try {
    const web::uri parsed(url);
    if (parsed.scheme() != "http" || parsed.host().empty() || parsed.path() != "/" ||
        !parsed.query().empty() || !parsed.fragment().empty())
      return bad();
    Proxy proxy;
    proxy.place = {false, parsed.host(), std::to_string(parsed.port() > 0 ? parsed.port() : 80)};
    std::string& host = proxy.place.host;
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    const std::string& info = parsed.user_info();
    const size_t colon = std::min(info.find(':'), info.size());
    proxy.user = web::uri::decode(info.substr(0, colon));
    if (colon < info.size()) proxy.password = web::uri::decode(info.substr(colon + 1));
    return proxy;
  } catch (const web::uri_exception&) {
    return bad();
  }
}

std::string ComposeConnect(const Route& route) {
  const std::string to = route.place.Authority();
  std::string head = fmt::format("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n", to);
  if (!route.proxy->user.empty())
    head += fmt::format("Proxy-Authorization: Basic {}\r\n",
                        base::EncodeBase64(route.proxy->user + ":" + route.proxy->password));
  return head + "\r\n";
}

std::string WhyNoTunnel(const Route& route, const std::string& head) {
  const std::string proxy = "the proxy " + route.proxy->place.Authority();
  const bool http = head.starts_with("HTTP/1.") && head.size() > 12 && head[8] == ' ';
  if (!http) return proxy + " answered something else than HTTP";
  if (head[9] == '2') return {};
  const std::string status = head.substr(9, 3);
  if (status == "407")
    return proxy + " refuses its user or password (407); correct those of proxy-url";
  return fmt::format("{} opens no tunnel to {}: it answered {}", proxy, route.place.Authority(),
                     status);
}

base::Result<Route> RouteTo(const std::string& url, const std::string& proxy_url) {
  auto place = PlaceOf(url);
  if (!place) return std::move(place).error();
  if (proxy_url.empty()) return Route{*std::move(place)};
  if (!place->tls) return Invalid("a proxy leads to https:// URLs only, not to `" + url + "`");
  auto proxy = ProxyOf(proxy_url);
  if (!proxy) return std::move(proxy).error();
  return Route{*std::move(place), *std::move(proxy)};
}

}  // namespace http
