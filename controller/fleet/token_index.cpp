#include "fleet/token_index.hpp"

#include <cstring>
#include <string_view>

namespace fleet {
namespace {

uint64_t Prefix(const base::Sha256Digest& hash) {
  uint64_t prefix = 0;
  std::memcpy(&prefix, hash.data(), sizeof prefix);
  return prefix;
}

std::string_view Bytes(const base::Sha256Digest& hash) {
  return {reinterpret_cast<const char*>(hash.data()), hash.size()};
}

}  // namespace

void TokenIndex::Add(const base::Sha256Digest& hash, Match match) {
  entries_.emplace(Prefix(hash), Entry{hash, match});
}

void TokenIndex::Remove(const base::Sha256Digest& hash, uint32_t index) {
  const auto [first, last] = entries_.equal_range(Prefix(hash));
  for (auto entry = first; entry != last; ++entry) {
    if (entry->second.match.index == index && entry->second.hash == hash) {
      entries_.erase(entry);
      return;
    }
  }
}

std::optional<TokenIndex::Match> TokenIndex::Find(const base::Sha256Digest& hash) const {
  const auto [first, last] = entries_.equal_range(Prefix(hash));
  for (auto entry = first; entry != last; ++entry) {
    if (base::ConstantTimeEqual(Bytes(entry->second.hash), Bytes(hash))) return entry->second.match;
  }
  return std::nullopt;
}

}  // namespace fleet
