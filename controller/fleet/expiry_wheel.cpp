#include "fleet/expiry_wheel.hpp"

#include <algorithm>

namespace fleet {

uint64_t ExpiryWheel::Arm(uint32_t index, uint32_t generation, base::MonoTime deadline,
                          base::MonoTime now) {
  const uint64_t current = std::max(TickOf(now), last_);
  // One tick later than the deadline's own, so that the deadline has passed when the entry comes
  // due.
  const uint64_t wanted = deadline <= now ? current + 1 : TickOf(deadline) + 1;
  const uint64_t tick = std::clamp(wanted, current + 1, current + kBuckets - 1);
  buckets_[tick % kBuckets].push_back(Entry{index, generation, tick});
  ++size_;
  return tick;
}

std::vector<ExpiryWheel::Entry> ExpiryWheel::Take(base::MonoTime now) {
  std::vector<Entry> due;
  const uint64_t current = TickOf(now);
  if (current <= last_) return due;
  // After a long sleep of the machine every bucket is visited once, not once for each missed turn.
  const uint64_t first = current - last_ > kBuckets ? current - kBuckets + 1 : last_ + 1;
  for (uint64_t tick = first; tick <= current; ++tick) {
    auto& bucket = buckets_[tick % kBuckets];
    const auto later = std::partition(bucket.begin(), bucket.end(), [current](const Entry& entry) {
      return entry.tick <= current;
    });
    due.insert(due.end(), bucket.begin(), later);
    bucket.erase(bucket.begin(), later);
    if (bucket.empty() && bucket.capacity() > 64) bucket.shrink_to_fit();
  }
  last_ = current;
  size_ -= due.size();
  return due;
}

}  // namespace fleet
