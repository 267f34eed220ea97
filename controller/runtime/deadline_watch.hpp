#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>

#include "base/clock.hpp"
#include "runtime/timed_wait.hpp"

namespace runtime {

/// One thread that requests stops at deadlines. Thread safe.
class DeadlineWatch {
  struct Entry {
    std::stop_source source;
    std::atomic<bool> expired{false};
  };

 public:
  explicit DeadlineWatch(const base::Clock& clock);
  ~DeadlineWatch();
  DeadlineWatch(const DeadlineWatch&) = delete;
  DeadlineWatch& operator=(const DeadlineWatch&) = delete;

  /// A stop token for one call: requested at the deadline, or when `outer` is.
  class Guard {
   public:
    Guard(DeadlineWatch& watch, base::Millis limit, const std::stop_token& outer);
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    std::stop_token Token() const { return entry_->source.get_token(); }
    /// True when it was the deadline.
    bool Expired() const { return entry_->expired; }

   private:
    DeadlineWatch& watch_;
    std::shared_ptr<Entry> entry_;
    std::multimap<base::MonoTime, std::shared_ptr<Entry>>::iterator place_;
    std::stop_callback<std::function<void()>> forward_;
  };

 private:
  void Run(const std::stop_token& stop);

  const base::Clock& clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<base::MonoTime, std::shared_ptr<Entry>> entries_;
  /// Until when the thread sleeps. It is not woken for deadlines that come later and sleeps on when
  /// one is taken back (the next is probably no sooner): a pass that ends in time costs no wake-up.
  base::MonoTime watched_ = kNever;
  std::jthread thread_;  ///< Last: it uses all of the above.
};

}  // namespace runtime
