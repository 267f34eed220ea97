#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/child_process.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"

namespace box {

/// Keeps one agent process per directory box with `run: Operator` alive. One thread for all. Thread
/// safe.
///
/// Waiting -> Starting -> Running -> (ended) Waiting with back-off, doubled up to the bound, reset
/// after a stable run. A box whose agent lock is held already (an agent that outlived a killed
/// operator) is Adopted: nothing is started until that lock is free.
class AgentSupervisor {
 public:
  struct Options {
    base::Millis min_backoff{1'000};
    base::Millis max_backoff{60'000};
    base::Millis stable_after{60'000};  ///< A run this long resets the back-off.
    base::Millis grace{8'000};          ///< SIGTERM, then SIGKILL after this.
    base::Millis poll{200};             ///< How often ended children are looked for.
    size_t log_limit = 1 << 20;  ///< Bytes of an agent's log; then it begins anew (agent_log.hpp).
    base::Millis log_look{10'000};  ///< How often each log is looked at; one log a `poll`.
  };
  struct Agent {
    base::Command command;
    std::string configs_path;  ///< Whose agent lock tells that one runs already.
    std::string links_end_at;  ///< Of both paths: see bundle::InstalledPlugins::Options.
    std::string log_path;      ///< Receives its output, bounded; may be empty.
  };
  struct View {
    bool running = false;
    bool adopted = false;
    pid_t pid = 0;
    int starts = 0;
    std::optional<int> last_exit;
    std::string last_error;
  };
  explicit AgentSupervisor(Options options);
  ~AgentSupervisor();  ///< Stops all agents it started (in parallel) and joins.

  // Both are called where nobody may be kept waiting (handlers of informers): an agent that is to
  // end gets its SIGTERM at once and its grace on the supervisor's thread.

  /// Starts it unless it runs; another command or path for the same key replaces the old one, once
  /// that has ended.
  void Ensure(const std::string& key, Agent agent);
  /// Forgets it and has it ended.
  void Remove(const std::string& key);
  std::optional<View> Find(const std::string& key) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace box
