#include "core/restart_debt.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/reasons.hpp"
#include "core/requeue.hpp"

namespace core {
namespace {

bool Comparable(const std::string& a, const std::string& b) {
  return !a.empty() && !b.empty() && a.starts_with("box:") == b.starts_with("box:");
}

bool Contains(const std::vector<std::string>& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

/// The runtime has started anew since this plugin's restart was written down as owed. An inventory
/// names as loaded only what the runtime itself reports so; one that reports nothing, or leaves a
/// plugin out, would otherwise be restarted with every heartbeat, for ever.
bool RestartedFor(const WorkspaceObservation& observation, const std::string& plugin) {
  const std::string current = CurrentBootId(observation);
  const auto& pending = observation.workspace.status.pending_restart;
  return pending && Contains(pending->plugins, plugin) && Comparable(pending->boot_id, current) &&
         pending->boot_id != current;
}

/// How far a user's clock may be ahead of ours.
constexpr base::Seconds kClockSkew{300};

const std::string* RestartRequest(const WorkspaceObservation& observation) {
  const auto& annotations = observation.workspace.meta.annotations;
  const auto found = annotations.find(api::kRestartRequestedAnnotation);
  return found == annotations.end() ? nullptr : &found->second;
}

/// The user's request counts for the debt that existed when it was made, not for a later one.
bool Requested(const WorkspaceObservation& observation,
               const std::optional<api::PendingRestart>& pending, base::Now now) {
  if (!pending || !pending->since) return false;
  const auto at = RestartRequestTime(observation, now);
  return at && std::chrono::ceil<base::Seconds>(*at) >= *pending->since;
}

/// Removals of an External box that its runtime has not been restarted for: an inventory has no
/// tombstones, so it is what was written down as owed and is not there any more.
std::vector<std::string> RemovedByAgent(const WorkspaceObservation& observation) {
  const auto& debt = observation.workspace.status.pending_restart;
  std::vector<std::string> names;
  if (observation.workspace.spec.box.type != api::BoxType::kExternal || !debt ||
      debt->boot_id != CurrentBootId(observation))
    return names;
  for (const std::string& name : debt->plugins)
    if (FindPlugin(observation.probe, name).presence != Presence::kPresent) names.push_back(name);
  return names;
}

}  // namespace

std::optional<base::WallTime> RestartRequestTime(const WorkspaceObservation& observation,
                                                 base::Now now) {
  const std::string* request = RestartRequest(observation);
  if (request == nullptr) return std::nullopt;
  const auto at = base::ParseTime(*request);
  if (!at || *at > now.wall + kClockSkew) return std::nullopt;
  return *at;
}

const char* RestartRequestFault(const WorkspaceObservation& observation, base::Now now) {
  const std::string* request = RestartRequest(observation);
  if (request == nullptr || RestartRequestTime(observation, now)) return "";
  return base::ParseTime(*request)
             ? "; its value now is a time that has not come, and does not count until then"
             : "; its value now is no such time (2026-01-31T12:00:00Z is one)";
}

bool StartedSince(const WorkspaceObservation& observation, const std::string& plugin,
                  const std::string& act_boot_id) {
  const std::string current = CurrentBootId(observation);
  if (current.empty()) return false;
  if (Comparable(act_boot_id, current)) return act_boot_id != current;
  const auto& pending = observation.workspace.status.pending_restart;
  if (!pending || !Contains(pending->plugins, plugin)) return true;
  return Comparable(pending->boot_id, current) && pending->boot_id != current;
}

bool IsLoaded(const WorkspaceObservation& observation, const PluginView& view) {
  if (view.presence != Presence::kPresent) return false;
  if (view.reload_none || !view.has_receipt) return true;
  // Where the boot ids say nothing, bytes that have been loaded once stay loaded, whatever else the
  // plugin waits for.
  for (const api::PluginRow& row : observation.workspace.status.plugins) {
    if (row.name != view.name || row.digest != view.receipt_digest) continue;
    if (row.loaded && !Comparable(view.activated_boot_id, CurrentBootId(observation))) return true;
    if (!observation.probe.from_inventory) continue;
    if (RestartedFor(observation, view.name)) return true;
    // The same bytes once more (they had been lost): one restart, if it is not made already for
    // what this agent says with every start.
    const bool again = view.came_after_start && row.reason != reason::kReportedNotLoaded;
    if (row.loaded && !again) return true;
  }
  return StartedSince(observation, view.name, view.activated_boot_id);
}

std::vector<std::string> OwedFor(const WorkspaceObservation& observation) {
  if (!observation.probe.made || CurrentBootId(observation).empty()) return {};
  std::vector<std::string> names = RemovedByAgent(observation);
  for (const PluginView& view : observation.probe.plugins)
    if (view.presence == Presence::kPresent && !IsLoaded(observation, view))
      names.push_back(view.name);
  for (const RemovalView& removal : observation.probe.removals)
    if (!StartedSince(observation, removal.name, removal.removed_boot_id))
      names.push_back(removal.name);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

bool HasSettledRemovals(const WorkspaceObservation& observation) {
  return observation.probe.made && !CurrentBootId(observation).empty() &&
         std::any_of(observation.probe.removals.begin(), observation.probe.removals.end(),
                     [&](const RemovalView& removal) {
                       return StartedSince(observation, removal.name, removal.removed_boot_id);
                     });
}

std::optional<api::PendingRestart> NextPendingRestart(const WorkspaceObservation& observation,
                                                      const std::vector<std::string>& names,
                                                      base::Now now) {
  if (names.empty()) return std::nullopt;
  const api::Workspace& w = observation.workspace;
  const auto& before = w.status.pending_restart;
  const std::string boot = CurrentBootId(observation);
  api::PendingRestart next;
  next.plugins = names;
  next.boot_id = boot;
  const bool same_boot = before && (!Comparable(before->boot_id, boot) || before->boot_id == boot);
  // A box that starts by itself while something still waits in staging does not begin the wait
  // anew.
  const bool goes_on =
      before && (same_boot || std::any_of(names.begin(), names.end(), [&](const std::string& n) {
                   return Contains(before->plugins, n);
                 }));
  next.epoch = before ? before->epoch + (same_boot ? 0 : 1) : 1;
  next.since =
      goes_on && before->since ? before->since : std::chrono::floor<base::Seconds>(now.wall);
  if (w.spec.restart.policy == api::RestartPolicy::kWhenIdle) {
    const base::WallTime latest =
        std::chrono::ceil<base::Seconds>(now.wall) + base::Seconds(w.spec.restart.deadline_seconds);
    const base::WallTime due = *next.since + base::Seconds(w.spec.restart.deadline_seconds);
    next.deadline = goes_on && before->deadline ? before->deadline : std::min(due, latest);
  }
  return next;
}

RestartPermit PermitWhenGathered(const WorkspaceObservation& observation,
                                 const api::PendingRestart& pending, base::Millis wait,
                                 base::Now now) {
  base::Millis age{0};
  const auto& before = observation.workspace.status.pending_restart;
  if (before && before->since && before->epoch == pending.epoch)
    age = std::max(age, std::chrono::floor<base::Millis>(now.wall - *before->since));
  const WorkspaceMemory& memory = observation.memory;
  if (memory.debt_seen_at && memory.debt_epoch == pending.epoch)
    age = std::max(age, std::chrono::floor<base::Millis>(now.mono - *memory.debt_seen_at));
  RestartPermit permit;
  permit.granted = age >= wait;
  if (permit.granted) return permit;
  permit.reason = reason::kGatheringChanges;
  permit.message = "waiting a moment for what else is declared, so that one restart loads it all";
  permit.until = now.mono + (wait - age);
  return permit;
}

RestartPermit PermitRestart(const WorkspaceObservation& observation,
                            const std::optional<api::PendingRestart>& pending, base::Now now) {
  const api::RestartSpec& spec = observation.workspace.spec.restart;
  RestartPermit permit;
  permit.granted =
      spec.policy == api::RestartPolicy::kImmediate || Requested(observation, pending, now);
  if (permit.granted) return permit;
  if (spec.policy == api::RestartPolicy::kManual) {
    permit.reason = reason::kAwaitingRestartRequest;
    permit.message = fmt::format(
        "spec.restart.policy is Manual: set the annotation {} to the current time (RFC 3339) to "
        "allow the restart{}",
        api::kRestartRequestedAnnotation, RestartRequestFault(observation, now));
    return permit;
  }
  const bool idle = HeartbeatIsFresh(observation, now) && observation.heartbeat.active_tasks == 0;
  if (idle) {
    permit.granted = true;
    return permit;
  }
  if (pending && pending->deadline) {
    // A deadline farther away than the spec allows comes from a clock that went back: it is waited
    // for once.
    const base::Millis most = base::Seconds(spec.deadline_seconds);
    base::Millis left = std::min<base::Millis>(*pending->deadline - now.wall, most);
    const WorkspaceMemory& memory = observation.memory;
    if (memory.debt_seen_at && memory.debt_epoch == pending->epoch)
      left =
          std::min(left, std::chrono::ceil<base::Millis>(*memory.debt_seen_at + most - now.mono));
    if (left <= base::Millis(0)) {
      permit.granted = true;
      return permit;
    }
    permit.until = now.mono + left;
  }
  permit.reason = reason::kAwaitingIdle;
  permit.message = fmt::format(
      "the agent is busy; waiting until it is idle, or until {}",
      pending && pending->deadline ? base::FormatTime(*pending->deadline) : "the deadline");
  return permit;
}

RestartPermit PermitRecreate(const WorkspaceObservation& observation, base::WallTime since,
                             base::Now now) {
  api::PendingRestart change;
  change.epoch = -1;  // What is remembered of a plugins' debt does not count.
  change.since = since;
  change.deadline = since + base::Seconds(observation.workspace.spec.restart.deadline_seconds);
  return PermitRestart(observation, change, now);
}

std::optional<base::MonoTime> RestartInFlight(const WorkspaceObservation& observation,
                                              const Policy& policy, base::Now now) {
  const WorkspaceMemory& memory = observation.memory;
  const std::string boot = CurrentBootId(observation);
  if (memory.restarts_asked == 0 || boot.empty() || memory.restart_asked_boot_id != boot)
    return std::nullopt;
  base::Millis wait = policy.restart_wait;
  for (int i = 1; i < memory.restarts_asked && wait < policy.slow_retry; ++i) wait *= 2;
  const base::MonoTime until = memory.restart_asked_at + std::min(wait, policy.slow_retry);
  if (now.mono >= until) return std::nullopt;
  return until;
}

}  // namespace core
