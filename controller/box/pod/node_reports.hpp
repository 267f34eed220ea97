#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "base/clock.hpp"
#include "kube/client.hpp"
#include "kube/node.hpp"

namespace box {

/// What the API says of the nodes that Pods are on. Read when it is asked for, a node at most once
/// in five seconds however many of its Pods ask: nodes are not watched, since each of them is
/// written every few minutes and hardly any of those writes matters to us. Thread safe, bounded.
class NodeReports {
 public:
  /// Nothing where nobody can tell: the operator may not read nodes (a Role of one namespace cannot
  /// allow it; then it asks again after five minutes), or the API does not answer.
  std::optional<kube::Node> Ask(kube::Client& client, const std::string& node, base::MonoTime now,
                                std::stop_token stop);

 private:
  struct Seen {
    base::MonoTime when;
    std::optional<kube::Node> node;
  };
  std::optional<Seen> Known(const std::string& node, base::MonoTime now);

  std::mutex mutex_;
  std::map<std::string, Seen> seen_;
  std::optional<base::MonoTime> refused_;
};

}  // namespace box
