#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "base/clock.hpp"

namespace bundle {

/// Remembers digests of unchanged trees, keyed by folder and a fingerprint (device, inode, size,
/// mode, mtime and ctime of every file that counts). A tree touched within the last second is never
/// remembered, so a change within one clock tick cannot hide. Thread safe, bounded: what nobody has
/// asked for in two hours is forgotten, so that folders that are gone leave nothing behind.
class DigestCache {
 public:
  explicit DigestCache(size_t capacity = 200'000,
                       const base::Clock& clock = base::SystemClock::Get())
      : capacity_(capacity), clock_(clock) {}
  std::optional<std::string> Find(const std::string& key, const std::string& fingerprint);
  void Store(const std::string& key, const std::string& fingerprint, const std::string& digest);
  size_t Size() const;

 private:
  struct Entry {
    std::string fingerprint;
    std::string digest;
  };
  using Entries = std::map<std::string, Entry>;
  void Turn();

  const size_t capacity_;
  const base::Clock& clock_;
  mutable std::mutex mutex_;
  Entries young_, old_;  ///< By mutex_. Used since `turned_`, and in the hour before only.
  base::MonoTime turned_{};
};

}  // namespace bundle
