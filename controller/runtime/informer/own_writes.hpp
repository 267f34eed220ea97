#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "meta/object.hpp"
#include "runtime/lru_map.hpp"

namespace runtime {

/// The versions that our own writes made and whose echo has not been seen. Bounded: the key that
/// was written longest ago is forgotten, since a list or watch is the more likely to be newer than
/// that write the longer ago it was. One thread at a time.
class OwnWrites {
 public:
  void Add(const meta::ObjectKey& key, const std::string& version, base::MonoTime now);
  /// True (and forgotten) if that very version was ours. Older ones of the key are forgotten too:
  /// their echo has passed.
  bool Take(const meta::ObjectKey& key, const std::string& version);
  bool Any(const meta::ObjectKey& key) const { return pending_.Peek(key) != nullptr; }
  /// True if the newest write of the key is newer than `version` and was made after `since`.
  bool NewerThan(const meta::ObjectKey& key, const std::string& version,
                 base::MonoTime since) const;
  /// The newest version of ours for the key, or empty.
  std::string Newest(const meta::ObjectKey& key) const;
  void Forget(const meta::ObjectKey& key) { pending_.Erase(key); }
  /// Forgets what is at or before `version` and returns the keys that had such writes.
  std::vector<meta::ObjectKey> Settle(const std::string& version);

 private:
  struct Write {
    std::string version;
    base::MonoTime at;
  };
  static constexpr size_t kKeys = 20'000;
  LruMap<meta::ObjectKey, std::vector<Write>> pending_{kKeys};
};

}  // namespace runtime
