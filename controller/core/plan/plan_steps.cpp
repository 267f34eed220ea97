#include <algorithm>

#include "core/plan/plugin_plan.hpp"
#include "core/plan/plugin_status.hpp"

/// What a plan's steps mean to who carries them out.
namespace core {

bool Outcome::Ran(size_t index) const { return index < steps.size() && steps[index].ran; }

bool Outcome::Succeeded(size_t index) const { return Ran(index) && !steps[index].error; }

const char* StepName(StepKind kind) {
  switch (kind) {
    case StepKind::kFetch:
      return "Fetch";
    case StepKind::kRecord:
      return "Record";
    case StepKind::kDeliver:
      return "Deliver";
    case StepKind::kActivate:
      return "Activate";
    case StepKind::kRemove:
      return "Remove";
    case StepKind::kForgetRemovals:
      return "ForgetRemovals";
    case StepKind::kRestart:
      return "Restart";
  }
  return "Reconcile";
}

bool PluginPlan::ChangesBox() const {
  return std::any_of(steps.begin(), steps.end(), [](const Step& step) {
    return step.kind == StepKind::kActivate || step.kind == StepKind::kRemove ||
           step.kind == StepKind::kRestart;
  });
}

api::WorkspaceStatus IntentStatus(const api::WorkspaceStatus& last, const PluginPlan& plan) {
  api::WorkspaceStatus intent = last;
  const bool touches =
      plan.ChangesBox() || std::any_of(plan.steps.begin(), plan.steps.end(), [](const Step& step) {
        return step.kind == StepKind::kDeliver;
      });
  if (!touches) return intent;
  intent.pending_restart = plan.pending_restart;
  if (plan.recovery_attempt) intent.recovery = plan.recovery;
  return intent;
}

bool ShouldRun(const PluginPlan& plan, const Outcome& outcome, size_t index) {
  if (index >= plan.steps.size() || outcome.intent_error) return false;
  const Step& step = plan.steps[index];
  const auto failed = [&](size_t i) { return !outcome.Succeeded(i); };
  if (step.kind == StepKind::kActivate) {
    for (size_t i = 0; i < index; ++i) {
      const Step& before = plan.steps[i];
      const bool own_delivery = before.kind == StepKind::kDeliver && before.plugin == step.plugin;
      const bool needed =
          before.kind == StepKind::kActivate &&
          std::find(step.needs.begin(), step.needs.end(), before.plugin) != step.needs.end();
      if (own_delivery && failed(i)) return false;
      // Activations are one call: a dependency counts as long as its own delivery has worked.
      if (needed && (outcome.Ran(i) ? failed(i) : !ShouldRun(plan, outcome, i))) return false;
    }
    return true;
  }
  if (step.kind != StepKind::kRestart || step.owed_already) return true;
  for (size_t i = 0; i < index; ++i) {
    const bool change =
        plan.steps[i].kind == StepKind::kActivate || plan.steps[i].kind == StepKind::kRemove;
    if (!change || !outcome.Succeeded(i)) continue;
    const auto row = std::find_if(plan.rows.begin(), plan.rows.end(), [&](const RowDecision& d) {
      return d.name == plan.steps[i].plugin;
    });
    if (row == plan.rows.end() || (!row->reload_none && !row->safety_net)) return true;
  }
  return false;
}

}  // namespace core
