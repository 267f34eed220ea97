#pragma once

#include <cstdint>

#include "base/clock.hpp"

namespace runtime {

/// Small, fast random numbers for jitter (SplitMix64). Not for secrets. One thread at a time.
class Jitter {
 public:
  /// Seed 0 takes one from the operating system.
  explicit Jitter(uint64_t seed = 0);
  /// Uniform in [0, 1).
  double Next();

 private:
  uint64_t state_;
};

struct BackoffOptions {
  base::Millis first{1'000};
  base::Millis cap{300'000};
  /// 1: full jitter, uniform in (0, step]; 0: exactly the step.
  double jitter = 1.0;
};

/// first * 2^failures, at most cap; never overflows. `failures` counts from 0.
base::Millis BackoffStep(const BackoffOptions& options, uint32_t failures);
/// The step with its jitter; at least 1 ms.
base::Millis BackoffDelay(const BackoffOptions& options, uint32_t failures, Jitter& jitter);

}  // namespace runtime
