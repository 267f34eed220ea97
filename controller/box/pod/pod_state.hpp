#pragma once

#include <optional>
#include <string>

#include "box/box.hpp"
#include "kube/node.hpp"
#include "kube/pod.hpp"

namespace box {

/// "pod:<uid>": what agents in Pods register as; the first part of the box's identity.
std::string PodIdentity(const std::string& pod_uid);
/// "pod:<uid>/<container>": another container of the same Pod is another box.
std::string PodBoxIdentity(const kube::Pod& pod, const std::string& wanted);

/// When the container that runs now was started, by its node's clock; nothing: not known.
std::optional<base::WallTime> StartOf(const kube::Pod& pod, const std::string& wanted);

/// The container that the agent runs in: `wanted`; where that is empty the one that a managed Pod
/// was made with, of others the first one of the spec.
std::string ContainerOf(const kube::Pod& pod, const std::string& wanted);

// clang-format off
/// The one answer of a Pod to "is it running?". `pod` null: there is none. Pure.
///
/// | Pod                                                   | state   | reason                      |
/// |-------------------------------------------------------|---------|-----------------------------|
/// | none                                                  | Stopped | PodMissing                  |
/// | being deleted, and its node does not report           | Unknown | NodeNotReady, with a remedy |
/// | being deleted                                         | Unknown | PodTerminating              |
/// | Failed, Succeeded                                     | Stopped | its own (Evicted, ...)      |
/// | phase Unknown; not Ready although its containers are  | Unknown | NodeNotReady                |
/// | not Ready, and its node (`node`) is not Ready either  | Unknown | NodeNotReady                |
/// | not scheduled                                         | Stopped | Unschedulable, or the API's |
/// | container waits: image, config, CrashLoopBackOff      | Stopped | the kubelet's               |
/// | so does an init container, and the agent's runs not   | Stopped | the kubelet's               |
/// | container waits: ContainerCreating, PodInitializing   | Unknown | the kubelet's               |
/// | container terminated                                  | Stopped | OOMKilled, Error, ...       |
/// | container runs                                        | Running | ContainerNotReady, or none  |
// clang-format on
StateReport DecidePodState(const kube::Pod* pod, const std::string& wanted,
                           const kube::Node* node = nullptr);

/// True if this Pod looks the same whether its node reports or not: when a node goes silent, only
/// Pods that were Ready are written to. Then DecidePodState needs the node too.
bool NeedsNode(const kube::Pod& pod);

/// True if it is certain that no container of the Pod has ever run, so that nothing is lost with
/// it: it has no node yet, or the kubelet tells of each container, and of none that it ran. Init
/// containers do not count: what they fill goes away with the Pod, or outlives it on a claim.
bool HasNeverRun(const kube::Pod& pod);

/// True if /configs of the container lies on a volume: what is written there survives the
/// container.
bool ConfigsOnVolume(const kube::Pod& pod, const std::string& wanted);

/// True if that volume dies with the Pod (an emptyDir): another Pod of its name begins empty.
bool ConfigsDieWithPod(const kube::Pod& pod, const std::string& wanted);

}  // namespace box
