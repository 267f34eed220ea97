#include "agent/plugin_installer.hpp"

#include <unistd.h>

#include "base/failpoint.hpp"
#include "base/file.hpp"
#include "base/log.hpp"

namespace agent {

base::Status PluginInstaller::CheckWanted(const protocol::PluginToFetch& plugin) const {
  if (is_wanted_(plugin)) return {};
  return base::MakeError(base::Code::kConflict,
                         "the operator has withdrawn or replaced it meanwhile; its newest answer "
                         "is followed next");
}

base::Status PluginInstaller::Ensure(const protocol::PluginToFetch& plugin,
                                     const std::string& boot_id, std::stop_token stop) {
  if (auto wanted = CheckWanted(plugin); !wanted) return wanted;
  const auto inventory = installed_.Probe({plugin.name}, stop);
  if (!inventory) return inventory.error();
  const auto& there = inventory->plugins.front();
  if (there.found == bundle::Found::kPresent && there.digest == plugin.digest) {
    // An image has brought it: recorded, so that a removal knows it as ours.
    if (there.receipt) return {};
    return installed_.Adopt({plugin.name, plugin.source, plugin.revision, plugin.digest, ""});
  }
  if (auto made = base::MakeDirectories(scratch_, 0700); !made) return made;
  const std::string tar = scratch_ + "/incoming.tar";
  base::Status status = link_.Download(plugin.path, plugin.digest, tar, stop);
  if (status) status = CheckWanted(plugin);
  if (status) {
    const base::FailpointScope scope("agent.stage");
    status =
        installed_.Stage({plugin.name, plugin.source, plugin.revision, plugin.digest, tar}, stop);
  }
  if (status) status = CheckWanted(plugin);
  if (status) {
    const base::FailpointScope scope("agent.activate");
    status = installed_.Activate(plugin.name, boot_id);
  }
  ::unlink(tar.c_str());
  if (status)
    base::LogInfo("plugin installed", {{"plugin", plugin.name}, {"digest", plugin.digest}});
  return status;
}

}  // namespace agent
