#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "http/client/direct_request.hpp"
#include "http/transport.hpp"

/// Inside this folder only: one connection of a client, worked by the thread that uses it.
namespace http {

class Line {
 public:
  using Until = base::MonoTime;  ///< How long a wait may last.

  /// Connects, and shakes hands if the server is TLS. Errors, named by `what`: kUnavailable with
  /// reason ConnectFailed or ConnectionLost, kUnauthorized TlsFailure, kTimeout, kCancelled.
  static base::Result<std::unique_ptr<Line>> Dial(const DirectServer& server,
                                                  const std::string& what, Until until,
                                                  const std::stop_token& stop);

  /// What is there; never waits (Io::kWantRead: nothing).
  Transport::Count Receive(char* to, size_t room) { return transport_.Receive(to, room); }
  /// False: it broke or was interrupted, or the time is over.
  bool SendAll(std::string_view bytes, Until until);
  /// Until what Receive() wants (kWantRead, kWantWrite) may be there. False: the time is over. True
  /// after Interrupt(), too.
  bool Await(Transport::Io wanted, Until until);
  /// Nothing has come: neither an end, nor what nobody asked for. (The tickets of a TLS 1.3 session
  /// count as something: they come with the first answer.)
  bool Quiet() const;
  /// From now on waits end (false) as soon as `fd` is readable, too; -1: as before. Not owned.
  void EndsWith(int fd) { end_fd_ = fd; }
  /// From any thread: whatever waits here goes on at once, and the connection is of no use any
  /// more.
  void Interrupt();

 private:
  Line(base::UniqueFd fd, const DirectServer& server)
      : transport_(std::move(fd), server.tls.get(), server.VerifiedName()) {}
  std::optional<base::Error> ShakeHands(const std::string& what, Until until);

  Transport transport_;
  int end_fd_ = -1;
};

}  // namespace http
