#pragma once

#include <mutex>
#include <string>

#include "base/result.hpp"

namespace app {

/// The file of `boxes.agentCAFile`. What was read last stands while the file is away or no PEM: it
/// is handed to every Pod that runs, whose agent then trusts nobody else. Thread safe.
class AgentCaFile {
 public:
  /// kInvalid if it has never been readable under this path.
  base::Result<std::string> Read(const std::string& path);

 private:
  std::mutex mutex_;
  std::string path_;  ///< By mutex_: whose text `good_` is.
  std::string good_;  ///< By mutex_.
  std::string said_;  ///< By mutex_: what was logged last; empty: all is well.
};

}  // namespace app
