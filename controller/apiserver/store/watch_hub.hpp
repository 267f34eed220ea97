#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "apiserver/store/change.hpp"
#include "base/clock.hpp"

namespace apiserver {

/// Which changes a watcher wants; an empty resource or namespace means all of them.
struct WatchScope {
  std::string resource;
  std::string ns;
};

/// Receives changes in order. Its methods run on one thread at a time and must not block; returning
/// false ends the watch.
class WatchSink {
 public:
  virtual ~WatchSink() = default;
  virtual bool OnChange(const ChangePtr& change) = 0;
  /// About once a second, when everything up to `version` has been handed over: time for bookmarks
  /// and timeouts.
  virtual bool OnTick(int64_t version) = 0;
  /// The watcher was too slow or the hub stops. Last call.
  virtual void OnEnd() = 0;
};

/// Hands committed changes to watchers on one thread of its own. A watcher that does not take its
/// changes (more than `pending_limit` waiting while it still reads the past) is ended, never waited
/// for.
class WatchHub {
 public:
  struct Options {
    size_t pending_limit = 4096;
    size_t queue_limit = 16384;  ///< Changes waiting for the hub's thread; over it Publish waits.
    size_t watcher_limit = 2048;
    base::Millis tick{1000};    ///< Zero: no ticks but those of Tick().
    int64_t first_version = 0;  ///< What is committed before the first Publish.
  };
  explicit WatchHub(Options options);
  ~WatchHub();
  WatchHub(const WatchHub&) = delete;
  WatchHub& operator=(const WatchHub&) = delete;

  /// Called by the store's writer after each commit, in order.
  void Publish(std::vector<ChangePtr> changes, int64_t version);

  class Watcher;
  /// Registers a watcher that collects from now on and delivers nothing yet; null when there are
  /// too many.
  std::shared_ptr<Watcher> Register(WatchScope scope, std::shared_ptr<WatchSink> sink);
  /// The version up to which the registered watcher must be given the past by its owner.
  static int64_t RegisteredAt(const Watcher& watcher);
  /// The past is delivered up to `version`: hands over what came meanwhile (newer than `version`)
  /// and goes live.
  void GoLive(const std::shared_ptr<Watcher>& watcher, int64_t version);
  /// Ends a watch from outside; OnEnd is not called. Idempotent.
  void Remove(const std::shared_ptr<Watcher>& watcher);
  size_t WatcherCount() const;
  /// One tick now (tests).
  void Tick();
  /// Ends all watches and the thread. Idempotent.
  void Stop();

 private:
  void Loop(std::stop_token stop);
  void Dispatch(const std::vector<ChangePtr>& changes, int64_t version);

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  std::condition_variable_any room_;
  std::deque<ChangePtr> queue_;
  int64_t published_ = 0;   ///< Highest version handed to Publish.
  int64_t dispatched_ = 0;  ///< Highest version handed to the watchers.
  bool stopped_ = false;
  std::vector<std::shared_ptr<Watcher>> watchers_;
  std::jthread thread_;
};

}  // namespace apiserver
