#include "http/client/stream_call.hpp"

#include "http/client/answer_reader.hpp"

namespace http {
namespace {

constexpr size_t kBuffer = 64 << 10;

}  // namespace

base::Result<Response> StreamCalls::Run(const Request& request, const CallOptions& call,
                                        const BodySink& sink) {
  try {
    return Ask(request, call, sink);
  } catch (const std::exception& error) {
    return base::MakeError(base::Code::kInternal, std::string("a stream failed: ") + error.what());
  }
}

base::Result<Response> StreamCalls::Ask(const Request& request, const CallOptions& call,
                                        const BodySink& sink) {
  const std::string what = CallText(lines_.Server(), request);
  const auto cancelled = [&] {
    return base::MakeError(base::Code::kCancelled, what + ": cancelled");
  };
  if (call.stop.stop_requested()) return cancelled();
  const auto composed = ComposeRequest(lines_.Server(), request);
  if (!composed) return composed.error();
  const base::MonoTime until = std::chrono::steady_clock::now() + call.deadline;
  auto dialled = lines_.TakeOrDial(what, until, call.stop);
  if (!dialled) return std::move(dialled).error();
  auto line = *std::move(dialled);
  AnswerReader reader(*line, {.what = what,
                              .limit = lines_.Server().response_limit,
                              .buffer = kBuffer,
                              .until = until,
                              .sink = sink,
                              .idle = call.idle,
                              .stop = call.stop});
  auto answer = [&]() -> base::Result<Response> {
    const std::stop_callback wake(call.stop, [&] { line->Interrupt(); });
    if (!line->SendAll(*composed, until))
      return call.stop.stop_requested() ? cancelled() : ConnectionBroke(what);
    return reader.Read();
  }();
  if (answer) lines_.PutBack(std::move(line), reader, call.stop);
  return answer;
}

}  // namespace http
