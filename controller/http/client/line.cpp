#include "http/client/line.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <utility>
// Asio 1.74 needs <utility> before it.
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "http/client/client_tls.hpp"
#include "http/client/dialer.hpp"

namespace http {
namespace {

namespace net = boost::asio;
using ErrorCode = boost::system::error_code;
using Tcp = net::ip::tcp;

base::Error Late(const std::string& what) {
  return base::MakeError(base::Code::kTimeout, what + ": no answer in time");
}

/// Looks the name up, connects, talks to the proxy: what cannot be done with a poll alone.
class Connecting {
 public:
  explicit Connecting(const Route& route) : dialer_(io_, route) {}

  base::Result<base::UniqueFd> Run(const std::string& what, Line::Until until,
                                   const std::stop_token& stop) {
    timer_.expires_at(until);
    timer_.async_wait([&](const ErrorCode& code) {
      if (!code) End(Late(what));
    });
    const std::stop_callback wake(stop, [&] {
      net::post(io_, [&] { End(base::MakeError(base::Code::kCancelled, what + ": cancelled")); });
    });
    dialer_.Run(socket_, [&](const std::string& why) {
      if (!why.empty())
        return End(base::MakeError(base::Code::kUnavailable, what + ": " + why, "ConnectFailed"));
      connected_ = !ended_;
      End({});
    });
    io_.run();
    if (!connected_) return *std::move(error_);
    ErrorCode failed;
    socket_.native_non_blocking(true, failed);
    base::UniqueFd fd(socket_.release(failed));
    if (!fd.Valid()) return ConnectionBroke(what);
    return fd;
  }

 private:
  /// The first cause counts.
  void End(std::optional<base::Error> error) {
    if (std::exchange(ended_, true)) return;
    error_ = std::move(error);
    timer_.cancel();
    dialer_.Cancel();
    ErrorCode ignored;
    if (!connected_) socket_.close(ignored);
  }

  net::io_context io_{1};
  Dialer dialer_;
  Tcp::socket socket_{io_};
  net::steady_timer timer_{io_};
  std::optional<base::Error> error_;
  bool connected_ = false;
  bool ended_ = false;
};

}  // namespace

base::Result<std::unique_ptr<Line>> Line::Dial(const DirectServer& server, const std::string& what,
                                               Until until, const std::stop_token& stop) {
  auto fd = Connecting(server.route).Run(what, until, stop);
  if (!fd) return std::move(fd).error();
  std::unique_ptr<Line> line(new Line(*std::move(fd), server));
  if (!server.route.place.tls) return line;
  const std::stop_callback wake(stop, [&] { line->Interrupt(); });
  if (auto failed = line->ShakeHands(what, until)) {
    if (stop.stop_requested()) return base::MakeError(base::Code::kCancelled, what + ": cancelled");
    return *std::move(failed);
  }
  return line;
}

std::optional<base::Error> Line::ShakeHands(const std::string& what, Until until) {
  while (true) {
    switch (const auto io = transport_.Handshake()) {
      case Transport::Io::kOk:
        return std::nullopt;
      case Transport::Io::kWantRead:
      case Transport::Io::kWantWrite:
        if (!Await(io, until)) return Late(what);
        break;
      case Transport::Io::kEnd:
        return ConnectionBroke(what);
      case Transport::Io::kBroken: {
        // A peer that hangs up amid the handshake has refused nothing.
        const unsigned long why = ERR_peek_error();
        if (why == 0 || ERR_GET_REASON(why) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
          return ConnectionBroke(what);
        return base::MakeError(base::Code::kUnauthorized, what + ": " + kTlsFailureText,
                               "TlsFailure");
      }
    }
  }
}

bool Line::SendAll(std::string_view bytes, Until until) {
  while (!bytes.empty()) {
    const auto sent = transport_.Send(bytes);
    if (sent.io == Transport::Io::kOk)
      bytes.remove_prefix(sent.bytes);
    else if (sent.io != Transport::Io::kWantRead && sent.io != Transport::Io::kWantWrite)
      return false;
    else if (!Await(sent.io, until))
      return false;
  }
  return true;
}

bool Line::Await(Transport::Io wanted, Until until) {
  const short event = wanted == Transport::Io::kWantWrite ? POLLOUT : POLLIN;
  while (true) {
    const auto left = std::chrono::ceil<base::Millis>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd waited[] = {{transport_.Fd(), event, 0}, {end_fd_, POLLIN, 0}};  // -1 is passed over.
    const int ready =
        ::poll(waited, 2, static_cast<int>(std::min<int64_t>(left.count(), 3'600'000)));
    if (ready > 0 && waited[0].revents == 0) return false;
    if (ready > 0 || (ready < 0 && errno != EINTR)) return true;
  }
}

bool Line::Quiet() const {
  char byte = 0;
  const ssize_t got = ::recv(transport_.Fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && !transport_.Pending();
}

void Line::Interrupt() { ::shutdown(transport_.Fd(), SHUT_RDWR); }

}  // namespace http
