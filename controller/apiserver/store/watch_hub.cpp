#include "apiserver/store/watch_hub.hpp"

#include <algorithm>
#include <utility>

#include "base/thread_name.hpp"

namespace apiserver {

/// Catching up -> live -> over. `mutex` orders the sink's calls.
class WatchHub::Watcher {
 public:
  Watcher(WatchScope wanted, std::shared_ptr<WatchSink> to, int64_t at)
      : scope(std::move(wanted)), sink(std::move(to)), registered_at(at) {}

  bool Wants(const Change& change) const {
    return (scope.resource.empty() || change.key.resource == scope.resource) &&
           (scope.ns.empty() || scope.ns == change.key.ns);
  }
  /// False when the watch is over.
  bool Take(const ChangePtr& change, size_t limit) {
    std::lock_guard lock(mutex);
    if (over) return false;
    if (change->version <= sent) return true;
    if (!live) {
      if (pending.size() < limit) {
        pending.push_back(change);
        return true;
      }
      End();
      return false;
    }
    sent = change->version;
    if (!sink->OnChange(change)) End();
    return !over;
  }
  bool TickAt(int64_t version) {
    std::lock_guard lock(mutex);
    if (over) return false;
    if (live && !sink->OnTick(version)) End();
    return !over;
  }
  void Live(int64_t version) {
    std::lock_guard lock(mutex);
    sent = version;
    live = true;
    for (const ChangePtr& change : pending) {
      if (over) break;
      if (change->version <= sent) continue;
      sent = change->version;
      if (!sink->OnChange(change)) End();
    }
    pending.clear();
  }
  void End() {
    over = true;
    pending.clear();
    sink->OnEnd();
  }
  void Close(bool tell) {
    std::lock_guard lock(mutex);
    if (over) return;
    if (tell) return End();
    over = true;
    pending.clear();
  }

  const WatchScope scope;
  const std::shared_ptr<WatchSink> sink;
  const int64_t registered_at;
  std::mutex mutex;
  bool live = false;
  bool over = false;
  int64_t sent = 0;
  std::deque<ChangePtr> pending;
};

WatchHub::WatchHub(Options options)
    : options_(options), published_(options.first_version), dispatched_(options.first_version) {
  thread_ = std::jthread([this](std::stop_token stop) {
    base::NameThread("watch-hub");
    Loop(stop);
  });
}

WatchHub::~WatchHub() { Stop(); }

void WatchHub::Publish(std::vector<ChangePtr> changes, int64_t version) {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [this] { return stopped_ || queue_.size() < options_.queue_limit; });
  if (stopped_) return;
  for (ChangePtr& change : changes) queue_.push_back(std::move(change));
  published_ = std::max(published_, version);
  wake_.notify_one();
}

std::shared_ptr<WatchHub::Watcher> WatchHub::Register(WatchScope scope,
                                                      std::shared_ptr<WatchSink> sink) {
  std::lock_guard lock(mutex_);
  if (stopped_ || watchers_.size() >= options_.watcher_limit) return nullptr;
  // What waits in the queue will still be dispatched to this watcher, so the past ends where the
  // dispatch stands.
  auto watcher = std::make_shared<Watcher>(std::move(scope), std::move(sink), dispatched_);
  watchers_.push_back(watcher);
  wake_.notify_one();  // From now on there are ticks.
  return watcher;
}

int64_t WatchHub::RegisteredAt(const Watcher& watcher) { return watcher.registered_at; }

void WatchHub::GoLive(const std::shared_ptr<Watcher>& watcher, int64_t version) {
  watcher->Live(version);
}

void WatchHub::Remove(const std::shared_ptr<Watcher>& watcher) {
  watcher->Close(false);
  std::lock_guard lock(mutex_);
  std::erase(watchers_, watcher);
}

size_t WatchHub::WatcherCount() const {
  std::lock_guard lock(mutex_);
  return watchers_.size();
}

void WatchHub::Tick() {
  std::vector<std::shared_ptr<Watcher>> watchers;
  int64_t version = 0;
  {
    std::lock_guard lock(mutex_);
    watchers = watchers_;
    version = dispatched_;
  }
  for (const auto& watcher : watchers) {
    if (!watcher->TickAt(version)) Remove(watcher);
  }
}

void WatchHub::Dispatch(const std::vector<ChangePtr>& changes, int64_t version) {
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    std::lock_guard lock(mutex_);
    watchers = watchers_;
    // Set before the hand-over: who registers from now on reads these changes from the log.
    dispatched_ = version;
  }
  for (const auto& watcher : watchers) {
    for (const ChangePtr& change : changes) {
      if (!watcher->Wants(*change)) continue;
      if (!watcher->Take(change, options_.pending_limit)) {
        Remove(watcher);
        break;
      }
    }
  }
}

void WatchHub::Loop(std::stop_token stop) {
  auto next_tick = std::chrono::steady_clock::now() + options_.tick;
  while (!stop.stop_requested()) {
    std::vector<ChangePtr> changes;
    int64_t version = 0;
    bool tick = false;
    {
      std::unique_lock lock(mutex_);
      const auto ready = [this] { return !queue_.empty(); };
      if (options_.tick.count() == 0 || watchers_.empty()) {
        wake_.wait(lock, stop,
                   [&] { return ready() || (options_.tick.count() && !watchers_.empty()); });
        next_tick = std::max(next_tick, std::chrono::steady_clock::now());
      } else {
        wake_.wait_until(lock, stop, next_tick, ready);
      }
      changes.assign(queue_.begin(), queue_.end());
      queue_.clear();
      version = changes.empty() ? dispatched_ : changes.back()->version;
      room_.notify_all();
      const auto now = std::chrono::steady_clock::now();
      tick = options_.tick.count() != 0 && now >= next_tick;
      if (tick) next_tick = now + options_.tick;
    }
    if (!changes.empty()) Dispatch(changes, version);
    if (tick) Tick();
  }
}

void WatchHub::Stop() {
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    watchers.swap(watchers_);
    room_.notify_all();
  }
  thread_.request_stop();
  if (thread_.joinable() && thread_.get_id() != std::this_thread::get_id()) thread_.join();
  for (const auto& watcher : watchers) watcher->Close(true);
}

}  // namespace apiserver
