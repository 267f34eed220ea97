#include "http/client/dialer.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>

namespace http {
namespace {

namespace net = boost::asio;
using ErrorCode = boost::system::error_code;
using Tcp = net::ip::tcp;

constexpr size_t kProxyHeadLimit = 16 << 10;

}  // namespace

void Dialer::Run(Tcp::socket& socket, Done done) {
  const Place& first = route_.proxy ? route_.proxy->place : route_.place;
  auto connected = [this, &socket, &first, done](const ErrorCode& code) {
    if (!code) return Connected(socket, done);
    const std::string whom = route_.proxy ? " to the proxy " + first.Authority() : "";
    done("cannot connect" + whom + ": " + code.message());
  };
  ErrorCode not_numeric;
  const auto address = net::ip::make_address(first.host, not_numeric);
  if (!not_numeric) {
    const auto port = static_cast<uint16_t>(std::strtoul(first.port.c_str(), nullptr, 10));
    return race_.Run({{address, port}}, socket, std::move(connected));
  }
  resolver_.async_resolve(first.host, first.port,
                          [this, &socket, connected = std::move(connected)](
                              const ErrorCode& code, Tcp::resolver::results_type found) {
                            if (code || cancelled_)
                              return connected(code ? code : net::error::operation_aborted);
                            race_.Run({found.begin(), found.end()}, socket, connected);
                          });
}

void Dialer::Connected(Tcp::socket& socket, const Done& done) {
  ErrorCode ignored;
  socket.set_option(Tcp::no_delay(true), ignored);
  if (!route_.proxy) return done({});
  talk_ = ComposeConnect(route_);
  const auto broke = [this, done] {
    done("the proxy " + route_.proxy->place.Authority() + " broke the connection");
  };
  net::async_write(socket, net::buffer(talk_), [=, this, &socket](const ErrorCode& code, size_t) {
    if (code) return broke();
    talk_.clear();
    net::async_read_until(socket, net::dynamic_buffer(talk_, kProxyHeadLimit), "\r\n\r\n",
                          [=, this](const ErrorCode& failed, size_t head) {
                            if (failed) return broke();
                            const std::string why = WhyNoTunnel(route_, talk_);
                            // Beyond the tunnel it is we who speak first.
                            if (why.empty() && talk_.size() > head) return broke();
                            done(why);
                          });
  });
}

}  // namespace http
