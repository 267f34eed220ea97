#include "reconcile/notes.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace reconcile {
namespace {

using core::StepKind;

runtime::EventNote NoteOn(const api::Workspace& workspace, runtime::EventType type) {
  runtime::EventNote note;
  note.regarding = {api::kApiVersion, "Workspace", workspace.meta.ns, workspace.meta.name,
                    workspace.meta.uid};
  note.type = type;
  return note;
}

void Say(const Dependencies& on, runtime::EventNote note, std::string reason, std::string action,
         std::string text) {
  note.reason = std::move(reason);
  note.action = std::move(action);
  note.note = std::move(text);
  on.events.Record(std::move(note));
}

const char* DoneWord(StepKind kind) {
  switch (kind) {
    case StepKind::kRecord:
      return "PluginRecorded";
    case StepKind::kActivate:
      return "PluginDelivered";
    case StepKind::kRemove:
      return "PluginRemoved";
    case StepKind::kRestart:
      return "RestartRequested";
    default:
      return nullptr;
  }
}

std::string DoneText(const core::Step& step) {
  switch (step.kind) {
    case StepKind::kRecord:
      return fmt::format("plugin {} is already on the box: recorded, nothing delivered",
                         step.plugin);
    case StepKind::kActivate:
      return fmt::format("plugin {} ({}) delivered", step.plugin, step.digest);
    case StepKind::kRemove:
      return fmt::format("plugin {} removed", step.plugin);
    default:
      return fmt::format("restart of boot {} requested, to load what was changed", step.boot_id);
  }
}

const char* ActionWord(StepKind kind) {
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

/// What keeps a plugin from converging, told once: when the row begins to say it.
void RecordTroubles(const Dependencies& on, const PassResult& pass) {
  for (const core::RowDecision& d : pass.plan.rows) {
    if (d.health != core::RowHealth::kFailing && d.health != core::RowHealth::kStalled) continue;
    const auto& rows = pass.before.status.plugins;
    const bool said = std::any_of(rows.begin(), rows.end(), [&](const api::PluginRow& row) {
      return row.name == d.name && row.reason == d.row.reason;
    });
    if (!said)
      RecordWarning(on, pass.before, d.row.reason, "Decide",
                    fmt::format("plugin {}: {}", d.name, d.row.message));
  }
}

}  // namespace

void RecordWarning(const Dependencies& on, const api::Workspace& workspace,
                   const std::string& reason, const std::string& action, const std::string& note) {
  Say(on, NoteOn(workspace, runtime::EventType::kWarning), reason, action, note);
}

void RecordNotes(const Dependencies& on, const PassResult& pass) {
  const runtime::EventNote normal = NoteOn(pass.before, runtime::EventType::kNormal);
  for (size_t i = 0; i < pass.plan.steps.size() && i < pass.outcome.steps.size(); ++i) {
    const core::Step& step = pass.plan.steps[i];
    const core::StepOutcome& result = pass.outcome.steps[i];
    if (!result.ran) continue;
    if (result.error)
      RecordWarning(on, pass.before,
                    result.error->reason.empty() ? "StepFailed" : result.error->reason,
                    ActionWord(step.kind),
                    fmt::format("{}{}{}", step.plugin, step.plugin.empty() ? "" : ": ",
                                result.error->message));
    else if (DoneWord(step.kind) != nullptr)
      Say(on, normal, DoneWord(step.kind), ActionWord(step.kind), DoneText(step));
  }
  RecordTroubles(on, pass);
  if (pass.plan.recovery_attempt)
    Say(on, normal, "RecoveryAttempt", "Recover",
        "the platform gate fails: recovery attempt, at most one per cool-down");
  if (pass.before.status.state != pass.after.state) {
    const meta::Condition* ready = meta::FindCondition(pass.after.conditions, "Ready");
    const bool bad = pass.after.state == "Failed" || pass.after.state == "Offline" ||
                     pass.after.state == "Degraded";
    Say(on, NoteOn(pass.before, bad ? runtime::EventType::kWarning : runtime::EventType::kNormal),
        pass.after.state, "Observe",
        fmt::format("state {} -> {}{}{}",
                    pass.before.status.state.empty() ? "(none)" : pass.before.status.state,
                    pass.after.state, ready != nullptr && !ready->message.empty() ? ": " : "",
                    ready != nullptr ? ready->message : ""));
  }
}

void WakeDeclared(const Dependencies& on, const api::Workspace& workspace) {
  if (!on.wake_declared) return;
  std::vector<meta::ObjectKey> keys;
  for (const auto& plugin : DeclaredFor(on, workspace)) keys.push_back(plugin->meta.Key());
  if (!keys.empty()) on.wake_declared(keys);
}

}  // namespace reconcile
