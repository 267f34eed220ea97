#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "api/workspace.hpp"
#include "box/box_factory.hpp"
#include "box/exec_box.hpp"
#include "box/pod/managed_pod.hpp"
#include "box/pod/node_reports.hpp"
#include "box/pod/pod_keeper.hpp"
#include "kube/client.hpp"
#include "kube/pod.hpp"
#include "kube/pod_exec.hpp"

namespace box {

/// What is remembered from one pass to the next, of all Pods of a process.
struct PodMemory {
  std::shared_ptr<HelperMemory> helpers = std::make_shared<HelperMemory>();
  PodRemakes remakes;
  CaHandings cas;
  NodeReports nodes;
};

/// What Pod boxes need. Everything outlives them and is thread safe.
struct PodDependencies {
  kube::Client* client = nullptr;
  kube::PodExec* exec = nullptr;
  /// A Pod of the label-restricted informer, or null: not there, or not labelled.
  std::function<std::shared_ptr<const kube::Pod>(const meta::ObjectKey&)> find_pod;
  ManagedPodSettings managed;
  /// Why the tokens of agents in managed Pods cannot be checked now; nothing: they can, or nobody
  /// has needed it.
  std::function<std::optional<std::string>()> tokens_refused = nullptr;
  PodMemory* memory = nullptr;
};

/// A Pod of the workspace's namespace: managed (`image`, `templateRef`: made, and made again when
/// it is gone or has failed) or adopted (`podRef`: somebody else's). Identity: Pod UID and
/// container id, so a restarted container is another box. Everything inside it goes through
/// pods/exec.
///
/// Restart: in the answer to the agent's next heartbeat. An adopted Pod in which no agent runs is
/// deleted for its owner to make it again where spec.restart.recreate is Allowed and its plugins
/// outlive it, else kInvalid RestartUnsupported: PID 1 cannot be signalled from inside.
std::unique_ptr<Box> MakePodBox(const api::Workspace& workspace,
                                const PodDependencies& dependencies, std::string settings_file,
                                RequestRestart restart);
/// The same for the factory of boxes.
PodMaker PodBoxMaker(PodDependencies dependencies);

}  // namespace box
