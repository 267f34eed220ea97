#include "bundle/installed/state_carry.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "base/failpoint.hpp"
#include "bundle/installed/install_session.hpp"

namespace bundle {
namespace {

/// State is the box's own data: wider bounds than for what a plugin ships, but bounds.
Limits StateLimits(Limits limits) {
  limits.total_bytes *= 16;
  limits.file_bytes *= 16;
  limits.entries *= 2;
  return limits;
}

base::Status CopyFile(const Folder& from, const FileEntry& file, const Folder& to) {
  if (auto ok = to.RemoveTree(file.path); !ok) return ok;
  auto fd = to.Create(file.path, file.executable ? 0755 : 0644);
  if (!fd) return fd.error();
  return ContentOf(from)(file, [&](std::string_view bytes) -> base::Status {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd->Get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0)
        return base::ErrnoError(errno, fmt::format("copy state to {}/{}", to.Text(), file.path));
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return {};
  });
}

/// The files that one state path stands for.
base::Result<std::vector<FileEntry>> StateFiles(const Folder& tree, const std::string& path,
                                                const Limits& limits) {
  const auto info = tree.Stat(path);
  if (!info) {
    if (info.error().code == base::Code::kNotFound) return std::vector<FileEntry>{};
    return info.error();
  }
  if (S_ISREG(info->st_mode))
    return std::vector<FileEntry>{
        {path, static_cast<uint64_t>(info->st_size), (info->st_mode & 0100) != 0}};
  auto folder = tree.Sub(path);
  if (!folder) return folder.error();
  auto files = ListFiles(*folder, limits);
  if (!files) return files.error();
  for (FileEntry& file : *files) file.path = path + "/" + file.path;
  return files;
}

}  // namespace

base::Status CarryState(const Folder& old_tree, const std::vector<std::string>& state,
                        const Folder& staged_tree, const Receipt& staged, const Limits& limits) {
  std::set<std::string> paths(state.begin(), state.end());
  if (const auto coming = LoadManifest(staged_tree, staged.name))
    paths.insert(coming->state.begin(), coming->state.end());
  if (paths.empty()) return {};
  std::set<std::string> listed;
  for (const ReceiptFile& file : staged.files) listed.insert(file.path);
  const base::FailpointScope point("box.activate.state");
  const Limits bounds = StateLimits(limits);
  uint64_t total = 0;
  for (const std::string& path : paths) {
    auto files = StateFiles(old_tree, path, bounds);
    if (!files) return files.error();
    for (const FileEntry& file : *files) {
      total += file.size;
      if (total > bounds.total_bytes)
        return base::MakeError(base::Code::kInvalid,
                               fmt::format("plugin {}: its state has more than {} bytes",
                                           staged.name, bounds.total_bytes),
                               "StateTooLarge");
      if (listed.contains(file.path)) continue;
      if (auto ok = CopyFile(old_tree, file, staged_tree); !ok) return ok;
    }
  }
  if (::syncfs(staged_tree.Fd()) != 0)
    return base::ErrnoError(errno, "flush " + staged_tree.Text());
  return {};
}

}  // namespace bundle
