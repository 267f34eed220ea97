#pragma once

#include <atomic>

#include "base/clock.hpp"
#include "runtime/timed_wait.hpp"

namespace support {

/// The system's clock, counting how often somebody begins to wait: each wake-up is one more.
class CountedWaits final : public base::Clock, public runtime::TimedWait {
 public:
  base::Now Read() const override { return base::SystemClock::Get().Read(); }
  void WaitUntil(std::condition_variable& cv, std::unique_lock<std::mutex>& lock,
                 base::MonoTime deadline) const override {
    ++waits;
    runtime::WaitUntil(base::SystemClock::Get(), cv, lock, deadline);
  }
  mutable std::atomic<int> waits{0};
};

}  // namespace support
