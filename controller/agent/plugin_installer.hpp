#pragma once

#include <functional>
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
  /// `is_wanted`: whether the newest answer names it, with this digest. A fetch may take longer
  /// than that stays so.
  PluginInstaller(OperatorLink& link, bundle::InstalledPlugins& installed, std::string scratch,
                  std::function<bool(const protocol::PluginToFetch&)> is_wanted)
      : link_(link),
        installed_(installed),
        scratch_(std::move(scratch)),
        is_wanted_(std::move(is_wanted)) {}

  /// Present with the wanted digest: nothing is fetched; without a receipt it gets one. Else
  /// download, verify, stage, activate (recorded with `boot_id`). kConflict: it is not wanted any
  /// more; nothing was installed.
  base::Status Ensure(const protocol::PluginToFetch& plugin, const std::string& boot_id,
                      std::stop_token stop);

 private:
  base::Status CheckWanted(const protocol::PluginToFetch& plugin) const;

  OperatorLink& link_;
  bundle::InstalledPlugins& installed_;
  std::string scratch_;  ///< Folder for the tar while it is being staged.
  std::function<bool(const protocol::PluginToFetch&)> is_wanted_;
};

}  // namespace agent
