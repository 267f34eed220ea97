#pragma once

#include <optional>
#include <string>

#include "core/gate.hpp"
#include "core/observation.hpp"
#include "core/policy.hpp"

/// Repairing a Platform workspace that fails closed (SC-3, SC-4): while the gate fails for want of
/// the management plugin, everything that changes the box is one attempt, and there is at most one
/// in a cool-down.
namespace core {

struct RecoveryState {
  bool active = false;  ///< The gate fails with ManagementMissing or ManagementToolsNotLoaded.
  bool restart_due =
      false;  ///< The plugin is there and loaded, its tools are not: the attempt is one restart.
  bool stalled = false;  ///< Restarts have not helped: one attempt in
                         ///< policy.stalled_cooldown_factor cool-downs.
  bool may_act = true;   ///< False: nothing may change the box now; reason and message say why.
  std::string reason;
  std::string message;
  std::optional<base::MonoTime> until;  ///< End of the cool-down.
};

RecoveryState DecideRecovery(const WorkspaceObservation& observation, const GateVerdict& gate,
                             const Policy& policy, base::Now now);

/// status.recovery, unless it is the stamp of an attempt of which nothing was done: then what it
/// was before. That one takes up no cool-down, counts as no attempt, and uses up no request.
std::optional<api::RecoveryStatus> CountedRecovery(const WorkspaceObservation& observation);

/// What is left of the cool-down: by the monotonic clock within a process, by the stamp (clamped)
/// across processes.
base::Millis RemainingCooldown(const WorkspaceObservation& observation, base::Millis cooldown,
                               base::Now now);

}  // namespace core
