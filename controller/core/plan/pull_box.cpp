#include "core/plan/pull_box.hpp"

#include <algorithm>

#include "core/plan/row_decision.hpp"
#include "core/reasons.hpp"
#include "core/requeue.hpp"

namespace core {
namespace {

bool IsWritten(const std::optional<api::PendingRestart>& debt, const std::string& plugin,
               const std::string& boot) {
  return debt && debt->boot_id == boot &&
         std::find(debt->plugins.begin(), debt->plugins.end(), plugin) != debt->plugins.end();
}

/// An agent asks for the next answer when it has the last one: the first report after the mark is
/// answered without the plugin, so the second one knows of it.
bool IsHeard(const WorkspaceObservation& o, const std::string& plugin) {
  const auto mark = o.memory.undeclared.find(plugin);
  if (mark == o.memory.undeclared.end()) return false;
  const bool same_boot = mark->second.boot_id == o.heartbeat.boot_id;
  return o.heartbeat.sequence >= (same_boot ? mark->second.sequence : 0) + 2;
}

void Say(RowDecision* row, const char* why, std::string message) {
  // A withdrawn entitlement keeps its own word.
  if (row->health != RowHealth::kStalled)
    Explain(row, RowHealth::kPending, why, std::move(message));
}

}  // namespace

void AwaitPull(RowDecision* row) {
  row->action = RowAction::kPull;
  Say(row, reason::kAwaitingPull,
      "the operator cannot reach an External box: its agent pulls GET "
      "/workspaces/{id}/plugins/{name}/download");
}

std::optional<base::MonoTime> AwaitReports(const WorkspaceObservation& observation, base::Now now,
                                           RowDecision* row) {
  const bool ours = row->row.deletion_policy == api::DeletionPolicy::kRemove;
  const bool gone = FindPlugin(observation.probe, row->name).presence == Presence::kAbsent;
  if (row->action != RowAction::kDrop || !ours || !gone || IsHeard(observation, row->name))
    return std::nullopt;
  row->action = RowAction::kWait;
  Explain(row, RowHealth::kPending, reason::kRemoving,
          "no longer declared; its agent is not known to have heard of that yet");
  return After(now, 2 * base::Seconds(observation.workspace.spec.heartbeat.period_seconds));
}

std::optional<base::MonoTime> AskForRemoval(const WorkspaceObservation& observation,
                                            const RestartPermit& permit, const Policy& policy,
                                            base::Now now, RowDecision* row) {
  row->action = RowAction::kDefer;
  if (!permit.granted) {
    Say(row, permit.reason.c_str(), permit.message);
    return permit.until;
  }
  Say(row, reason::kRemoving, "no longer declared; its agent removes it");
  const auto& debt = observation.workspace.status.pending_restart;
  if (!IsWritten(debt, row->name, CurrentBootId(observation)))
    return After(now, policy.backoff_base);
  row->action = RowAction::kRemove;
  return std::nullopt;
}

}  // namespace core
