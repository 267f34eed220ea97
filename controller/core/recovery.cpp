#include "core/recovery.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/reasons.hpp"
#include "core/requeue.hpp"
#include "core/restart_debt.hpp"

namespace core {
namespace {

void Refuse(RecoveryState* state, const char* why, std::string message) {
  state->may_act = false;
  state->reason = why;
  state->message = std::move(message);
}

/// A request to restart, made since the last attempt and since the gate began to fail.
bool Requested(const WorkspaceObservation& observation, base::Now now) {
  const auto at = RestartRequestTime(observation, now);
  if (!at) return false;
  const meta::Condition* gate =
      meta::FindCondition(observation.workspace.status.conditions, "GatePassed");
  if (gate != nullptr && *at < gate->last_transition_time) return false;
  const auto recovery = CountedRecovery(observation);
  return !recovery || !recovery->last_attempt_time || *at > *recovery->last_attempt_time;
}

}  // namespace

std::optional<api::RecoveryStatus> CountedRecovery(const WorkspaceObservation& observation) {
  const auto& written = observation.workspace.status.recovery;
  for (const UnheardRecovery& unheard : observation.memory.recovery_unheard)
    if (written == unheard.sent) return unheard.before;
  return written;
}

base::Millis RemainingCooldown(const WorkspaceObservation& observation, base::Millis cooldown,
                               base::Now now) {
  const base::Millis zero{0};
  if (observation.memory.recovery_at) {
    const auto past = std::chrono::floor<base::Millis>(now.mono - *observation.memory.recovery_at);
    return std::clamp(cooldown - past, zero, cooldown);
  }
  const auto recovery = CountedRecovery(observation);
  if (!recovery || !recovery->last_attempt_time) return zero;
  return RemainingWait(*recovery->last_attempt_time, cooldown, observation.takeover, now);
}

RecoveryState DecideRecovery(const WorkspaceObservation& observation, const GateVerdict& gate,
                             const Policy& policy, base::Now now) {
  RecoveryState state;
  const PrivilegedPlugin* management = policy.Management();
  state.active = gate.applies && gate.status == meta::ConditionStatus::kFalse &&
                 management != nullptr &&
                 (gate.reason == reason::kManagementMissing ||
                  gate.reason == reason::kManagementToolsNotLoaded);
  if (!state.active) return state;
  const PluginView view = FindPlugin(observation.probe, management->name);
  if (view.presence == Presence::kUnknown || observation.probe.from_inventory) {
    Refuse(&state, reason::kProbeUnknown,
           fmt::format("no recovery attempt while the probe of `{}` is undecided: {}",
                       management->name, view.cause));
    return state;
  }
  // Only when the agent says so: while a runtime still loads, its agent claims nothing, and another
  // restart would only make it begin anew.
  state.restart_due = gate.reason == reason::kManagementToolsNotLoaded &&
                      observation.heartbeat.management_present.has_value() &&
                      IsLoaded(observation, view) && !CurrentBootId(observation).empty();
  const auto recovery = CountedRecovery(observation);
  state.stalled =
      state.restart_due && recovery && recovery->restarts >= policy.recovery_stall_after;
  if (observation.workspace.spec.restart.policy == api::RestartPolicy::kManual &&
      !Requested(observation, now)) {
    Refuse(
        &state, reason::kRecoveryBlockedByPolicy,
        fmt::format(
            "{}; recovery needs a restart and spec.restart.policy is Manual: set the annotation "
            "{} to the current time to allow it{}",
            gate.message, api::kRestartRequestedAnnotation, RestartRequestFault(observation, now)));
    return state;
  }
  const base::Millis cooldown =
      policy.recovery_cooldown * (state.stalled ? policy.stalled_cooldown_factor : 1);
  const base::Millis left = RemainingCooldown(observation, cooldown, now);
  if (left > base::Millis(0)) {
    Refuse(
        &state, reason::kRecoveryCoolingDown,
        state.stalled
            ? "restarts have not loaded the management tools; look at the runtime's log in the box"
            : "one recovery attempt has just been made; waiting for its effect or the cool-down");
    state.until = now.mono + left;
  }
  return state;
}

}  // namespace core
