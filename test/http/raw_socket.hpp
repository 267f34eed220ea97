#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <string_view>

#include "base/file.hpp"

namespace http_test {

/// A TCP connection to 127.0.0.1 that sends exactly what it is told.
class RawSocket {
 public:
  explicit RawSocket(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_.Get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
  }
  bool Connected() const { return connected_; }
  int Fd() const { return fd_.Get(); }
  void Close() { fd_.Reset(); }
  void CloseWrite() { ::shutdown(fd_.Get(), SHUT_WR); }
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.Get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  /// Reads until `enough` is true for what was read, the end (then Ended()), or the deadline.
  template <typename F>
  std::string ReadUntil(F enough, int milliseconds = 5'000) {
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
    while (!enough(got_)) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now())
              .count();
      pollfd poll{fd_.Get(), POLLIN, 0};
      if (left <= 0 || ::poll(&poll, 1, static_cast<int>(left)) <= 0) break;
      char buffer[16384];
      const ssize_t count = ::recv(fd_.Get(), buffer, sizeof buffer, 0);
      if (count <= 0) {
        ended_ = true;
        break;
      }
      got_.append(buffer, static_cast<size_t>(count));
    }
    return got_;
  }
  std::string ReadToEnd(int milliseconds = 5'000) {
    return ReadUntil([](const std::string&) { return false; }, milliseconds);
  }
  std::string ReadFor(std::string_view text, int milliseconds = 5'000) {
    return ReadUntil([&](const std::string& got) { return got.find(text) != std::string::npos; },
                     milliseconds);
  }
  void Forget() { got_.clear(); }
  bool Ended() const { return ended_; }

 private:
  base::UniqueFd fd_;
  bool connected_ = false;
  bool ended_ = false;
  std::string got_;
};

inline size_t Count(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos;
       at = text.find(part, at + part.size()))
    ++count;
  return count;
}

}  // namespace http_test
