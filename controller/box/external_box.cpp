#include "box/external_box.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/failpoint.hpp"

namespace box {
namespace {

constexpr char kCause[] = "external box: the operator cannot reach it; its agent pulls and reports";

base::Error PullOnly(const char* what) {
  return base::MakeError(base::Code::kInvalid,
                         fmt::format("{} an external box is not possible; let it pull: GET "
                                     "/workspaces/{{id}}/plugins/{{name}}/download",
                                     what),
                         "ExternalBox");
}

class ExternalBox final : public Box {
 public:
  ExternalBox(InventoryView inventory, RequestRestart restart)
      : inventory_(std::move(inventory)), restart_(std::move(restart)) {}

  StateReport State(std::stop_token) override { return {BoxState::kUnknown, kCause, ""}; }

  base::Result<ProbeReport> Probe(const std::vector<std::string>& names,
                                  const std::vector<Delivery>&, std::stop_token) override {
    const auto inventory = inventory_ ? inventory_() : std::nullopt;
    ProbeReport report;
    for (const std::string& name : names) {
      PluginProbe probe;
      probe.name = name;
      if (!inventory) {
        probe.cause = "its agent has not reported an inventory yet";
      } else if (const auto found =
                     std::find_if(inventory->begin(), inventory->end(),
                                  [&](const auto& item) { return item.name == name; });
                 found != inventory->end()) {
        probe.presence = Presence::kPresent;
        probe.revision = found->revision;
        probe.digest = found->digest;
      } else {
        probe.presence = Presence::kAbsent;
        probe.cause = "its agent's inventory does not have it";
      }
      report.plugins.push_back(std::move(probe));
    }
    return report;
  }

  base::Result<std::vector<StepResult>> Deliver(const std::vector<Delivery>&,
                                                std::stop_token) override {
    return PullOnly("delivering to");
  }
  base::Result<std::vector<StepResult>> Activate(const ActivateRequest&, std::stop_token) override {
    return PullOnly("activating in");
  }
  /// An external box keeps its own records: nothing is to be written there.
  base::Result<std::vector<StepResult>> Adopt(const std::vector<Delivery>& present,
                                              std::stop_token) override {
    std::vector<StepResult> results;
    for (const Delivery& plugin : present) results.push_back({plugin.name, {}});
    return results;
  }
  base::Result<std::vector<StepResult>> Remove(const std::vector<std::string>&, const std::string&,
                                               std::stop_token) override {
    return PullOnly("removing from");
  }
  base::Status ClearRemovals(const std::string&, std::stop_token) override { return {}; }

  base::Status Restart(const std::string& expected_boot_id, std::stop_token) override {
    if (!restart_)
      return base::MakeError(base::Code::kInvalid, "this external box takes no restart requests",
                             "RestartUnsupported");
    const base::FailpointScope point("box.restart");
    return restart_(expected_boot_id);
  }
  base::Status WriteToken(const std::string&, std::stop_token) override {
    return PullOnly("writing the token of");
  }

 private:
  InventoryView inventory_;
  RequestRestart restart_;
};

}  // namespace

std::unique_ptr<Box> MakeExternalBox(InventoryView inventory, RequestRestart restart) {
  return std::make_unique<ExternalBox>(std::move(inventory), std::move(restart));
}

}  // namespace box
