#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "base/clock.hpp"
#include "meta/object.hpp"

namespace reconcile {

/// Workspaces whose namespace is being deleted. Such a namespace takes no new objects and never
/// comes back: its Workspaces are deleted with it, which wakes their next pass. Until then nothing
/// is tried in vain, but for a look from time to time: an end can be held up for as long as
/// somebody leaves a finalizer there, and boxes live on meanwhile. Thread safe.
class EndingNamespaces {
 public:
  static constexpr base::Seconds kLookAgain{300};

  /// How long this one is still left alone; nothing: it is looked at as ever.
  std::optional<base::Millis> LeftFor(const std::string& uid, base::MonoTime now) const;
  /// The API server has said that its namespace is being deleted; logged once for each namespace.
  /// Returns when to look again.
  base::Millis Leave(const meta::ObjectMeta& workspace, base::MonoTime now);
  void Forget(const std::string& uid);

 private:
  mutable std::mutex mutex_;
  std::map<std::string, base::MonoTime> until_;  ///< By uid. By mutex_.
  std::set<std::string> told_;                   ///< Namespaces, as logged. By mutex_.
};

}  // namespace reconcile
