#pragma once

#include <condition_variable>
#include <mutex>
#include <stop_token>

#include "base/clock.hpp"

namespace runtime {

/// What a clock may also implement to control waiting; a test's clock does. Thread safe.
class TimedWait {
 public:
  virtual ~TimedWait() = default;
  /// Waits until `cv` is notified (maybe spuriously) or this clock reads `deadline`. `lock` holds
  /// the mutex of `cv`.
  virtual void WaitUntil(std::condition_variable& cv, std::unique_lock<std::mutex>& lock,
                         base::MonoTime deadline) const = 0;
};

/// "Never" for a deadline.
inline constexpr base::MonoTime kNever = base::MonoTime::max();

/// The longest delay that anything here waits for; longer and negative ones are clamped (no
/// overflow of a time point).
inline constexpr base::Millis kLongestDelay{std::chrono::hours{24 * 180}};
base::Millis ClampDelay(base::Millis delay);

/// Waits on `cv` until notified (maybe spuriously) or until `clock` reads `deadline`: callers loop.
void WaitUntil(const base::Clock& clock, std::condition_variable& cv,
               std::unique_lock<std::mutex>& lock, base::MonoTime deadline);

/// A cancellable sleep. True when the time has passed, false when `stop` was requested.
bool SleepFor(const base::Clock& clock, base::Millis delay, const std::stop_token& stop);

}  // namespace runtime
