#include "runtime/backoff.hpp"

#include <algorithm>
#include <cstring>

#include "base/sha256.hpp"

namespace runtime {

Jitter::Jitter(uint64_t seed) : state_(seed) {
  if (seed != 0) return;
  const std::string bytes = base::RandomBytes(sizeof(state_));
  std::memcpy(&state_, bytes.data(), std::min(bytes.size(), sizeof(state_)));
}

double Jitter::Next() {
  state_ += 0x9e3779b97f4a7c15ULL;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1.0p-53;
}

base::Millis BackoffStep(const BackoffOptions& options, uint32_t failures) {
  const base::Millis cap = std::max(options.cap, base::Millis{1});
  base::Millis step = std::clamp(options.first, base::Millis{1}, cap);
  for (uint32_t i = 0; i < failures && step < cap; ++i) step = step > cap / 2 ? cap : step * 2;
  return step;
}

base::Millis BackoffDelay(const BackoffOptions& options, uint32_t failures, Jitter& jitter) {
  const base::Millis step = BackoffStep(options, failures);
  const double part = 1.0 - std::clamp(options.jitter, 0.0, 1.0) * jitter.Next();
  return std::max(base::Millis{1},
                  base::Millis{static_cast<int64_t>(static_cast<double>(step.count()) * part)});
}

}  // namespace runtime
