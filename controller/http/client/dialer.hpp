#pragma once

#include <functional>
#include <string>
#include <utility>
// Asio 1.74 needs <utility> before it.
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "http/client/address_race.hpp"
#include "http/client/route.hpp"

/// Inside this folder only: a connection that one call has for itself, on an io_context of its own.
namespace http {

class Dialer {
 public:
  using Done = std::function<void(const std::string& why)>;  ///< Empty: the way is open.

  /// Both outlive it.
  Dialer(boost::asio::io_context& io, const Route& route)
      : route_(route), resolver_(io), race_(io) {}
  /// Connects `socket`, and has the proxy open a tunnel if the route has one. Then calls `done`
  /// once. Closing the socket and Cancel() end it.
  void Run(boost::asio::ip::tcp::socket& socket, Done done);
  void Cancel() {
    cancelled_ = true;
    resolver_.cancel();
    race_.Cancel();
  }

 private:
  void Connected(boost::asio::ip::tcp::socket& socket, const Done& done);

  const Route& route_;
  boost::asio::ip::tcp::resolver resolver_;
  AddressRace race_;
  std::string talk_;  ///< With the proxy.
  bool cancelled_ = false;
};

}  // namespace http
