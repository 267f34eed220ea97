#pragma once

#include <functional>
#include <memory>
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
    workspaces.ForEach([this](const api::Workspace& workspace) { Look(workspace); });
  }
  void Forget(const api::Workspace& workspace);

 private:
  std::string program_;
  std::string url_, ca_file_;
  std::function<std::shared_ptr<const Settings>()> settings_;
  box::AgentSupervisor supervisor_;
};

}  // namespace app
