#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace kube {

/// core/v1 Node, as far as its Pods are concerned.
struct Node {
  bool exists = true;
  bool ready = false;  ///< Its Ready condition is True.
  /// That condition is Unknown: the kubelet has not reported for as long as the cluster allows.
  bool silent = false;
  std::string message;  ///< Of that condition.
  bool operator==(const Node&) const = default;
};

/// From the bytes of a Node. kInvalid with reason BadNode.
base::Result<Node> DecodeNode(std::string_view json);

}  // namespace kube
