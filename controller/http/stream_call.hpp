#pragma once

#include <memory>
#include <string>

#include "base/result.hpp"
#include "http/client.hpp"
#include "http/client_tls.hpp"
#include "http/dialer.hpp"

/// Inside this folder only: a request whose answer is read as it comes.
namespace http {

struct StreamServer {
  Place place;
  std::string name;                      ///< That the certificate must bear, and the Host header if
                                         ///< it is not the place's; empty: the place's.
  std::shared_ptr<const ClientTls> tls;  ///< Null: plain.
  size_t response_limit = 0;             ///< Bytes of a body that is collected.
};

/// Client::Stream() on a connection of its own, worked by the calling thread alone: connect, send,
/// then what the socket has goes from TLS through the parser to `sink`. A watch brings each event
/// as a TLS record and a chunk of its own; cpprestsdk takes several tasks, locks and changes of
/// thread for each (30 us), this none (bench/cluster).
base::Result<Response> RunStream(const StreamServer& server, const Request& request,
                                 const CallOptions& call, const BodySink& sink);

}  // namespace http
