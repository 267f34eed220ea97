#pragma once

#include <map>
#include <mutex>
#include <string>

#include "api/workspace.hpp"
#include "base/clock.hpp"
#include "base/sha256.hpp"

namespace reconcile {

/// Whether somebody else writes the status of a Workspace, too: what we wrote last is not there any
/// more, and we would write it again. Two operators with different views of one Workspace (an agent
/// reports to one of them) would do so by turns, as fast as they hear of each other. Thread safe,
/// bounded; forgetting writes once too often.
class StatusContests {
 public:
  /// Zero: this may be written. Else how long it has to wait: what was put back three times within
  /// ten minutes is put back once a minute. What answers a reconcile request never waits.
  base::Millis Ask(const std::string& uid, const api::WorkspaceStatus& there,
                   const api::WorkspaceStatus& wanted, base::MonoTime now) const;
  /// It was written in the place of `there`. True: somebody else puts his own back again and again.
  bool Written(const std::string& uid, const api::WorkspaceStatus& there,
               const api::WorkspaceStatus& written, base::MonoTime now);
  void Forget(const std::string& uid);

 private:
  struct Last {
    base::Sha256Digest digest{};
    base::MonoTime when;
    base::MonoTime contested{};  ///< When it was put back last.
    int put_back = 0;            ///< In a row, none ten minutes after the one before.
  };
  mutable std::mutex mutex_;
  std::map<std::string, Last> last_;  ///< By UID.
};

}  // namespace reconcile
