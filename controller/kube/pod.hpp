#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "meta/object.hpp"

namespace kube {

/// One entry of status.containerStatuses, as far as anybody here decides on it.
struct PodContainer {
  std::string name;
  std::string id;      ///< containerd://...; of the last one while it waits to be started again.
  std::string state;   ///< running, waiting or terminated; empty: none yet.
  std::string reason;  ///< Of waiting or terminated, e.g. ImagePullBackOff, OOMKilled.
  int64_t exit_code = 0;
  std::string image;
  bool ready = false;
  std::string last_reason = {};  ///< While it waits: how the one before ended, e.g. OOMKilled.
  bool ran_before = false;       ///< There was one before it.
  std::string message = {};      ///< Of CreateContainerConfigError, at most 256 bytes.
  std::optional<base::WallTime> started = {};  ///< Of running; by its node's clock, in seconds.
  bool operator==(const PodContainer&) const = default;
};

/// A container of the spec.
struct PodContainerSpec {
  std::string name;
  std::vector<std::string> mounts;          ///< Mount paths that are writable.
  std::vector<std::string> ephemeral = {};  ///< Those of them whose volume dies with the Pod.
  bool operator==(const PodContainerSpec&) const = default;
};

/// core/v1 Pod, compact: what a box adapter decides on.
struct Pod {
  meta::ObjectMeta meta;
  std::string node;
  std::string phase;    ///< Pending, Running, Succeeded, Failed, Unknown.
  std::string reason;   ///< status.reason, e.g. Evicted.
  std::string message;  ///< status.message.
  bool scheduled = false;
  std::string scheduling_reason;  ///< Of a PodScheduled condition that is not True.
  std::string scheduling_message;
  bool ready = false;
  std::string ready_reason;  ///< Of a Ready condition that is not True; empty: none is said.
  std::vector<PodContainerSpec> containers;
  std::vector<PodContainer> statuses;
  std::vector<PodContainer> init_statuses;
  bool operator==(const Pod&) const = default;
};

/// From the bytes of a Pod (or of EncodePod). kInvalid with reason BadPod.
base::Result<Pod> DecodePod(std::string_view json);
/// A small document that DecodePod reads back to an equal Pod.
std::string EncodePod(const Pod& pod);

}  // namespace kube
