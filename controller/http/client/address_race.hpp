#pragma once

#include <functional>
#include <list>
#include <utility>
#include <vector>
// Asio 1.74 needs <utility> before it.
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/clock.hpp"

/// Inside this folder only: connects to the first of a name's addresses that answers (RFC 8305,
/// section 5). An address that lets packets fall would else use up all the time that a call has.
namespace http {

class AddressRace {
 public:
  using Tcp = boost::asio::ip::tcp;
  /// The next address is tried after this long without an answer; at once after a refusal.
  static constexpr base::Millis kHeadStart{250};
  static constexpr size_t kMostAtOnce = 8;
  /// Without an error: the socket is connected.
  using Done = std::function<void(const boost::system::error_code& why)>;

  /// Outlives it.
  explicit AddressRace(boost::asio::io_context& io) : io_(io), timer_(io) {}
  /// Tries the addresses in their order; puts the first connection into `socket`, which outlives
  /// the race, and calls `done` once. Of failures the last is told. Once at a time.
  void Run(std::vector<Tcp::endpoint> addresses, Tcp::socket& socket, Done done);
  /// Ends it: with `done`, unless that has been called.
  void Cancel();

 private:
  void TryNext();
  void Finished(std::list<Tcp::socket>::iterator which, const boost::system::error_code& code);
  void CloseAll();

  boost::asio::io_context& io_;
  boost::asio::steady_timer timer_;
  std::vector<Tcp::endpoint> addresses_;
  size_t next_ = 0;
  std::list<Tcp::socket> trying_;
  Tcp::socket* socket_ = nullptr;
  Done done_;  ///< Empty: it has been called.
  bool over_ = false;
};

}  // namespace http
