#include "http/client/address_race.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <vector>

#include "base/file.hpp"

namespace {

using Tcp = http::AddressRace::Tcp;
using std::chrono::steady_clock;

Tcp::endpoint EndpointOf(uint16_t port) { return {boost::asio::ip::address_v4::loopback(), port}; }

/// Takes connections, or lets every SYN fall: its queue is full.
class Listener {
 public:
  enum class Kind { kOpen, kSilent };
  explicit Listener(Kind kind) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    REQUIRE(::bind(fd_.Get(), reinterpret_cast<sockaddr*>(&at), size) == 0);
    REQUIRE(::listen(fd_.Get(), kind == Kind::kOpen ? 16 : 0) == 0);
    REQUIRE(::getsockname(fd_.Get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
    port_ = ntohs(at.sin_port);
    while (kind == Kind::kSilent) {
      REQUIRE(fill_.size() < 16);
      fill_.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      (void)::connect(fill_.back().Get(), reinterpret_cast<sockaddr*>(&at), size);
      pollfd waited{fill_.back().Get(), POLLOUT, 0};
      if (::poll(&waited, 1, 50) == 0) break;
    }
  }
  Tcp::endpoint At() const { return EndpointOf(port_); }

 private:
  base::UniqueFd fd_;
  std::vector<base::UniqueFd> fill_;
  uint16_t port_ = 0;
};

/// Nobody listens there any more.
Tcp::endpoint Refusing() { return Listener(Listener::Kind::kOpen).At(); }

struct Outcome {
  int calls = 0;
  boost::system::error_code code;
  uint16_t port = 0;  ///< Connected to; 0: to none.
  base::Millis took{0};
};

Outcome Race(std::vector<Tcp::endpoint> addresses, base::Millis cancel_after = base::Millis{0}) {
  boost::asio::io_context io;
  Tcp::socket socket(io);
  http::AddressRace race(io);
  boost::asio::steady_timer timer(io);
  if (cancel_after.count() > 0) {
    timer.expires_after(cancel_after);
    timer.async_wait([&](const auto&) { race.Cancel(); });
  }
  Outcome outcome;
  const auto begin = steady_clock::now();
  race.Run(std::move(addresses), socket, [&](const boost::system::error_code& code) {
    ++outcome.calls;
    outcome.code = code;
    outcome.took = std::chrono::duration_cast<base::Millis>(steady_clock::now() - begin);
  });
  io.run();  // Until nothing is left of it: no attempt, no timer.
  boost::system::error_code none;
  if (socket.is_open()) outcome.port = socket.remote_endpoint(none).port();
  return outcome;
}

}  // namespace

TEST_CASE("the first address that answers is taken, in the order of the addresses") {
  const Listener open(Listener::Kind::kOpen), other(Listener::Kind::kOpen);
  const Listener silent(Listener::Kind::kSilent), silent2(Listener::Kind::kSilent);
  struct Row {
    const char* what;
    std::vector<Tcp::endpoint> addresses;
    uint16_t port;
    base::Millis least, most;  ///< The kernel sends a lost SYN again after a second.
  };
  const base::Millis once = http::AddressRace::kHeadStart, soon{200};
  const std::vector<Row> rows = {
      {"one", {open.At()}, open.At().port(), {}, soon},
      {"two", {open.At(), other.At()}, open.At().port(), {}, soon},
      {"refused", {Refusing(), Refusing(), open.At()}, open.At().port(), {}, soon},
      {"silent", {silent.At(), open.At()}, open.At().port(), once, base::Millis{900}},
      {"silent twice",
       {silent.At(), silent2.At(), open.At()},
       open.At().port(),
       2 * once,
       base::Millis{950}},
      {"silent, refused",
       {silent.At(), Refusing(), open.At()},
       open.At().port(),
       once,
       base::Millis{900}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const Outcome outcome = Race(row.addresses);
    CHECK(outcome.calls == 1);
    CHECK_FALSE(outcome.code);
    CHECK(outcome.port == row.port);
    CHECK(outcome.took >= row.least);
    WARN(outcome.took < row.most);
  }
}

TEST_CASE("a race that nobody wins tells it once") {
  const Listener silent(Listener::Kind::kSilent);
  const Outcome refused = Race({Refusing(), Refusing()});
  CHECK(refused.calls == 1);
  CHECK(refused.code == boost::asio::error::connection_refused);
  CHECK(refused.port == 0);
  CHECK(Race({}).code == boost::asio::error::host_not_found);
  // By then both are being tried.
  const Outcome cancelled =
      Race({silent.At(), silent.At()}, http::AddressRace::kHeadStart + base::Millis{50});
  CHECK(cancelled.calls == 1);
  CHECK(cancelled.code == boost::asio::error::operation_aborted);
  CHECK(cancelled.port == 0);
}

TEST_CASE("of many silent addresses only some are tried at once") {
  const Listener silent(Listener::Kind::kSilent), open(Listener::Kind::kOpen);
  std::vector<Tcp::endpoint> addresses(http::AddressRace::kMostAtOnce, silent.At());
  addresses.push_back(open.At());
  const Outcome outcome = Race(addresses, base::Millis{250 * 10});
  CHECK(outcome.calls == 1);
  CHECK(outcome.port == 0);
}
