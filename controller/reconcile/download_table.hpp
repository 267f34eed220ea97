#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace reconcile {

/// Which artifact a workspace may download for each of its plugins: what the last pass decided.
/// Thread safe.
class DownloadTable {
 public:
  void Set(const std::string& uid, std::map<std::string, std::string> digest_by_plugin) {
    const std::lock_guard lock(mutex_);
    table_[uid] = std::move(digest_by_plugin);
  }
  void Remove(const std::string& uid) {
    const std::lock_guard lock(mutex_);
    table_.erase(uid);
  }
  /// The digest, or nothing when that plugin is not to be on that workspace.
  std::optional<std::string> Find(const std::string& uid, const std::string& plugin) const {
    const std::lock_guard lock(mutex_);
    const auto workspace = table_.find(uid);
    if (workspace == table_.end()) return std::nullopt;
    const auto digest = workspace->second.find(plugin);
    if (digest == workspace->second.end()) return std::nullopt;
    return digest->second;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::string, std::string>> table_;
};

}  // namespace reconcile
