#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "support/byte_server.hpp"

namespace support {

/// A proxy on loopback that opens tunnels to loopback (CONNECT), or answers what it is told to.
class TunnelProxy {
 public:
  TunnelProxy()
      : server_([this](auto& connection, const auto& request) { On(connection, request); }) {}

  /// http://[user@]host:port
  std::string Url(const std::string& user = "") const {
    std::string url = server_.Url();
    return user.empty() ? url : url.insert(7, user + "@");
  }
  /// "CONNECT host:port" of all tunnels that were asked for.
  std::vector<std::string> Requests() const { return server_.Requests(); }
  size_t Open() const { return server_.Open(); }
  /// Instead of a tunnel, from now on; empty: a tunnel.
  void AnswerWith(std::string bytes) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(bytes);
  }
  std::string LastHead() const {
    const std::lock_guard lock(mutex_);
    return head_;
  }

 private:
  void On(ByteConnection& connection, const ByteRequest& request) {
    std::string answer;
    {
      const std::lock_guard lock(mutex_);
      head_ = request.head;
      answer = answer_;
    }
    if (answer.empty() && request.method == "CONNECT")
      Relay(connection, request.target);
    else
      connection.Send(answer.empty() ? "HTTP/1.1 405 No\r\n\r\n" : answer);
    connection.Close();
  }

  /// Until one of both ends.
  static void Relay(ByteConnection& connection, const std::string& target) {
    const uint16_t port =
        htons(static_cast<uint16_t>(std::stoi(target.substr(target.rfind(':') + 1))));
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    four.sin_port = port;
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_addr = in6addr_loopback;
    six.sin6_port = port;
    const bool to_six = target.starts_with('[');
    const int other = ::socket(to_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto* at =
        to_six ? reinterpret_cast<sockaddr*>(&six) : reinterpret_cast<sockaddr*>(&four);
    if (::connect(other, at, to_six ? sizeof six : sizeof four) == 0) {
      connection.Send("HTTP/1.1 200 Connection established\r\n\r\n");
      pollfd both[] = {{connection.Fd(), POLLIN, 0}, {other, POLLIN, 0}};
      while (::poll(both, 2, -1) > 0)
        if (!Pass(both[0], other) || !Pass(both[1], connection.Fd())) break;
    } else {
      connection.Send("HTTP/1.1 502 Bad Gateway\r\n\r\n");
    }
    ::close(other);
  }
  static bool Pass(const pollfd& from, int to) {
    if (from.revents == 0) return true;
    char bytes[16 << 10];
    const ssize_t got = ::recv(from.fd, bytes, sizeof bytes, 0);
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t more = ::send(to, bytes + sent, static_cast<size_t>(got - sent), MSG_NOSIGNAL);
      if (more <= 0) return false;
      sent += more;
    }
    return got > 0;
  }

  mutable std::mutex mutex_;
  std::string answer_, head_;  ///< By mutex_.
  ByteServer server_;
};

}  // namespace support
