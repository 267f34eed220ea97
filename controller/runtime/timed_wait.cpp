#include "runtime/timed_wait.hpp"

#include <algorithm>

namespace runtime {

base::Millis ClampDelay(base::Millis delay) {
  return std::clamp(delay, base::Millis{0}, kLongestDelay);
}

void WaitUntil(const base::Clock& clock, std::condition_variable& cv,
               std::unique_lock<std::mutex>& lock, base::MonoTime deadline) {
  if (const auto* timed = dynamic_cast<const TimedWait*>(&clock)) {
    timed->WaitUntil(cv, lock, deadline);
    return;
  }
  const base::MonoTime now = clock.Read().mono;
  if (deadline <= now) return;
  // At most an hour at a time: callers loop anyway, and no sum of time points can overflow.
  const auto wait = std::min<std::chrono::nanoseconds>(deadline - now, std::chrono::hours{1});
  cv.wait_for(lock, wait);
}

bool SleepFor(const base::Clock& clock, base::Millis delay, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable cv;
  const base::MonoTime deadline = clock.Read().mono + ClampDelay(delay);
  std::stop_callback wake(stop, [&] {
    std::lock_guard lock(mutex);
    cv.notify_all();
  });
  std::unique_lock lock(mutex);
  while (!stop.stop_requested()) {
    if (clock.Read().mono >= deadline) return true;
    WaitUntil(clock, cv, lock, deadline);
  }
  return false;
}

}  // namespace runtime
