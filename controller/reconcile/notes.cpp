#include "reconcile/notes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "core/workspace_state.hpp"

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

/// Null: no Event. A recording changes no box, and the row says it (origin BootInstalled); a fleet
/// that is adopted would otherwise cost an Event a workspace.
const char* DoneWord(StepKind kind) {
  switch (kind) {
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

/// One Event for all steps of a kind that a pass has done: 50 plugins are one line, not 50 objects.
std::string DoneText(StepKind kind, const std::vector<const core::Step*>& steps) {
  constexpr size_t kNamesBytes = 600;  // A note has 1,024 bytes at most.
  std::string names;
  size_t named = 0;
  while (named < steps.size() && names.size() < kNamesBytes) {
    const core::Step& step = *steps[named++];
    names += (names.empty() ? "" : ", ") + step.plugin;
    if (kind == StepKind::kActivate) names += fmt::format(" ({})", step.digest.substr(0, 19));
  }
  if (named < steps.size()) names += fmt::format(" and {} more", steps.size() - named);
  const char* noun = steps.size() == 1 ? "plugin" : "plugins";
  switch (kind) {
    case StepKind::kActivate:
      return fmt::format("{} {}: delivered", noun, names);
    case StepKind::kRemove:
      return fmt::format("{} {}: removed", noun, names);
    default:
      return fmt::format("restart of boot {} requested, to load what was changed",
                         steps.front()->boot_id);
  }
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

/// One summary for all that changes within a second; of a wide selection, whose summary is dear and
/// changes with every box, in longer.
base::Millis SummaryDelay(const api::DeclaredPlugin& plugin) {
  const int32_t matched = plugin.status.workspaces ? plugin.status.workspaces->matched : 0;
  return base::Seconds{1} + std::min(base::Millis{25} * matched, base::Millis{29'000});
}

}  // namespace

void RecordWarning(const Dependencies& on, const api::Workspace& workspace,
                   const std::string& reason, const std::string& action, const std::string& note) {
  Say(on, NoteOn(workspace, runtime::EventType::kWarning), reason, action, note);
}

void RecordNote(const Dependencies& on, const api::Workspace& workspace, const box::BoxNote& note) {
  Say(on, NoteOn(workspace, runtime::EventType::kNormal), note.reason, "Provide", note.message);
}

void RecordNotes(const Dependencies& on, const PassResult& pass) {
  const runtime::EventNote normal = NoteOn(pass.before, runtime::EventType::kNormal);
  std::map<StepKind, std::vector<const core::Step*>> done;
  for (size_t i = 0; i < pass.plan.steps.size() && i < pass.outcome.steps.size(); ++i) {
    const core::Step& step = pass.plan.steps[i];
    const core::StepOutcome& result = pass.outcome.steps[i];
    if (!result.ran || result.needless) continue;
    if (result.error)
      RecordWarning(on, pass.before,
                    result.error->reason.empty() ? "StepFailed" : result.error->reason,
                    core::StepName(step.kind),
                    fmt::format("{}{}{}", step.plugin, step.plugin.empty() ? "" : ": ",
                                result.error->message));
    else if (DoneWord(step.kind) != nullptr)
      done[step.kind].push_back(&step);
  }
  for (const auto& [kind, steps] : done)
    Say(on, normal, DoneWord(kind), core::StepName(kind), DoneText(kind, steps));
  RecordTroubles(on, pass);
  if (const auto trouble =
          core::NewBoxTrouble(pass.before.status.conditions, pass.after.conditions);
      trouble && !pass.box_told)
    RecordWarning(on, pass.before, trouble->reason, "Observe", trouble->message);
  if (!pass.reports_refused.empty())
    RecordWarning(on, pass.before, "ReviewsForbidden", "Observe",
                  "what the agent reports is refused: " + pass.reports_refused);
  if (pass.plan.recovery_attempt)
    Say(on, normal, "RecoveryAttempt", "Recover",
        "the platform gate fails: recovery attempt, at most one per cool-down");
  if (pass.before.status.state != pass.after.state) {
    const meta::Condition* ready = meta::FindCondition(pass.after.conditions, "Ready");
    const bool bad = pass.after.state == "Failed" || pass.after.state == "Offline" ||
                     pass.after.state == "Degraded";
    // Online is about the agent; what its plugins still wait for is Ready's to say.
    const std::string why = pass.after.state == "Online" ? "the agent reports"
                            : ready != nullptr           ? ready->message
                                                         : "";
    Say(on, NoteOn(pass.before, bad ? runtime::EventType::kWarning : runtime::EventType::kNormal),
        pass.after.state, "Observe",
        fmt::format("state {} -> {}{}{}",
                    pass.before.status.state.empty() ? "(none)" : pass.before.status.state,
                    pass.after.state, why.empty() ? "" : ": ", why));
  }
}

void WakeDeclared(const Dependencies& on, const api::Workspace& workspace) {
  if (!on.wake_declared) return;
  for (const auto& plugin : DeclaredFor(on, workspace))
    on.wake_declared(plugin->meta.Key(), SummaryDelay(*plugin));
}

}  // namespace reconcile
