#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace core {

/// FNV-1a of the text mixed with a number: a stable seed for jitter.
uint64_t JitterSeed(std::string_view text, uint64_t number);

struct Backoff {
  base::Millis base = base::Seconds(1);
  base::Millis max = base::Seconds(300);
};

/// Exponential back-off with full jitter: uniform in [1 ms, min(max, base * 2^(attempts-1))],
/// decided by the seed alone. `attempts` counts failures so far, from 1; 0 or less is 1.
base::Millis BackoffDelay(const Backoff& backoff, int32_t attempts, uint64_t seed);

/// How a failed step is tried again; carried by a plan, so that status and memory agree.
struct RetryRule {
  Backoff backoff;
  base::Millis slow = base::Seconds(3600);  ///< For errors that retrying cannot mend.
  uint64_t seed = 0;
};
/// True for errors that retrying cannot mend: kInvalid, kForbidden, kUnauthorized.
bool IsSlow(const base::Error& error);
/// The wait before attempt `attempts` + 1, never shorter than what the error asks for (at most
/// rule.slow).
base::Millis RetryDelay(const RetryRule& rule, const base::Error& error, int32_t attempts);

/// `period` plus up to `fraction` of it, by seed; so that a fleet does not resync in one moment.
base::Millis Jittered(base::Millis period, double fraction, uint64_t seed);

/// How long a wait that was stamped by another process still lasts: stamp + wait, measured from the
/// take-over on its wall clock and since then on the monotonic one; clamped to 0..wait, so that a
/// stamp from the future waits once and a clock that jumps changes nothing.
base::Millis RemainingWait(base::WallTime stamp, base::Millis wait, base::Now takeover,
                           base::Now now);

/// The moment `delay` from now, never earlier than 1 ms from now.
base::MonoTime After(base::Now now, base::Millis delay);
/// The wall time that corresponds to a moment of the monotonic clock, in whole seconds (rounded
/// up): for status only.
base::WallTime WallAt(base::MonoTime at, base::Now now);
/// The earlier one, where an absent one means never.
std::optional<base::MonoTime> Earlier(std::optional<base::MonoTime> a,
                                      std::optional<base::MonoTime> b);

}  // namespace core
