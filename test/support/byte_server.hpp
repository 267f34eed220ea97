#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace support {

/// One HTTP/1.1 request as it came in.
struct ByteRequest {
  std::string method, target, head, body;
  bool Has(std::string_view part) const { return target.find(part) != std::string::npos; }
};

/// A connection of a ByteServer: every byte, cut and silence is the script's.
class ByteConnection {
 public:
  ByteConnection(int fd, const std::function<bool()>& stopping) : fd_(fd), stopping_(stopping) {
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  /// False when the peer is gone.
  bool Send(std::string_view bytes) {
    while (!bytes.empty() && !over_) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) {
        over_ = true;
        return false;
      }
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return !over_;
  }
  /// In packets of `size` bytes each.
  bool SendSplit(std::string_view bytes, size_t size) {
    for (; !bytes.empty(); bytes.remove_prefix(std::min(size, bytes.size())))
      if (!Send(bytes.substr(0, size))) return false;
    return true;
  }
  /// A whole answer.
  bool Answer(int status, std::string_view body, std::string_view headers = "") {
    return Send("HTTP/1.1 " + std::to_string(status) +
                " Scripted\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
                std::string(headers) + "\r\n" + std::string(body));
  }
  /// The head of a stream in chunks.
  bool BeginStream() {
    return Send(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: "
        "chunked\r\n\r\n");
  }
  static std::string Chunk(std::string_view bytes) {
    char size[20];
    const auto end = std::to_chars(size, size + sizeof size, bytes.size(), 16).ptr;
    return std::string(size, end) + "\r\n" + std::string(bytes) + "\r\n";
  }
  bool SendChunk(std::string_view bytes) { return Send(Chunk(bytes)); }
  bool EndStream() { return Send("0\r\n\r\n"); }
  /// A reset: what is on its way is lost.
  void Reset() {
    const linger hard{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    over_ = true;
  }
  /// The end of the connection, wherever the answer is.
  void Close() { over_ = true; }
  /// Half open: nothing is sent until the peer has gone or the server ends.
  void FallSilent() {
    while (!over_ && !stopping_()) StaySilent(20);
  }
  /// For so many milliseconds, unless the peer goes.
  void StaySilent(int millis) {
    pollfd poll{fd_, POLLIN, 0};
    if (stopping_()) over_ = true;
    if (over_ || ::poll(&poll, 1, millis) <= 0) return;
    char byte;
    if (::recv(fd_, &byte, 1, MSG_PEEK) <= 0) over_ = true;
    if ((poll.revents & (POLLHUP | POLLERR)) != 0) over_ = true;
  }
  bool Over() const { return over_; }
  int Fd() const { return fd_; }

 private:
  const int fd_;
  const std::function<bool()>& stopping_;
  bool over_ = false;
};

/// A server on loopback whose script decides on every byte. One thread a connection; the script is
/// called for each request and may block.
class ByteServer {
 public:
  using Script = std::function<void(ByteConnection&, const ByteRequest&)>;
  explicit ByteServer(Script script) : script_(std::move(script)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    (void)::bind(listener_, reinterpret_cast<sockaddr*>(&at), size);
    (void)::listen(listener_, 64);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size);
    port_ = ntohs(at.sin_port);
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~ByteServer() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    ::close(listener_);
  }
  ByteServer(const ByteServer&) = delete;
  ByteServer& operator=(const ByteServer&) = delete;

  std::string Url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  /// "GET /path?query" of all requests so far.
  std::vector<std::string> Requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  /// Connections that were accepted so far, and those that are open.
  size_t Accepted() const {
    const std::lock_guard lock(mutex_);
    return threads_.size();
  }
  size_t Open() const {
    const std::lock_guard lock(mutex_);
    return open_.size();
  }
  size_t Count(std::string_view part) const {
    const std::lock_guard lock(mutex_);
    return static_cast<size_t>(std::count_if(
        requests_.begin(), requests_.end(),
        [&](const std::string& request) { return request.find(part) != std::string::npos; }));
  }

 private:
  void Accept() {
    while (true) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const std::lock_guard lock(mutex_);
      if (fd < 0 || stopped_) {
        if (fd >= 0) ::close(fd);
        return;
      }
      open_.push_back(fd);
      threads_.emplace_back([this, fd] { Serve(fd); });
    }
  }
  void Serve(int fd) {
    const std::function<bool()> stopping = [this] {
      const std::lock_guard lock(mutex_);
      return stopped_;
    };
    ByteConnection connection(fd, stopping);
    std::string buffer;
    ByteRequest request;
    while (!connection.Over() && !stopping() && Read(fd, buffer, request)) {
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request.method + " " + request.target);
      }
      script_(connection, request);
    }
    const std::lock_guard lock(mutex_);
    open_.remove(fd);
    ::close(fd);
  }
  static bool Read(int fd, std::string& buffer, ByteRequest& request) {
    size_t end;
    while ((end = buffer.find("\r\n\r\n")) == std::string::npos)
      if (!Fill(fd, buffer)) return false;
    request.head = buffer.substr(0, end);
    const size_t space = request.head.find(' ');
    request.method = request.head.substr(0, space);
    request.target = request.head.substr(space + 1, request.head.find(' ', space + 1) - space - 1);
    size_t length = 0;
    std::string lower = request.head;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c | 0x20; });
    if (const size_t at = lower.find("content-length:"); at != std::string::npos) {
      const char* from = lower.data() + at + 15;
      while (*from == ' ') ++from;
      std::from_chars(from, lower.data() + lower.size(), length);
    }
    while (buffer.size() < end + 4 + length)
      if (!Fill(fd, buffer)) return false;
    request.body = buffer.substr(end + 4, length);
    buffer.erase(0, end + 4 + length);
    return true;
  }
  static bool Fill(int fd, std::string& buffer) {
    char bytes[8192];
    const ssize_t n = ::recv(fd, bytes, sizeof bytes, 0);
    if (n <= 0) return false;
    buffer.append(bytes, static_cast<size_t>(n));
    return true;
  }

  Script script_;
  int listener_ = -1;
  uint16_t port_ = 0;
  mutable std::mutex mutex_;
  bool stopped_ = false;
  std::list<int> open_;
  std::vector<std::string> requests_;
  std::list<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace support
