#pragma once

#include <cstdint>
#include <vector>

#include "base/clock.hpp"

namespace fleet {

/// A timer wheel of slot numbers. A heartbeat does not touch it: the owner keeps each slot's true
/// deadline, and a slot whose turn comes too early is armed again. Not thread safe.
class ExpiryWheel {
 public:
  /// What comes due: a slot number with its generation, and the tick it was armed for (an entry is
  /// void unless it is the slot's last).
  struct Entry {
    uint32_t index;
    uint32_t generation;
    uint64_t tick;
  };
  explicit ExpiryWheel(base::Millis tick) : tick_(tick), buckets_(kBuckets) {}

  /// Puts an entry at `deadline`, or at the wheel's horizon if that is nearer; returns its tick,
  /// never 0.
  uint64_t Arm(uint32_t index, uint32_t generation, base::MonoTime deadline, base::MonoTime now);
  /// Takes out all entries due at `now`.
  std::vector<Entry> Take(base::MonoTime now);
  /// Entries that are in it, void ones included.
  size_t Size() const { return size_; }

 private:
  static constexpr size_t kBuckets = 1024;
  uint64_t TickOf(base::MonoTime time) const {
    return static_cast<uint64_t>(time.time_since_epoch() / tick_);
  }

  base::Millis tick_;
  uint64_t last_ = 0;  ///< The last tick that was taken.
  size_t size_ = 0;
  std::vector<std::vector<Entry>> buckets_;
};

}  // namespace fleet
