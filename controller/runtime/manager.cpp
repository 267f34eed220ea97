#include "runtime/manager.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/log.hpp"
#include "base/thread_name.hpp"
#include "runtime/deadline_watch.hpp"
#include "runtime/timed_wait.hpp"

namespace runtime {
namespace {

/// What parts that come after a hanging one still get.
constexpr base::Millis kGrace{500};

struct Part {
  Runnable runnable;
  std::thread thread;
  std::stop_source stop;
  bool started = false;
  bool done = false;
};

base::Status CallPart(const std::function<base::Status(std::stop_token)>& call,
                      std::stop_token stop) {
  try {
    return call(std::move(stop));
  } catch (const std::exception& e) {
    return base::MakeError(base::Code::kInternal, std::string("threw: ") + e.what());
  }
}

}  // namespace

struct Manager::State : std::enable_shared_from_this<State> {
  explicit State(ManagerOptions given) : options(given) {}

  void Start(Part& part);
  base::Status AwaitReady(Part& part, DeadlineWatch& deadlines);
  void Fail(const Part& part, base::Error error);
  bool AwaitDone(Part& part, base::MonoTime deadline);
  base::Status Stop();

  const ManagerOptions options;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::unique_ptr<Part>> parts;
  std::optional<base::Error> failure;  ///< The first one.
  std::stop_source abort;              ///< Requested by the caller's stop or by a failure.
  std::atomic<bool> ready{false};
  std::atomic<bool> unclean{false};  ///< Some part's work may go on after its stop.
};

void Manager::State::Fail(const Part& part, base::Error error) {
  error.message = part.runnable.name + ": " + error.message;
  {
    std::lock_guard lock(mutex);
    if (!failure) failure = std::move(error);
  }
  abort.request_stop();
}

void Manager::State::Start(Part& part) {
  part.started = true;
  base::LogDebug("part starts", {{"part", part.runnable.name}});
  // The thread keeps the state alive: it may outlive the manager if it does not stop in time.
  part.thread = std::thread([self = shared_from_this(), &part] {
    base::NameThread(part.runnable.name);
    base::Status ended = CallPart(part.runnable.run, part.stop.get_token());
    const bool stopping = part.stop.stop_requested();
    if (!ended && !(stopping && ended.error().code == base::Code::kCancelled)) {
      if (stopping && ended.error().code == base::Code::kTimeout) self->unclean = true;
      self->Fail(part, std::move(ended).error());
    }
    std::lock_guard lock(self->mutex);
    part.done = true;
    self->changed.notify_all();
  });
}

base::Status Manager::State::AwaitReady(Part& part, DeadlineWatch& deadlines) {
  if (!part.runnable.ready) return {};
  const base::Millis limit = part.runnable.ready_limit.value_or(options.start_limit);
  DeadlineWatch::Guard guard(deadlines, limit, abort.get_token());
  base::Status ready_now = CallPart(part.runnable.ready, guard.Token());
  if (ready_now) base::LogDebug("part is ready", {{"part", part.runnable.name}});
  if (ready_now || abort.stop_requested()) return {};
  base::Error error = std::move(ready_now).error();
  if (guard.Expired()) {
    error.code = base::Code::kTimeout;
    error.message = fmt::format("not ready within {} ms: {}", limit.count(), error.message);
    error.reason = "NotReady";
  }
  return error;
}

bool Manager::State::AwaitDone(Part& part, base::MonoTime deadline) {
  std::unique_lock lock(mutex);
  while (!part.done && options.clock->Read().mono < deadline) {
    WaitUntil(*options.clock, changed, lock, deadline);
  }
  return part.done;
}

base::Status Manager::State::Stop() {
  ready = false;
  const auto now = [this] { return options.clock->Read().mono; };
  const base::MonoTime deadline = now() + ClampDelay(options.stop_limit);
  std::string late;
  for (auto it = parts.rbegin(); it != parts.rend(); ++it) {
    Part& part = **it;
    if (!part.started) continue;
    base::LogDebug("part is to stop", {{"part", part.runnable.name}});
    part.stop.request_stop();
    if (AwaitDone(part, late.empty() ? deadline : now() + kGrace)) {
      part.thread.join();
      base::LogDebug("part has ended", {{"part", part.runnable.name}});
    } else {
      part.thread.detach();
      unclean = true;
      late += (late.empty() ? "" : ", ") + part.runnable.name;
    }
  }
  std::lock_guard lock(mutex);
  if (failure) return *failure;
  if (late.empty()) return {};
  return base::MakeError(base::Code::kTimeout, fmt::format("did not stop within {} ms: {}",
                                                           options.stop_limit.count(), late));
}

Manager::Manager(ManagerOptions options) : state_(std::make_shared<State>(options)) {}
Manager::~Manager() = default;

void Manager::Add(Runnable runnable) {
  auto part = std::make_unique<Part>();
  part->runnable = std::move(runnable);
  state_->parts.push_back(std::move(part));
}

base::Status Manager::Run(std::stop_token stop) {
  const auto s = state_;
  std::stop_callback forward(stop, [&s] { s->abort.request_stop(); });
  std::stop_callback wake(s->abort.get_token(), [&s] {
    // On the thread that failed or on the caller of request_stop: neither holds the mutex.
    std::lock_guard lock(s->mutex);
    s->changed.notify_all();
  });
  {
    DeadlineWatch deadlines(*s->options.clock);
    for (const auto& part : s->parts) {
      if (s->abort.stop_requested()) break;
      s->Start(*part);
      if (auto ready = s->AwaitReady(*part, deadlines); !ready) {
        s->Fail(*part, std::move(ready).error());
      }
    }
  }
  {
    std::unique_lock lock(s->mutex);
    s->ready = !s->abort.stop_requested();
    while (!s->abort.stop_requested()) WaitUntil(*s->options.clock, s->changed, lock, kNever);
  }
  return s->Stop();
}

bool Manager::Ready() const { return state_->ready; }
bool Manager::StoppedCleanly() const { return !state_->unclean; }

}  // namespace runtime
