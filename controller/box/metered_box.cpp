#include "box/metered_box.hpp"

#include <utility>

namespace box {
namespace {

using StepResults = base::Result<std::vector<StepResult>>;

class MeteredBox final : public Box {
 public:
  MeteredBox(std::unique_ptr<Box> inner, std::function<void(const BoxSample&)> observe)
      : inner_(std::move(inner)), observe_(std::move(observe)) {}

  /// Not counted: what it makes is counted by the Kubernetes client.
  base::Status Provide(const MayEnd& may_end, std::stop_token stop) override {
    return inner_->Provide(may_end, std::move(stop));
  }
  StateReport State(std::stop_token stop) override {
    StateReport report = inner_->State(std::move(stop));
    observe_({"state", report.state == BoxState::kUnknown ? "unknown" : "ok"});
    return report;
  }
  base::Result<ProbeReport> Probe(const std::vector<std::string>& names,
                                  const std::vector<Delivery>& record,
                                  std::stop_token stop) override {
    auto report = inner_->Probe(names, record, std::move(stop));
    observe_({"probe", OutcomeOf(report), report ? report->plugins.size() : 0});
    return report;
  }
  StepResults Deliver(const std::vector<Delivery>& deliveries, std::stop_token stop) override {
    return Steps("deliver", inner_->Deliver(deliveries, std::move(stop)));
  }
  StepResults Adopt(const std::vector<Delivery>& present, std::stop_token stop) override {
    return Steps("adopt", inner_->Adopt(present, std::move(stop)));
  }
  StepResults Activate(const ActivateRequest& request, std::stop_token stop) override {
    return Steps("activate", inner_->Activate(request, std::move(stop)));
  }
  StepResults Remove(const std::vector<std::string>& names, const std::string& boot_id,
                     std::stop_token stop) override {
    return Steps("remove", inner_->Remove(names, boot_id, std::move(stop)));
  }
  base::Status ClearRemovals(const std::string& boot_id, std::stop_token stop) override {
    return Plain("clear_removals", inner_->ClearRemovals(boot_id, std::move(stop)));
  }
  base::Status Restart(const std::string& expected_boot_id, std::stop_token stop) override {
    return Plain("restart", inner_->Restart(expected_boot_id, std::move(stop)));
  }
  base::Status WriteToken(const std::string& token, std::stop_token stop) override {
    return Plain("write_token", inner_->WriteToken(token, std::move(stop)));
  }

 private:
  template <typename T>
  static std::string_view OutcomeOf(const T& result) {
    return result ? "ok" : base::CodeName(result.error().code);
  }
  base::Status Plain(std::string_view call, base::Status status) {
    observe_({call, OutcomeOf(status)});
    return status;
  }
  /// A call that succeeded as a whole counts as its first failed step.
  StepResults Steps(std::string_view call, StepResults results) {
    BoxSample sample{call, OutcomeOf(results)};
    if (results) {
      for (const StepResult& step : *results) {
        if (step.status)
          ++sample.plugins;
        else
          sample.outcome = OutcomeOf(step.status);
      }
    }
    observe_(sample);
    return results;
  }

  std::unique_ptr<Box> inner_;
  std::function<void(const BoxSample&)> observe_;
};

}  // namespace

std::unique_ptr<Box> MakeMeteredBox(std::unique_ptr<Box> inner,
                                    std::function<void(const BoxSample&)> observe) {
  return std::make_unique<MeteredBox>(std::move(inner), std::move(observe));
}

}  // namespace box
