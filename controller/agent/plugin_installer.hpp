#pragma once

#include <stop_token>
#include <string>

#include "agent/operator_link.hpp"
#include "base/result.hpp"
#include "bundle/installed/installed_plugins.hpp"
#include "protocol/answer.hpp"

/// Private to agent/: puts one plugin that an answer names on the box.
namespace agent {

class PluginInstaller {
 public:
  PluginInstaller(OperatorLink& link, bundle::InstalledPlugins& installed, std::string scratch)
      : link_(link), installed_(installed), scratch_(std::move(scratch)) {}

  /// Present with the wanted digest: nothing is fetched; without a receipt it gets one. Else
  /// download, verify, stage, activate (recorded with `boot_id`).
  base::Status Ensure(const protocol::PluginToFetch& plugin, const std::string& boot_id,
                      std::stop_token stop);

 private:
  OperatorLink& link_;
  bundle::InstalledPlugins& installed_;
  std::string scratch_;  ///< Folder for the tar while it is being staged.
};

}  // namespace agent
