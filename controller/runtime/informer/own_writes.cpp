#include "runtime/informer/own_writes.hpp"

#include <algorithm>

#include "runtime/informer/resource_version.hpp"

namespace runtime {
namespace {

constexpr size_t kWritesPerKey = 8;

}  // namespace

void OwnWrites::Add(const meta::ObjectKey& key, const std::string& version, base::MonoTime now) {
  auto* known = pending_.Find(key);
  auto& writes = known != nullptr ? *known : pending_.Put(key, {});
  if (writes.size() >= kWritesPerKey) writes.erase(writes.begin());
  writes.push_back({version, now});
}

bool OwnWrites::Take(const meta::ObjectKey& key, const std::string& version) {
  const auto* known = pending_.Peek(key);
  if (known == nullptr) return false;
  bool ours = false;
  for (const Write& write : *known) ours = ours || write.version == version;
  auto& writes = *pending_.Find(key);
  std::erase_if(writes, [&](const Write& write) { return AtLeast(version, write.version); });
  if (writes.empty()) pending_.Erase(key);
  return ours;
}

bool OwnWrites::NewerThan(const meta::ObjectKey& key, const std::string& version,
                          base::MonoTime since) const {
  const auto* writes = pending_.Peek(key);
  if (writes == nullptr) return false;
  return std::any_of(writes->begin(), writes->end(), [&](const Write& write) {
    return write.at >= since && !AtLeast(version, write.version);
  });
}

std::string OwnWrites::Newest(const meta::ObjectKey& key) const {
  const auto* writes = pending_.Peek(key);
  if (writes == nullptr) return "";
  std::string newest;
  for (const Write& write : *writes) {
    if (newest.empty() || AtLeast(write.version, newest)) newest = write.version;
  }
  return newest;
}

std::vector<meta::ObjectKey> OwnWrites::Settle(const std::string& version) {
  std::vector<meta::ObjectKey> keys;
  for (auto& [key, writes] : pending_.All())
    if (std::erase_if(writes, [&](const Write& w) { return AtLeast(version, w.version); }) > 0)
      keys.push_back(key);
  pending_.EraseIf([](const std::vector<Write>& writes) { return writes.empty(); });
  return keys;
}

}  // namespace runtime
