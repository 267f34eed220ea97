#include "runtime/informer/own_writes.hpp"

#include <algorithm>

#include "runtime/informer/resource_version.hpp"

namespace runtime {
namespace {

constexpr size_t kWritesPerKey = 8;
constexpr size_t kKeys = 20'000;

}  // namespace

void OwnWrites::Add(const meta::ObjectKey& key, const std::string& version, base::MonoTime now) {
  // Forgetting one only costs a needless wake-up by its echo.
  if (pending_.size() >= kKeys && !pending_.contains(key)) pending_.erase(pending_.begin());
  auto& writes = pending_[key];
  if (writes.size() >= kWritesPerKey) writes.erase(writes.begin());
  writes.push_back({version, now});
}

bool OwnWrites::Take(const meta::ObjectKey& key, const std::string& version) {
  const auto found = pending_.find(key);
  if (found == pending_.end()) return false;
  bool ours = false;
  for (const Write& write : found->second) ours = ours || write.version == version;
  std::erase_if(found->second, [&](const Write& write) { return AtLeast(version, write.version); });
  if (found->second.empty()) pending_.erase(found);
  return ours;
}

bool OwnWrites::NewerThan(const meta::ObjectKey& key, const std::string& version,
                          base::MonoTime since) const {
  const auto found = pending_.find(key);
  if (found == pending_.end()) return false;
  const auto& writes = found->second;
  return std::any_of(writes.begin(), writes.end(), [&](const Write& write) {
    return write.at >= since && !AtLeast(version, write.version);
  });
}

std::string OwnWrites::Newest(const meta::ObjectKey& key) const {
  const auto found = pending_.find(key);
  if (found == pending_.end()) return "";
  std::string newest;
  for (const Write& write : found->second) {
    if (newest.empty() || AtLeast(write.version, newest)) newest = write.version;
  }
  return newest;
}

std::vector<meta::ObjectKey> OwnWrites::Settle(const std::string& version) {
  std::vector<meta::ObjectKey> keys;
  for (auto it = pending_.begin(); it != pending_.end();) {
    const size_t settled = std::erase_if(
        it->second, [&](const Write& write) { return AtLeast(version, write.version); });
    if (settled > 0) keys.push_back(it->first);
    it = it->second.empty() ? pending_.erase(it) : std::next(it);
  }
  return keys;
}

}  // namespace runtime
