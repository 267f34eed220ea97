#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "http/message.hpp"

namespace http {

/// PEM texts. Swapped whole on rotation.
struct TlsMaterial {
  std::string certificate_chain_pem;
  std::string private_key_pem;
  std::string client_ca_pem;  ///< Empty: client certificates are not asked for.
};

struct ServerOptions {
  /// An IP address. 0.0.0.0: all of IPv4; ::: all of both families, or of IPv4 where there is no
  /// IPv6.
  std::string address = "127.0.0.1";
  uint16_t port = 0;                    ///< 0: any free one; see Server::Port().
  std::optional<TlsMaterial> tls = {};  ///< Absent: plain HTTP.
  int io_threads = 1;
  int worker_threads = 4;          ///< For handlers started with Mode::kWorker.
  size_t header_limit = 16 << 10;  ///< Bytes; over it 431 and close.
  size_t body_limit = 1 << 20;     ///< Bytes; over it 413 and close, before the body is read where
                                   ///< Content-Length says so.
  size_t total_body_limit =
      256 << 20;  ///< Bytes of all bodies being read or handled; over it 503 with Retry-After.
  size_t connection_limit = 4096;  ///< Over it the longest idle one is closed for each new one; if
                                   ///< none is idle, accept pauses.
  size_t in_flight_limit =
      1024;  ///< Worker requests queued or running; over it 503 with Retry-After.
  base::Millis header_deadline{10'000};  ///< From the first byte (or accept) to the end of the
                                         ///< headers, TLS handshake included.
  base::Millis body_deadline{30'000};
  base::Millis idle_deadline{90'000};   ///< Between requests on a kept connection.
  base::Millis write_deadline{30'000};  ///< No progress of a write.
};

/// A long answer in pieces (watches). Thread safe. The server closes it when the peer goes away or
/// does not read (more than `buffer_limit` bytes unsent). Dropping it without Finish cuts the
/// connection, so that the peer sees a truncated body.
class ResponseStream {
 public:
  virtual ~ResponseStream() = default;
  /// Queues bytes as one chunk; false if the stream is over (peer gone, too slow, server stopping).
  virtual bool Write(std::string bytes) = 0;
  /// Waits until `bytes` more can be queued, or nothing is unsent (a guess may be too large). False
  /// if the stream is over, or at `until`. For worker threads.
  virtual bool AwaitRoom(size_t bytes, base::MonoTime until) = 0;
  virtual bool Open() const = 0;
  /// Ends the body orderly.
  virtual void Finish() = 0;
  /// Called once, from any thread, when the stream is over for whatever reason. Set it before the
  /// first Write.
  virtual void OnClosed(std::function<void()> callback) = 0;
};

/// Answers one request, once, from any thread. Dropping it unanswered sends 500.
class Responder {
 public:
  virtual ~Responder() = default;
  virtual void Send(Response response) = 0;
  /// Sends bytes [offset, offset+length) of a file; the descriptor is the server's from then on.
  virtual void SendFile(Response head, int fd, uint64_t offset, uint64_t length) = 0;
  virtual std::shared_ptr<ResponseStream> StartStream(Response head, size_t buffer_limit) = 0;
};

/// How a request's handler is run; decided from the head, before the body is read.
enum class Mode {
  kInline,  ///< On an I/O thread: must not block (heartbeats, probes).
  kWorker,  ///< On the worker pool: may block.
};

struct ServerRequest {
  Request request;
  std::string peer;  ///< Address of the peer, for logs.
  std::string
      client_subject;  ///< Subject of a verified client certificate ("CN=...,O=..."), or empty.
  Mode mode = Mode::kWorker;  ///< How its handler is run, whatever the head would mean by now.
};

/// What a request's head is judged by before its body is read: nothing means go on; a response is
/// sent and the connection closed.
using HeadCheck = std::function<std::optional<Response>(const Request& head)>;

struct Handlers {
  std::function<Mode(const Request& head)> mode;  ///< Empty: always kWorker.
  HeadCheck head_check;                           ///< Empty: no check.
  std::function<void(ServerRequest&&, std::unique_ptr<Responder>)> handle;
};

/// An HTTP/1.1 server (Boost.Beast) with every limit above. Handlers must not throw; if one does,
/// the answer is 500.
class Server {
 public:
  /// Binds and starts to listen. Errors: kAlreadyExists with reason PortInUse (names the address),
  /// kForbidden, kInvalid (bad TLS material).
  static base::Result<std::unique_ptr<Server>> Start(ServerOptions options, Handlers handlers);
  virtual ~Server() = default;
  virtual uint16_t Port() const = 0;
  virtual void ReplaceTls(const TlsMaterial& material) = 0;
  /// Stops accepting, ends streams, lets running handlers finish for `grace`, then closes
  /// everything. False: some handler still runs. Idempotent.
  virtual bool Stop(base::Millis grace) = 0;
};

}  // namespace http
