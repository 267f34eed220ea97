#include "core/requeue.hpp"

#include <algorithm>

namespace core {
namespace {

/// splitmix64: one good mixing step, so that neighbouring seeds give unrelated values.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

uint64_t JitterSeed(std::string_view text, uint64_t number) {
  uint64_t hash = 1469598103934665603ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return Mix(hash ^ Mix(number));
}

base::Millis BackoffDelay(const Backoff& backoff, int32_t attempts, uint64_t seed) {
  const int64_t base = std::max<int64_t>(1, backoff.base.count());
  const int64_t max = std::max<int64_t>(1, backoff.max.count());
  int64_t bound = std::min(base, max);
  for (int32_t i = 1; i < attempts && bound < max; ++i) bound = bound > max / 2 ? max : bound * 2;
  return base::Millis(1 + static_cast<int64_t>(Mix(seed) % static_cast<uint64_t>(bound)));
}

bool IsSlow(const base::Error& error) {
  return error.code == base::Code::kInvalid || error.code == base::Code::kForbidden ||
         error.code == base::Code::kUnauthorized;
}

base::Millis RetryDelay(const RetryRule& rule, const base::Error& error, int32_t attempts) {
  base::Millis delay = IsSlow(error) ? rule.slow
                                     : BackoffDelay(rule.backoff, attempts,
                                                    rule.seed + static_cast<uint64_t>(attempts));
  if (error.retry_after) delay = std::max(delay, std::min(*error.retry_after, rule.slow));
  return delay;
}

base::Millis Jittered(base::Millis period, double fraction, uint64_t seed) {
  const double share = static_cast<double>(Mix(seed) >> 11) / static_cast<double>(1ULL << 53);
  const double extra = static_cast<double>(period.count()) * std::clamp(fraction, 0.0, 1.0) * share;
  return period + base::Millis(static_cast<int64_t>(extra));
}

base::Millis RemainingWait(base::WallTime stamp, base::Millis wait, base::Now takeover,
                           base::Now now) {
  const auto in_process = std::chrono::ceil<base::Millis>(now.mono - takeover.mono);
  const base::Millis zero{0};
  base::Millis left = std::clamp(stamp + wait - takeover.wall, zero, wait);
  left = std::max(zero, left - std::max(zero, in_process));
  // A stamp that this process wrote itself lies after the take-over: its own age counts, too.
  if (stamp > takeover.wall && stamp <= now.wall)
    left = std::max(left, std::clamp(stamp + wait - now.wall, zero, wait));
  return left;
}

base::MonoTime After(base::Now now, base::Millis delay) {
  return now.mono + std::max(delay, base::Millis(1));
}

base::WallTime WallAt(base::MonoTime at, base::Now now) {
  return std::chrono::ceil<base::Seconds>(now.wall +
                                          std::chrono::ceil<base::Millis>(at - now.mono));
}

std::optional<base::MonoTime> Earlier(std::optional<base::MonoTime> a,
                                      std::optional<base::MonoTime> b) {
  if (!a) return b;
  if (!b) return a;
  return std::min(*a, *b);
}

}  // namespace core
