#include "box/pod/pod_state.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "box/pod/managed_pod.hpp"

namespace box {
namespace {

constexpr size_t kIdBytes = 12;
constexpr char kConfigs[] = "/configs";

StateReport Report(BoxState state, std::string reason, std::string cause, std::string identity) {
  StateReport out{state, std::move(cause), std::move(identity)};
  out.reason = std::move(reason);
  return out;
}

template <typename List>
auto FindNamed(const List& list, const std::string& name) {
  return std::find_if(list.begin(), list.end(),
                      [&](const auto& item) { return item.name == name; });
}

bool IsTransient(const std::string& waiting) {
  return waiting.empty() || waiting == "ContainerCreating" || waiting == "PodInitializing";
}

/// The kubelet alternates between a failure and its back-off: one word for both, so that nothing is
/// written for it.
std::string WaitingReason(const std::string& reason) {
  return reason == "ErrImagePull" ? "ImagePullBackOff" : reason;
}

std::string WaitingCause(const kube::Pod& pod, const kube::PodContainer& c,
                         const std::string& reason) {
  if (reason == "ImagePullBackOff" || reason == "ErrImageNeverPull" || reason == "InvalidImageName")
    return fmt::format(
        "container {}: image {} cannot be had ({}); correct the image or how it is "
        "pulled",
        c.name, c.image, reason);
  if (reason == "CrashLoopBackOff")
    return fmt::format("container {}: it ended with {}{} again and again; look at its log", c.name,
                       c.exit_code, c.last_reason.empty() ? "" : " (" + c.last_reason + ")");
  if (!c.message.empty()) return fmt::format("container {}: {}: {}", c.name, reason, c.message);
  // Why it takes long (volumes, network, a sandbox that cannot be made) the kubelet tells in events
  // alone.
  return fmt::format("container {}: {}; if that lasts, `kubectl describe pod {}` says why", c.name,
                     reason.empty() ? "not started yet" : reason, pod.meta.name);
}

StateReport DecideWaiting(const kube::Pod& pod, const kube::PodContainer& c,
                          const std::string& identity) {
  const std::string reason = WaitingReason(c.reason);
  return Report(IsTransient(reason) ? BoxState::kUnknown : BoxState::kStopped,
                reason.empty() ? "ContainerCreating" : reason, WaitingCause(pod, c, reason),
                identity);
}

/// A node that stops reporting has its Pods marked not Ready from outside; what the kubelet said
/// last, that its containers are ready, stays.
bool IsMarked(const kube::Pod& pod) {
  const bool all_ready =
      !pod.statuses.empty() && std::all_of(pod.statuses.begin(), pod.statuses.end(),
                                           [](const auto& status) { return status.ready; });
  return pod.phase == "Unknown" || (!pod.ready && all_ready && pod.ready_reason.empty());
}

/// Whatever the kubelet said last of this Pod, it may no longer be so.
bool NodeIsAway(const kube::Pod& pod, const kube::Node* node) {
  return IsMarked(pod) || (node != nullptr && !node->ready);
}

std::string NodeCause(const kube::Pod& pod, const kube::Node* node) {
  if (node != nullptr && !node->exists)
    return fmt::format("node {} does not exist any more", pod.node);
  if (node == nullptr || node->ready || node->silent || node->message.empty())
    return fmt::format("node {} does not report", pod.node);
  return fmt::format("node {} is not ready: {}", pod.node, node->message);
}

StateReport DecideContainer(const kube::Pod& pod, const kube::PodContainer& c,
                            const std::string& identity) {
  if (c.state == "terminated")
    return Report(BoxState::kStopped, c.reason.empty() ? "ContainerTerminated" : c.reason,
                  fmt::format("container {} ended with {}{}", c.name, c.exit_code,
                              c.reason.empty() ? "" : " (" + c.reason + ")"),
                  identity);
  if (c.state != "running") return DecideWaiting(pod, c, identity);
  if (!c.ready)
    return Report(BoxState::kRunning, "ContainerNotReady",
                  fmt::format("container {} runs, but its readiness probe does not pass", c.name),
                  identity);
  return Report(BoxState::kRunning, "", "", identity);
}

/// Nothing runs in it any more, and yet it stays: only whoever set the finalizers lets it go.
std::string HeldBy(const kube::Pod& pod) {
  const auto& held = pod.meta.finalizers;
  if (held.empty() || std::any_of(pod.statuses.begin(), pod.statuses.end(),
                                  [](const auto& c) { return c.state == "running"; }))
    return "";
  return fmt::format(", and held by the finalizer{} {}", held.size() == 1 ? "" : "s",
                     fmt::join(held, ", "));
}

/// The Pod as a whole, before its containers are looked at.
std::optional<StateReport> DecideWhole(const kube::Pod& pod, const kube::Node* node,
                                       const std::string& identity) {
  const bool away = NodeIsAway(pod, node);
  // It cannot end while its node is away, and nobody makes it again before: a person must decide.
  if (pod.meta.deletion_time && away)
    return Report(BoxState::kUnknown, "NodeNotReady",
                  fmt::format("Pod {} is being deleted, but {}; when that node is surely off, run "
                              "`kubectl delete pod {} --force`",
                              pod.meta.name, NodeCause(pod, node), pod.meta.name),
                  identity);
  if (pod.meta.deletion_time)
    return Report(BoxState::kUnknown, "PodTerminating",
                  fmt::format("Pod {} is being deleted{}", pod.meta.name, HeldBy(pod)), identity);
  if (pod.phase == "Failed" || pod.phase == "Succeeded")
    return Report(BoxState::kStopped, pod.reason.empty() ? "Pod" + pod.phase : pod.reason,
                  fmt::format("Pod {}: {}{}{}", pod.meta.name, pod.phase,
                              pod.message.empty() ? "" : ": ", pod.message),
                  identity);
  if (away) return Report(BoxState::kUnknown, "NodeNotReady", NodeCause(pod, node), identity);
  if (pod.phase == "Pending" && !pod.scheduled && pod.node.empty()) {
    if (pod.scheduling_reason.empty())
      return Report(BoxState::kUnknown, "Pending",
                    fmt::format("Pod {} is not scheduled yet", pod.meta.name), identity);
    return Report(BoxState::kStopped, pod.scheduling_reason,
                  fmt::format("Pod {}: {}", pod.meta.name, pod.scheduling_message), identity);
  }
  return std::nullopt;
}

bool Mounts(const std::vector<std::string>& paths, std::string_view wanted) {
  return std::any_of(paths.begin(), paths.end(), [&](std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return path == wanted;
  });
}

}  // namespace

std::string PodIdentity(const std::string& pod_uid) { return "pod:" + pod_uid; }

std::string ContainerOf(const kube::Pod& pod, const std::string& wanted) {
  if (!wanted.empty() || pod.containers.empty()) return wanted;
  // Admission may have put another one (a mesh's proxy) before the one that we made it with.
  const auto made_from = pod.meta.annotations.find(kMadeFromAnnotation);
  const std::string ours =
      made_from == pod.meta.annotations.end() ? "" : ContainerIn(made_from->second);
  const bool there = FindNamed(pod.containers, ours) != pod.containers.end();
  return there ? ours : pod.containers.front().name;
}

std::optional<base::WallTime> StartOf(const kube::Pod& pod, const std::string& wanted) {
  const auto status = FindNamed(pod.statuses, ContainerOf(pod, wanted));
  return status == pod.statuses.end() ? std::nullopt : status->started;
}

std::string PodBoxIdentity(const kube::Pod& pod, const std::string& wanted) {
  const auto status = FindNamed(pod.statuses, ContainerOf(pod, wanted));
  std::string id = status == pod.statuses.end() ? "" : status->id;
  if (const size_t scheme = id.find("://"); scheme != std::string::npos) id.erase(0, scheme + 3);
  return PodIdentity(pod.meta.uid) + "/" + id.substr(0, kIdBytes);
}

bool NeedsNode(const kube::Pod& pod) {
  return !pod.node.empty() && !pod.ready && (pod.phase == "Pending" || pod.phase == "Running") &&
         !IsMarked(pod);
}

bool HasNeverRun(const kube::Pod& pod) {
  const bool told = pod.node.empty() || pod.statuses.size() >= pod.containers.size();
  return told && std::all_of(pod.statuses.begin(), pod.statuses.end(), [](const auto& c) {
           return c.state == "waiting" && c.id.empty() && !c.ran_before;
         });
}

StateReport DecidePodState(const kube::Pod* pod, const std::string& wanted,
                           const kube::Node* node) {
  if (pod == nullptr) return Report(BoxState::kStopped, "PodMissing", "the Pod does not exist", "");
  const std::string container = ContainerOf(*pod, wanted);
  const std::string identity = PodBoxIdentity(*pod, container);
  if (FindNamed(pod->containers, container) == pod->containers.end())
    return Report(BoxState::kStopped, "ContainerMissing",
                  fmt::format("Pod {} has no container {}; correct spec.box.pod.container",
                              pod->meta.name, container),
                  identity);
  if (auto whole = DecideWhole(*pod, node, identity)) return *std::move(whole);
  const auto status = FindNamed(pod->statuses, container);
  const bool runs = status != pod->statuses.end() && status->state == "running";
  // Those that go on beside the others (restartPolicy: Always) may fail while the agent works.
  for (const kube::PodContainer& init : pod->init_statuses)
    if (!runs && init.state == "waiting" && !IsTransient(init.reason))
      return DecideWaiting(*pod, init, identity);
  if (status == pod->statuses.end())
    return Report(BoxState::kUnknown, "ContainerCreating",
                  fmt::format("Pod {} is being started", pod->meta.name), identity);
  return DecideContainer(*pod, *status, identity);
}

bool ConfigsOnVolume(const kube::Pod& pod, const std::string& wanted) {
  const auto spec = FindNamed(pod.containers, ContainerOf(pod, wanted));
  return spec != pod.containers.end() &&
         (Mounts(spec->mounts, kConfigs) || Mounts(spec->mounts, "/"));
}

bool ConfigsDieWithPod(const kube::Pod& pod, const std::string& wanted) {
  const auto spec = FindNamed(pod.containers, ContainerOf(pod, wanted));
  if (spec == pod.containers.end()) return false;
  return Mounts(spec->ephemeral, Mounts(spec->mounts, kConfigs) ? kConfigs : "/");
}

}  // namespace box
