#pragma once

#include "base/result.hpp"
#include "http/client/client.hpp"
#include "http/client/direct_request.hpp"
#include "http/client/kept_lines.hpp"

/// Inside this folder only: a request whose answer is read as it comes.
namespace http {

/// Client::Stream(): each on a connection of its own, worked by the calling thread alone: connect,
/// send, then what the socket has goes from TLS through the parser to `sink`. A watch brings each
/// event as a TLS record and a chunk of its own; cpprestsdk takes several tasks, locks and changes
/// of thread for each (30 us), this none (bench/cluster). A watch that its server has ended in
/// order (every few minutes) leaves its connection to the next: no handshake. Thread safe.
class StreamCalls {
 public:
  explicit StreamCalls(DirectServer server) : lines_(std::move(server), 8) {}
  base::Result<Response> Run(const Request& request, const CallOptions& call, const BodySink& sink);

 private:
  base::Result<Response> Ask(const Request& request, const CallOptions& call, const BodySink& sink);

  KeptLines lines_;
};

}  // namespace http
