#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "base/failpoint.hpp"
#include "bundle/installed/install_session.hpp"
#include "bundle/installed/installed_plugins.hpp"

/// The small files beside the plugins: removals, token, boot id, the agent's lock.
namespace bundle {

base::Status InstalledPlugins::ClearRemovals(const std::string& boot_id) {
  auto inventory = Probe({});
  if (!inventory) return inventory.error();
  if (inventory->removals.empty()) return {};
  auto folders = BoxFolders::Make(options_.configs_path, options_.links_end_at);
  if (!folders) return folders.error();
  for (const Tombstone& tombstone : inventory->removals) {
    if (tombstone.boot_id == boot_id) continue;
    const base::FailpointScope point("box.clear");
    if (auto ok = folders->own.Unlink(TombstonePath(tombstone.name)); !ok) return ok;
  }
  return {};
}

base::Status InstalledPlugins::WriteToken(const std::string& token) {
  if (token.empty()) {
    const auto configs = OpenConfigs(options_.configs_path, false, options_.links_end_at);
    if (!configs && configs.error().code == base::Code::kNotFound) return {};
    return configs ? configs->Unlink(kTokenFile) : base::Status(configs.error());
  }
  auto folders = BoxFolders::Make(options_.configs_path, options_.links_end_at);
  if (!folders) return folders.error();
  const auto info = folders->configs.Stat(kTokenFile);
  const auto current = folders->configs.Read(kTokenFile, 4096);
  if (info && (info->st_mode & 0777) == 0600 && current && *current == token) return {};
  const base::FailpointScope point("box.token.write");
  return folders->configs.WriteAtomic(kTokenFile, token, 0600);
}

base::Status InstalledPlugins::RecordBoot(const std::string& boot_id) {
  auto folders = BoxFolders::Make(options_.configs_path, options_.links_end_at);
  if (!folders) return folders.error();
  return folders->configs.WriteAtomic(kBootIdFile, boot_id, 0644);
}

base::Result<AgentLock> AgentLock::Acquire(const std::string& configs_path) {
  auto folders = BoxFolders::Make(configs_path);
  if (!folders) return folders.error();
  const std::string what = configs_path + "/" + kAgentLockFile;
  base::UniqueFd fd(
      ::openat(folders->own.Fd(), "agent.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd.Valid()) return base::ErrnoError(errno, "open " + what);
  // An open-file-description lock: a test for it (F_OFD_GETLK) does not take it, and no other close
  // of the file drops it.
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(fd.Get(), F_OFD_SETLK, &lock) != 0) {
    if (errno == EAGAIN || errno == EACCES)
      return base::MakeError(base::Code::kAlreadyExists,
                             what + " is held: an agent runs in this box already", "AgentRunning");
    return base::ErrnoError(errno, "lock " + what);
  }
  return AgentLock(std::move(fd));
}

base::Result<bool> IsAgentRunning(const std::string& configs_path,
                                  const std::string& links_end_at) {
  auto configs = OpenConfigs(configs_path, false, links_end_at);
  if (!configs && configs.error().code == base::Code::kNotFound) return false;
  if (!configs) return configs.error();
  auto fd = configs->OpenFile(kAgentLockFile);
  if (!fd && fd.error().code == base::Code::kNotFound) return false;
  if (!fd) return fd.error();
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(fd->Get(), F_OFD_GETLK, &lock) != 0)
    return base::ErrnoError(errno, "ask for the lock of " + configs_path + "/" + kAgentLockFile);
  return lock.l_type != F_UNLCK;
}

}  // namespace bundle
