#include "runtime/deadline_watch.hpp"

#include <algorithm>
#include <vector>

#include "base/thread_name.hpp"

namespace runtime {

DeadlineWatch::DeadlineWatch(const base::Clock& clock)
    : clock_(clock), thread_([this](const std::stop_token& stop) { Run(stop); }) {}

DeadlineWatch::~DeadlineWatch() {
  thread_.request_stop();
  thread_.join();
}

void DeadlineWatch::Run(const std::stop_token& stop) {
  base::NameThread("deadlines");
  std::stop_callback wake(stop, [this] {
    std::lock_guard lock(mutex_);
    changed_.notify_all();
  });
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    const base::MonoTime now = clock_.Read().mono;
    std::vector<std::shared_ptr<Entry>> due;
    for (auto it = entries_.begin(); it != entries_.end() && it->first <= now; ++it) {
      if (!it->second->expired.exchange(true)) due.push_back(it->second);
    }
    if (!due.empty()) {
      lock.unlock();
      for (const auto& entry : due) entry->source.request_stop();
      lock.lock();
      continue;
    }
    const auto next = entries_.upper_bound(now);
    const base::MonoTime first = next == entries_.end() ? kNever : next->first;
    watched_ = watched_ <= now ? first : std::min(watched_, first);
    WaitUntil(clock_, changed_, lock, watched_);
  }
}

DeadlineWatch::Guard::Guard(DeadlineWatch& watch, base::Millis limit, const std::stop_token& outer)
    : watch_(watch),
      entry_(std::make_shared<Entry>()),
      forward_(outer, [entry = entry_] { entry->source.request_stop(); }) {
  std::unique_lock lock(watch_.mutex_);
  place_ = watch_.entries_.emplace(watch_.clock_.Read().mono + ClampDelay(limit), entry_);
  const bool sooner = place_->first < watch_.watched_;
  if (sooner) watch_.watched_ = place_->first;
  lock.unlock();
  if (sooner) watch_.changed_.notify_all();
}

DeadlineWatch::Guard::~Guard() {
  std::lock_guard lock(watch_.mutex_);
  watch_.entries_.erase(place_);
}

}  // namespace runtime
