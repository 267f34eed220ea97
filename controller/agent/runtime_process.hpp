#pragma once

#include <memory>
#include <optional>
#include <string>

#include "agent/agent.hpp"
#include "agent/backoff.hpp"
#include "agent/shared_state.hpp"
#include "base/child_process.hpp"
#include "base/clock.hpp"
#include "bundle/installed/installed_plugins.hpp"

/// Private to agent/: keeps one runtime process alive; each start is a new boot id.
///
///   Stopped -> Running -> (ended) Waiting with back-off -> Running ...
///                 '-- Restart ------------------------------'
///
/// Why it does not run, or how it ended last, is told (SharedState) until it has lasted: the agent
/// is the first process of its container, so nobody outside sees the runtime crash.
namespace agent {

class RuntimeProcess {
 public:
  RuntimeProcess(const AgentOptions& options, bundle::InstalledPlugins& installed,
                 SharedState& shared);
  ~RuntimeProcess();

  /// Starts it if it should run and does not, notices its end and its report. To be called often;
  /// never blocks for long.
  void Poll(base::MonoTime now);
  /// Ends it (if it runs) and starts it again under a new boot id.
  void Restart(base::MonoTime now);
  void Stop();

 private:
  void Start(base::MonoTime now);
  void NoticeEnd(int exit_code, base::MonoTime now);
  void NoticeReport();
  void NoticeWell(base::MonoTime now);
  /// The runtime could not be started: tells why, and when the next attempt is.
  void Postpone(const std::string& boot_id, std::string why, base::MonoTime now);

  const AgentOptions& options_;
  bundle::InstalledPlugins& installed_;
  SharedState& shared_;
  Backoff backoff_;
  std::unique_ptr<base::ChildProcess> child_;
  std::string boot_id_;
  base::MonoTime started_{};
  base::MonoTime next_start_{};
  bool reported_ = false;  ///< This start's report has been seen.
  int short_runs_ = 0;     ///< That ended by themselves since the last stable one or a restart.
};

}  // namespace agent
