#include "reconcile/ending_namespaces.hpp"

#include "base/log.hpp"

namespace reconcile {

std::optional<base::Millis> EndingNamespaces::LeftFor(const std::string& uid,
                                                      base::MonoTime now) const {
  const std::lock_guard lock(mutex_);
  const auto found = until_.find(uid);
  if (found == until_.end() || found->second <= now) return std::nullopt;
  return std::chrono::ceil<base::Millis>(found->second - now);
}

base::Millis EndingNamespaces::Leave(const meta::ObjectMeta& workspace, base::MonoTime now) {
  bool first;
  {
    const std::lock_guard lock(mutex_);
    until_[workspace.uid] = now + kLookAgain;
    first = told_.insert(workspace.ns).second;
  }
  if (first)
    base::LogInfo("a namespace is being deleted: its Workspaces are left alone until they are, too",
                  {{"namespace", workspace.ns}});
  return kLookAgain;
}

void EndingNamespaces::Forget(const std::string& uid) {
  const std::lock_guard lock(mutex_);
  until_.erase(uid);
  if (until_.empty()) told_.clear();
}

}  // namespace reconcile
