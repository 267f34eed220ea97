#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "api/workspace.hpp"
#include "box/box.hpp"
#include "box/directory_box.hpp"
#include "bundle/installed/installed_plugins.hpp"

namespace box {

using PodMaker = std::function<std::unique_ptr<Box>(const api::Workspace&,
                                                    std::string settings_file, RequestRestart)>;

/// What boxes need from the rest of the operator. Callbacks may be called from any worker and must
/// not block.
struct BoxDependencies {
  /// Asks for a restart in the heartbeat's answer (fleet/). Unset: RestartUnsupported.
  std::function<base::Status(const api::Workspace&, const std::string& expected_boot_id)>
      request_restart;
  /// The last reported inventory (fleet/); nothing: not reported yet.
  std::function<std::optional<std::vector<bundle::InventoryItem>>(const api::Workspace&)> inventory;
  std::map<std::string, std::string>
      settings_file_by_runtime;              ///< Relative to configs; default settings.json.
  std::vector<std::string> directory_roots;  ///< Directory boxes must be beneath one of these
                                             ///< folders; {"/"} allows any; none: refused.
  std::shared_ptr<bundle::DigestCache> digest_cache =
      std::make_shared<bundle::DigestCache>();  ///< Shared by all boxes.
  /// Makes Pod boxes (box/pod/pod_box.hpp). Unset: the API that we talk to serves no Pods.
  PodMaker make_pod;
  bundle::Limits limits;
  const base::Clock* clock = &base::SystemClock::Get();
};

/// Where a Directory box is, without a slash at the end.
struct DirectoryPlace {
  std::string path;
  std::string links_end_at;  ///< The one of `roots` that allows it; empty if all are allowed.
};

/// Errors: kInvalid with reason SpecInvalid (missing, relative, with `..`) or BoxPathNotAllowed
/// (beneath none of `roots`, or through a link). That there is no link now says nothing about the
/// next moment: whoever opens the path does it by `links_end_at` (bundle::Folder::OpenBeneath).
base::Result<DirectoryPlace> FindDirectory(const api::Workspace& workspace,
                                           const std::vector<std::string>& roots);

/// The box of a workspace: cheap, holds no connection; made anew for every pass. Errors: kInvalid
/// with reason BoxTypeUnavailable (this operator does not serve that type), BoxPathNotAllowed, or
/// SpecInvalid (the member of the union is missing).
base::Result<std::unique_ptr<Box>> MakeBox(const api::Workspace& workspace,
                                           const BoxDependencies& dependencies);

}  // namespace box
