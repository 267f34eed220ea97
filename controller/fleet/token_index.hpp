#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "base/sha256.hpp"

namespace fleet {

/// Which slot a token's hash belongs to. The look-up goes by a hash that a caller cannot steer, and
/// the full comparison takes the same time wherever the difference is. Not thread safe.
class TokenIndex {
 public:
  struct Match {
    uint32_t index = 0;
    bool current = false;   ///< Else the previous token,
    bool reviewed = false;  ///< or one that the Kubernetes API vouched for.
  };
  void Add(const base::Sha256Digest& hash, Match match);
  void Remove(const base::Sha256Digest& hash, uint32_t index);
  std::optional<Match> Find(const base::Sha256Digest& hash) const;

 private:
  struct Entry {
    base::Sha256Digest hash;
    Match match;
  };
  std::unordered_multimap<uint64_t, Entry> entries_;  ///< By the first eight bytes.
};

}  // namespace fleet
