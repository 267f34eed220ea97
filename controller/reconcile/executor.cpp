#include "reconcile/executor.hpp"

#include <fmt/format.h>

#include "base/failpoint.hpp"

namespace reconcile {
namespace {

using core::Step;
using core::StepKind;

class Executor {
 public:
  Executor(const Dependencies& on, box::Box& box, const core::PluginPlan& plan,
           std::stop_token stop)
      : on_(on), box_(box), plan_(plan), stop_(std::move(stop)) {
    outcome_.steps.resize(plan.steps.size());
  }

  core::Outcome Run() {
    for (size_t begin = 0; begin < plan_.steps.size();) {
      size_t end = begin;
      while (end < plan_.steps.size() && plan_.steps[end].kind == plan_.steps[begin].kind) ++end;
      RunGroup(begin, end);
      begin = end;
    }
    return std::move(outcome_);
  }

 private:
  /// Steps [begin, end) are of one kind.
  void RunGroup(size_t begin, size_t end) {
    if (stop_.stop_requested()) return;
    std::vector<size_t> chosen;
    for (size_t i = begin; i < end; ++i)
      if (core::ShouldRun(plan_, outcome_, i)) chosen.push_back(i);
    if (chosen.empty()) return;
    // Boxes are beyond the API's fence: who may not write there any more must not act here either.
    if (auto may = on_.client.MayWrite(); !may) return Finish(chosen, may);
    switch (plan_.steps[begin].kind) {
      case StepKind::kFetch:
        break;  // The resolver fetches in the background and wakes us.
      case StepKind::kRecord:
        Record(chosen);
        break;
      case StepKind::kDeliver:
        Deliver(chosen);
        break;
      case StepKind::kActivate:
        Activate(chosen);
        break;
      case StepKind::kRemove:
        Remove(chosen);
        break;
      case StepKind::kForgetRemovals:
        Finish(chosen, ForgetRemovals(plan_.steps[begin]));
        break;
      case StepKind::kRestart:
        FinishRestart(chosen, Restart(plan_.steps[begin]));
        break;
    }
  }

  /// What is there becomes ours: a receipt in the box, where its bytes are known.
  void Record(const std::vector<size_t>& chosen) {
    std::vector<box::Delivery> present;
    for (const size_t i : chosen) {
      const Step& step = plan_.steps[i];
      present.push_back({step.plugin, step.revision, step.digest, step.source, ""});
    }
    const base::FailpointScope failpoint("box.Adopt");
    FinishEach(chosen, box_.Adopt(present, stop_));
  }

  void Deliver(const std::vector<size_t>& chosen) {
    std::vector<box::Delivery> deliveries;
    std::vector<size_t> delivered;
    for (const size_t i : chosen) {
      const Step& step = plan_.steps[i];
      auto artifact = on_.artifacts.Find(step.digest);
      if (!artifact) {
        outcome_.steps[i] = {true, std::move(artifact).error()};
        continue;
      }
      deliveries.push_back({step.plugin, step.revision, step.digest, step.source, artifact->path});
      delivered.push_back(i);
    }
    if (deliveries.empty()) return;
    const base::FailpointScope failpoint("box.Deliver");
    FinishEach(delivered, box_.Deliver(deliveries, stop_));
  }

  void Activate(const std::vector<size_t>& chosen) {
    const base::FailpointScope failpoint("box.Activate");
    FinishEach(chosen,
               box_.Activate({NamesOf(chosen), plan_.steps[chosen.front()].boot_id}, stop_));
  }

  void Remove(const std::vector<size_t>& chosen) {
    const base::FailpointScope failpoint("box.Remove");
    FinishEach(chosen, box_.Remove(NamesOf(chosen), plan_.steps[chosen.front()].boot_id, stop_));
  }

  base::Status ForgetRemovals(const Step& step) {
    const base::FailpointScope failpoint("box.ClearRemovals");
    return box_.ClearRemovals(step.boot_id, stop_);
  }

  base::Status Restart(const Step& step) {
    const base::FailpointScope failpoint("box.Restart");
    return box_.Restart(step.boot_id, stop_);
  }

  std::vector<std::string> NamesOf(const std::vector<size_t>& chosen) const {
    std::vector<std::string> names;
    for (const size_t i : chosen) names.push_back(plan_.steps[i].plugin);
    return names;
  }

  void Finish(const std::vector<size_t>& chosen, const base::Status& status) {
    for (const size_t i : chosen)
      outcome_.steps[i] = {true,
                           status ? std::nullopt : std::optional<base::Error>(status.error())};
  }

  /// A start that nobody asked for came first: it loads what was changed, or the next pass asks.
  void FinishRestart(const std::vector<size_t>& chosen, const base::Status& status) {
    const bool needless = !status && status.error().reason == box::kBootChanged;
    Finish(chosen, needless ? base::Status{} : status);
    for (const size_t i : chosen) outcome_.steps[i].needless = needless;
  }

  void FinishEach(const std::vector<size_t>& chosen,
                  const base::Result<std::vector<box::StepResult>>& results) {
    if (!results) return Finish(chosen, results.error());
    for (const size_t i : chosen) {
      outcome_.steps[i] = {true, base::MakeError(base::Code::kInternal,
                                                 fmt::format("the box gave no result for plugin {}",
                                                             plan_.steps[i].plugin))};
      for (const box::StepResult& result : *results)
        if (result.name == plan_.steps[i].plugin)
          outcome_.steps[i].error =
              result.status ? std::nullopt : std::optional<base::Error>(result.status.error());
    }
  }

  const Dependencies& on_;
  box::Box& box_;
  const core::PluginPlan& plan_;
  std::stop_token stop_;
  core::Outcome outcome_;
};

}  // namespace

core::Outcome RunPlan(const Dependencies& on, box::Box& box, const core::PluginPlan& plan,
                      std::stop_token stop) {
  return Executor(on, box, plan, std::move(stop)).Run();
}

base::Status AskForRestart(fleet::HeartbeatTable& fleet, const std::string& uid,
                           const std::string& expected_boot_id) {
  if (fleet.RequestRestart(uid, expected_boot_id)) return {};
  return base::MakeError(
      base::Code::kConflict,
      fmt::format("ask for a restart of boot {}: another one reports already", expected_boot_id),
      box::kBootChanged);
}

}  // namespace reconcile
