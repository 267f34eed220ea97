#include "bundle/digest_cache.hpp"

#include <utility>

namespace bundle {
namespace {

constexpr base::Seconds kGeneration{3600};

}  // namespace

void DigestCache::Turn() {
  const base::MonoTime now = clock_.Read().mono;
  if (now - turned_ < kGeneration) return;
  // After a silence of two generations nothing of both has been used lately.
  old_ = now - turned_ < 2 * kGeneration ? std::exchange(young_, {}) : Entries();
  young_.clear();
  turned_ = now;
}

std::optional<std::string> DigestCache::Find(const std::string& key,
                                             const std::string& fingerprint) {
  const std::lock_guard lock(mutex_);
  Turn();
  if (auto kept = old_.extract(key)) young_.insert(std::move(kept));
  const auto found = young_.find(key);
  if (found == young_.end() || found->second.fingerprint != fingerprint) return std::nullopt;
  return found->second.digest;
}

void DigestCache::Store(const std::string& key, const std::string& fingerprint,
                        const std::string& digest) {
  const std::lock_guard lock(mutex_);
  Turn();
  old_.erase(key);
  if (young_.size() + old_.size() >= capacity_ && !young_.contains(key)) {
    Entries& from = old_.empty() ? young_ : old_;
    if (!from.empty()) from.erase(from.begin());
  }
  young_[key] = {fingerprint, digest};
}

size_t DigestCache::Size() const {
  const std::lock_guard lock(mutex_);
  return young_.size() + old_.size();
}

}  // namespace bundle
