#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "api/workspace.hpp"
#include "app/settings/settings.hpp"
#include "box/agent_supervisor.hpp"

namespace app {

/// Starts and keeps the agents of Directory boxes with `run: Operator`. Thread safe.
class AgentKeeper {
 public:
  AgentKeeper(std::string program, std::function<std::shared_ptr<const Settings>()> settings);
  /// Where agents report, and the file of the authorities to trust there (empty: the system's);
  /// before the first Look.
  void SetUrl(std::string url, std::string ca_file) {
    url_ = std::move(url);
    ca_file_ = std::move(ca_file);
  }
  /// What the workspace asks for now.
  void Look(const api::Workspace& workspace);
  /// All of a cache: when leading begins, and when the settings have changed.
  template <class Cache>
  void LookAtAll(const Cache& workspaces) {
    for (const auto& key : workspaces.Keys()) {
      // A change is in the cache before anybody is told of it. So what is read here is either newer
      // than the last Look or Forget, or that one waits and comes after it: it is never undone.
      const std::lock_guard lock(mutex_);
      if (const auto workspace = workspaces.Get(key)) LookLocked(*workspace);
    }
  }
  void Forget(const api::Workspace& workspace);
  /// Its agent, if one is kept.
  std::optional<box::AgentSupervisor::View> Find(const std::string& uid) const {
    return supervisor_.Find(uid);
  }

 private:
  void LookLocked(const api::Workspace& workspace);
  void ForgetLocked(const api::Workspace& workspace);

  std::mutex mutex_;  ///< From when a workspace is read until its agent is as it asks for.
  std::string program_;
  std::string url_, ca_file_;
  std::function<std::shared_ptr<const Settings>()> settings_;
  box::AgentSupervisor supervisor_;
};

}  // namespace app
