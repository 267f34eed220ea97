#pragma once

#include "base/result.hpp"
#include "http/client/client.hpp"
#include "http/client/direct_request.hpp"

/// Inside this folder only: a request whose answer is read as it comes.
namespace http {

/// Client::Stream() on a connection of its own, worked by the calling thread alone: connect, send,
/// then what the socket has goes from TLS through the parser to `sink`. A watch brings each event
/// as a TLS record and a chunk of its own; cpprestsdk takes several tasks, locks and changes of
/// thread for each (30 us), this none (bench/cluster).
base::Result<Response> RunStream(const DirectServer& server, const Request& request,
                                 const CallOptions& call, const BodySink& sink);

}  // namespace http
