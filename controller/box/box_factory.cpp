#include "box/box_factory.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "box/directory_box.hpp"
#include "box/external_box.hpp"
#include "bundle/tree_check.hpp"

namespace box {
namespace {

using MadeBox = base::Result<std::unique_ptr<Box>>;

base::Error Invalid(std::string message, const char* reason) {
  return base::MakeError(base::Code::kInvalid, std::move(message), reason);
}

RequestRestart RestartOf(const api::Workspace& workspace, const BoxDependencies& dependencies) {
  if (!dependencies.request_restart) return nullptr;
  return [ask = dependencies.request_restart, workspace](const std::string& expected_boot_id) {
    return ask(workspace, expected_boot_id);
  };
}

bool IsBeneath(std::string_view path, std::string_view root) {
  while (root.size() > 1 && root.back() == '/') root.remove_suffix(1);
  return root == "/" || path == root ||
         (path.size() > root.size() && path.starts_with(root) && path[root.size()] == '/');
}

/// The first folder on the way from `root` to `path` that is a link; empty: none. What the admin
/// names may be one, but whoever owns a box must not lead us out of it. Where all of the file
/// system is allowed there is no way out.
std::string LinkBeneath(std::string_view root, const std::string& path) {
  if (root == "/") return "";
  while (root.size() > 1 && root.back() == '/') root.remove_suffix(1);
  for (size_t at = root.size(); at < path.size();) {
    at = std::min(path.find('/', at + 1), path.size());
    std::string folder = path.substr(0, at);
    struct stat info {};
    if (::lstat(folder.c_str(), &info) == 0 && S_ISLNK(info.st_mode)) return folder;
  }
  return "";
}

std::string SettingsFileOf(const api::Workspace& workspace, const BoxDependencies& dependencies) {
  const auto found = dependencies.settings_file_by_runtime.find(workspace.spec.runtime);
  return found == dependencies.settings_file_by_runtime.end() ? "settings.json" : found->second;
}

MadeBox MakeDirectory(const api::Workspace& workspace, const BoxDependencies& dependencies) {
  auto place = FindDirectory(workspace, dependencies.directory_roots);
  if (!place) return place.error();
  DirectoryBoxOptions options{.root = std::move(place->path),
                              .links_end_at = std::move(place->links_end_at),
                              .settings_file = SettingsFileOf(workspace, dependencies),
                              .limits = dependencies.limits};
  return MakeDirectoryBox(std::move(options), dependencies.digest_cache,
                          RestartOf(workspace, dependencies), *dependencies.clock);
}

MadeBox Unavailable(const char* type, const BoxDependencies& dependencies) {
  return Invalid(
      fmt::format("spec.box.type {} is not served by this operator; it serves {}External{}", type,
                  dependencies.make_pod ? "Pod, " : "",
                  dependencies.directory_roots.empty()
                      ? " (and Directory, where its setting boxes.directoryRoots allows folders)"
                      : " and Directory"),
      "BoxTypeUnavailable");
}

MadeBox MakePod(const api::Workspace& workspace, const BoxDependencies& dependencies) {
  if (!dependencies.make_pod) return Unavailable("Pod", dependencies);
  if (!workspace.spec.box.pod)
    return Invalid("spec.box.pod is missing; add it with `image`, `templateRef` or `podRef`",
                   "SpecInvalid");
  return dependencies.make_pod(workspace, SettingsFileOf(workspace, dependencies),
                               RestartOf(workspace, dependencies));
}

MadeBox MakeExternal(const api::Workspace& workspace, const BoxDependencies& dependencies) {
  InventoryView view;
  if (dependencies.inventory)
    view = [ask = dependencies.inventory, workspace] { return ask(workspace); };
  return MakeExternalBox(std::move(view), RestartOf(workspace, dependencies));
}

}  // namespace

base::Result<DirectoryPlace> FindDirectory(const api::Workspace& workspace,
                                           const std::vector<std::string>& roots) {
  if (!workspace.spec.box.directory)
    return Invalid("spec.box.directory is missing; add it with `path`", "SpecInvalid");
  std::string path = workspace.spec.box.directory->path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (path.size() < 2 || path[0] != '/' || !bundle::CheckPath(path.substr(1), {.depth = 64}))
    return Invalid(fmt::format("spec.box.directory.path `{}` must be absolute and plain",
                               bundle::Printable(path)),
                   "SpecInvalid");
  std::string link;
  for (const std::string& root : roots) {
    if (!IsBeneath(path, root)) continue;
    link = LinkBeneath(root, path);
    if (link.empty()) return DirectoryPlace{path, root == "/" ? "" : root};
  }
  const std::string why =
      link.empty() ? "is not beneath a folder that the admin allows for boxes (setting "
                     "boxes.directoryRoots)"
                   : fmt::format("leads through a symbolic link, `{}`; name the folder itself",
                                 bundle::Printable(link));
  return Invalid(fmt::format("spec.box.directory.path `{}` {}", bundle::Printable(path), why),
                 "BoxPathNotAllowed");
}

MadeBox MakeBox(const api::Workspace& workspace, const BoxDependencies& dependencies) {
  switch (workspace.spec.box.type) {
    case api::BoxType::kDirectory:
      return MakeDirectory(workspace, dependencies);
    case api::BoxType::kExternal:
      return MakeExternal(workspace, dependencies);
    case api::BoxType::kPod:
      return MakePod(workspace, dependencies);
    case api::BoxType::kDocker:
      return Unavailable("Docker", dependencies);
    case api::BoxType::kSSH:
      return Unavailable("SSH", dependencies);
  }
  return Unavailable("unknown", dependencies);
}

}  // namespace box
