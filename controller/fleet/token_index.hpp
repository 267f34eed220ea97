#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/sha256.hpp"
#include "fleet/hash_index.hpp"

namespace fleet {

/// Which slot a token's hash belongs to. The look-up goes by a hash that a caller cannot steer, and
/// the full comparison, with the hash that the slot keeps, takes the same time wherever the
/// difference is. Not thread safe.
class TokenIndex {
 public:
  struct Match {
    uint32_t index = 0;
    bool current = false;   ///< Else the previous token,
    bool reviewed = false;  ///< or one that the Kubernetes API vouched for.
  };
  void Add(const base::Sha256Digest& hash, Match match) { index_.Add(Prefix(hash), Number(match)); }
  void Remove(const base::Sha256Digest& hash, Match match) {
    index_.Remove(Prefix(hash), Number(match));
  }
  /// `same(match)` says whether that slot has such a token with this very hash; see Same().
  template <class SameHash>
  std::optional<Match> Find(const base::Sha256Digest& hash, const SameHash& same) const {
    const auto number =
        index_.Find(Prefix(hash), [&](uint32_t candidate) { return same(MatchOf(candidate)); });
    if (!number) return std::nullopt;
    return MatchOf(*number);
  }

  static bool Same(const base::Sha256Digest& a, const base::Sha256Digest& b) {
    return base::ConstantTimeEqual(Bytes(a), Bytes(b));
  }

 private:
  static uint64_t Prefix(const base::Sha256Digest& hash) {
    uint64_t prefix = 0;
    std::memcpy(&prefix, hash.data(), sizeof prefix);
    return prefix;
  }
  static std::string_view Bytes(const base::Sha256Digest& hash) {
    return {reinterpret_cast<const char*>(hash.data()), hash.size()};
  }
  static uint32_t Number(Match match) {
    return match.index << 2 | (match.reviewed ? 2U : 0U) | (match.current ? 1U : 0U);
  }
  static Match MatchOf(uint32_t number) {
    return {number >> 2, (number & 1) != 0, (number & 2) != 0};
  }

  HashIndex index_;
};

}  // namespace fleet
