#pragma once

#include <algorithm>
#include <random>

#include "base/clock.hpp"

namespace agent {

/// Doubling waits with full jitter. Not thread safe.
class Backoff {
 public:
  Backoff(base::Millis base, base::Millis limit) : base_(base), limit_(limit) {}
  base::Millis Next() {
    const auto ceiling = std::min(limit_.count(), base_.count() << std::min(step_, 20));
    ++step_;
    std::uniform_int_distribution<int64_t> pick(std::max<int64_t>(ceiling / 10, 1),
                                                std::max<int64_t>(ceiling, 1));
    return base::Millis{pick(random_)};
  }
  void Reset() { step_ = 0; }
  /// `period` less up to a tenth: a fleet that was started together drifts apart.
  base::Millis Jittered(base::Millis period) {
    std::uniform_int_distribution<int64_t> pick(0, period.count() / 10);
    return period - base::Millis{pick(random_)};
  }

 private:
  base::Millis base_;
  base::Millis limit_;
  int step_ = 0;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace agent
