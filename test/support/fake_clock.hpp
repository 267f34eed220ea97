#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>

#include "base/clock.hpp"
#include "runtime/timed_wait.hpp"

namespace support {

/// A clock that moves only when told to. Wall and monotonic time move together; Advance wakes
/// whoever waits through runtime::WaitUntil.
///
/// Deterministic use from one thread:  clock.Advance(Millis{1000});
/// With threads under test:            clock.AwaitWaiters(1); clock.Advance(...);
class FakeClock final : public base::Clock, public runtime::TimedWait {
 public:
  explicit FakeClock(base::WallTime wall = base::WallTime{std::chrono::hours{24 * 365 * 56}})
      : wall_(wall), mono_(std::chrono::hours{1'000}) {}

  base::Now Read() const override {
    std::lock_guard lock(mutex_);
    return {wall_, mono_};
  }
  void Advance(base::Millis by) {
    std::lock_guard lock(mutex_);
    wall_ += by;
    mono_ += by;
  }
  /// A step of the wall clock alone, as an administrator or NTP makes it.
  void StepWall(base::Millis by) {
    std::lock_guard lock(mutex_);
    wall_ += by;
  }
  /// Advances to the earliest deadline that somebody waits for; false if nobody has waited for a
  /// time within 10 s of real time.
  bool AdvanceToNextDeadline() {
    std::unique_lock lock(mutex_);
    auto next = deadlines_.end();
    const bool found = changed_.wait_for(lock, std::chrono::seconds{10}, [&] {
      next = deadlines_.upper_bound(mono_);
      return next != deadlines_.end() && *next != runtime::kNever;
    });
    if (!found) return false;
    const auto step = std::chrono::ceil<base::Millis>(*next - mono_);
    wall_ += step;
    mono_ += step;
    return true;
  }
  /// Waits (real time, at most 10 s) until `count` threads wait for a time of this clock that has
  /// not come; false if that never was.
  bool AwaitWaiters(size_t count) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds{10}, [&] { return Waiting() >= count; });
  }

  /// Returns after a millisecond of real time at most: simple, never outlives the waiter's mutex,
  /// and a notification that comes between the end of a wait and the caller's next look cannot be
  /// lost.
  void WaitUntil(std::condition_variable& cv, std::unique_lock<std::mutex>& lock,
                 base::MonoTime deadline) const override {
    std::multiset<base::MonoTime>::iterator mine;
    {
      std::lock_guard guard(mutex_);
      if (mono_ >= deadline) return;
      mine = deadlines_.insert(deadline);
      changed_.notify_all();
    }
    cv.wait_for(lock, std::chrono::milliseconds{1});
    std::lock_guard guard(mutex_);
    deadlines_.erase(mine);
  }

 private:
  size_t Waiting() const {
    return static_cast<size_t>(std::distance(deadlines_.upper_bound(mono_), deadlines_.end()));
  }

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable std::multiset<base::MonoTime> deadlines_;
  base::WallTime wall_;
  base::MonoTime mono_;
};

}  // namespace support
