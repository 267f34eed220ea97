#include "http/client/stream_call.hpp"

#include "http/client/answer_reader.hpp"

namespace http {
namespace {

constexpr size_t kBuffer = 64 << 10;

base::Result<Response> Run(const DirectServer& server, const Request& request,
                           const CallOptions& call, const BodySink& sink) {
  const std::string what = CallText(server, request);
  const auto cancelled = [&] {
    return base::MakeError(base::Code::kCancelled, what + ": cancelled");
  };
  if (call.stop.stop_requested()) return cancelled();
  const auto composed = ComposeRequest(server, request);
  if (!composed) return composed.error();
  const base::MonoTime until = std::chrono::steady_clock::now() + call.deadline;
  auto line = Line::Dial(server, what, until, call.stop);
  if (!line) return std::move(line).error();
  const std::stop_callback wake(call.stop, [&] { (*line)->Interrupt(); });
  if (!(*line)->SendAll(*composed, until))
    return call.stop.stop_requested() ? cancelled() : ConnectionBroke(what);
  AnswerReader reader(**line, {.what = what,
                               .limit = server.response_limit,
                               .buffer = kBuffer,
                               .until = until,
                               .sink = sink,
                               .idle = call.idle,
                               .stop = call.stop});
  return reader.Read();
}

}  // namespace

base::Result<Response> RunStream(const DirectServer& server, const Request& request,
                                 const CallOptions& call, const BodySink& sink) {
  try {
    return Run(server, request, call, sink);
  } catch (const std::exception& error) {
    return base::MakeError(base::Code::kInternal, std::string("a stream failed: ") + error.what());
  }
}

}  // namespace http
