#include "http/client/line_pool.hpp"

#include <sys/timerfd.h>

#include <algorithm>
#include <functional>
#include <stop_token>

#include "http/client/answer_reader.hpp"

namespace http {
namespace {

constexpr size_t kBuffer = 16 << 10;

base::Error NotSent(base::Error error) {
  if (error.reason.empty()) error.reason = kNotSent;
  return error;
}

/// What a stop does to a call that has been sent: it ends at once, or with its grace.
class StopOfCall {
 public:
  StopOfCall(Line& line, const CallOptions& call)
      : line_(line),
        grace_(call.stop_grace),
        timer_(grace_ > base::Millis{0} ? ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC) : -1),
        wake_(call.stop, [this] { Stop(); }) {
    line_.EndsWith(timer_.Get());
  }
  ~StopOfCall() { line_.EndsWith(-1); }
  StopOfCall(const StopOfCall&) = delete;
  StopOfCall& operator=(const StopOfCall&) = delete;

 private:
  void Stop() {
    if (!timer_.Valid()) return line_.Interrupt();
    itimerspec when{};
    when.it_value.tv_sec = grace_.count() / 1'000;
    when.it_value.tv_nsec = grace_.count() % 1'000 * 1'000'000;
    ::timerfd_settime(timer_.Get(), 0, &when, nullptr);
  }

  Line& line_;
  const base::Millis grace_;
  const base::UniqueFd timer_;
  const std::stop_callback<std::function<void()>> wake_;
};

}  // namespace

LinePool::LinePool(DirectServer server, int most)
    : free_(std::clamp(most, 1, kMost)), lines_(std::move(server), kMost) {}
LinePool::~LinePool() = default;

base::Result<Response> LinePool::Send(const Request& request, const CallOptions& call) {
  const std::string what = CallText(lines_.Server(), request);
  try {
    auto answer = Ask(request, what, call);
    if (answer || !call.stop.stop_requested()) return answer;
    return base::MakeError(base::Code::kCancelled, what + ": cancelled", answer.error().reason);
  } catch (const std::exception& error) {
    return base::MakeError(base::Code::kInternal, what + " failed: " + error.what());
  }
}

base::Result<Response> LinePool::Ask(const Request& request, const std::string& what,
                                     const CallOptions& call) {
  const auto composed = ComposeRequest(lines_.Server(), request);
  if (!composed) return composed.error();
  const base::MonoTime until = std::chrono::steady_clock::now() + call.deadline;
  {
    std::unique_lock lock(mutex_);
    if (!given_back_.wait_until(lock, until, [this] { return free_ > 0; }))
      return base::MakeError(base::Code::kTimeout, what + ": no turn in time", kNotSent);
    --free_;
  }
  struct Turn {
    LinePool& pool;
    ~Turn() {
      {
        const std::lock_guard lock(pool.mutex_);
        ++pool.free_;
      }
      pool.given_back_.notify_one();
    }
  } const turn{*this};
  auto line = lines_.TakeOrDial(what, until, call.stop);
  if (!line) return NotSent(std::move(line).error());
  if (call.stop_grace > base::Millis{0} && call.stop.stop_requested())
    return base::MakeError(base::Code::kCancelled, what + ": cancelled", kNotSent);
  return AskOn(*std::move(line), *composed, what, until, call);
}

base::Result<Response> LinePool::AskOn(std::unique_ptr<Line> line, const std::string& composed,
                                       const std::string& what, base::MonoTime until,
                                       const CallOptions& call) {
  AnswerReader reader(
      *line,
      {.what = what, .limit = lines_.Server().response_limit, .buffer = kBuffer, .until = until});
  const auto answer = [&]() -> base::Result<Response> {
    const StopOfCall stopping(*line, call);
    const bool sent = line->SendAll(composed, until);
    if (!sent && std::chrono::steady_clock::now() < until) return ConnectionBroke(what);
    // Not there yet: looking for it first would only cost.
    if (!sent || !line->Await(Transport::Io::kWantRead, until))
      return base::MakeError(base::Code::kTimeout, what + ": no answer in time");
    return reader.Read();
  }();
  if (answer) lines_.PutBack(std::move(line), reader, call.stop);
  return answer;
}

}  // namespace http
