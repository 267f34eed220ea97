#include "box/pod/node_reports.hpp"

#include "base/log.hpp"

namespace box {
namespace {

constexpr base::Millis kCall{10'000};
constexpr base::Millis kFresh{5'000};
constexpr base::Millis kRefused{300'000};
constexpr size_t kNodesRemembered = 20'000;

}  // namespace

std::optional<NodeReports::Seen> NodeReports::Known(const std::string& node, base::MonoTime now) {
  const std::lock_guard lock(mutex_);
  if (refused_ && now - *refused_ < kRefused) return Seen{now, std::nullopt};
  const auto found = seen_.find(node);
  if (found == seen_.end() || now - found->second.when >= kFresh) return std::nullopt;
  return found->second;
}

std::optional<kube::Node> NodeReports::Ask(kube::Client& client, const std::string& node,
                                           base::MonoTime now, std::stop_token stop) {
  if (const auto known = Known(node, now)) return known->node;
  auto bytes = client.Get({kube::kNodes, "", node}, {kCall, stop});
  Seen seen{now, std::nullopt};
  if (bytes) {
    if (auto decoded = kube::DecodeNode(*bytes)) seen.node = *std::move(decoded);
  } else if (bytes.error().code == base::Code::kNotFound) {
    seen.node.emplace();
    seen.node->exists = false;
  }
  const bool refused = !bytes && bytes.error().code == base::Code::kForbidden;
  if (refused)
    base::LogInfo(
        "may not read nodes: of a Pod that was not Ready it is not known whether its "
        "node is gone",
        {{"error", bytes.error().message}});
  const std::lock_guard lock(mutex_);
  if (refused) refused_ = now;
  if (seen_.size() >= kNodesRemembered) seen_.clear();
  seen_[node] = seen;
  return seen.node;
}

}  // namespace box
