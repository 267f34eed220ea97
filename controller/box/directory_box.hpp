#pragma once

#include <functional>
#include <memory>
#include <string>

#include "box/box.hpp"
#include "bundle/installed/installed_plugins.hpp"

namespace box {

/// Asks for a restart in the answer to the agent's next heartbeat; no effect if the boot is already
/// another one.
using RequestRestart = std::function<base::Status(const std::string& expected_boot_id)>;

struct DirectoryBoxOptions {
  std::string root = {};          ///< Absolute; plugins are under <root>/configs/plugins.
  std::string links_end_at = {};  ///< See bundle::InstalledPlugins::Options.
  std::string settings_file = "settings.json";  ///< Of the runtime, relative to <root>/configs.
  bundle::Limits limits;
};

/// A folder of this machine. Running while an agent holds configs/.molecule/agent.lock, Stopped
/// when nobody does; a root that is not there or cannot be read is Unknown (an unmounted disk looks
/// like that). Identity: device:inode of the root.
std::unique_ptr<Box> MakeDirectoryBox(DirectoryBoxOptions options,
                                      std::shared_ptr<bundle::DigestCache> cache,
                                      RequestRestart restart,
                                      const base::Clock& clock = base::SystemClock::Get());

}  // namespace box
