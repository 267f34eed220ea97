#include "http/dialer.hpp"

#include <cstdlib>

namespace http {

namespace net = boost::asio;
using Tcp = net::ip::tcp;

base::Result<Place> PlaceOf(const std::string& url) {
  const size_t mark = url.find("://");
  const std::string scheme = url.substr(0, mark);
  if (mark == std::string::npos || (scheme != "https" && scheme != "http"))
    return base::MakeError(base::Code::kInvalid,
                           "the URL `" + url + "` must start with http:// or https://");
  Place place{scheme == "https", url.substr(mark + 3), scheme == "https" ? "443" : "80"};
  std::string& host = place.host;
  host = host.substr(0, host.find('/'));
  if (const size_t colon = host.rfind(':');
      colon != std::string::npos && host.find(']', colon) == std::string::npos) {
    place.port = host.substr(colon + 1);
    host.resize(colon);
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty() || place.port.empty())
    return base::MakeError(base::Code::kInvalid, "malformed URL `" + url + "`");
  return place;
}

void Dialer::Run(TlsStream& stream, const Place& place, const std::string& name, Done done) {
  auto connected = [this, &stream, place, name, done](const ErrorCode& code, auto&&...) {
    if (code) return done(Step::kConnect, code);
    Secure(stream, place, name, done);
  };
  ErrorCode not_numeric;
  const auto address = net::ip::make_address(place.host, not_numeric);
  if (!not_numeric) {
    const auto port = static_cast<uint16_t>(std::strtoul(place.port.c_str(), nullptr, 10));
    return stream.next_layer().async_connect({address, port}, std::move(connected));
  }
  resolver_.async_resolve(place.host, place.port,
                          [&stream, done, connected = std::move(connected)](
                              const ErrorCode& code, Tcp::resolver::results_type found) {
                            if (code) return done(Step::kConnect, code);
                            net::async_connect(stream.next_layer(), found, connected);
                          });
}

void Dialer::Secure(TlsStream& stream, const Place& place, const std::string& name,
                    const Done& done) {
  ErrorCode ignored;
  stream.next_layer().set_option(Tcp::no_delay(true), ignored);
  if (!place.tls) return done(Step::kTls, {});
  ErrorCode not_numeric;
  net::ip::make_address(name, not_numeric);
  if (not_numeric) SSL_set_tlsext_host_name(stream.native_handle(), name.c_str());
  stream.set_verify_mode(net::ssl::verify_peer, ignored);
  stream.set_verify_callback(net::ssl::host_name_verification(name), ignored);
  stream.async_handshake(net::ssl::stream_base::client,
                         [done](const ErrorCode& code) { done(Step::kTls, code); });
}

}  // namespace http
