#pragma once

#include <optional>
#include <string>

#include "core/observation.hpp"
#include "core/policy.hpp"

/// What earlier passes mean for this one: retries, and whether the agent's inventory is believed.
namespace core {

/// The retry that a plugin is in: remembered, else (another process) from its tracking row, the
/// remaining wait clamped. Nothing: none, or a reconcile request has reset it.
std::optional<Retry> RetryOf(const WorkspaceObservation& observation, const std::string& name,
                             const Policy& policy, base::Now now);
/// Failures of the plugin so far, in a row.
int32_t AttemptsSoFar(const WorkspaceObservation& observation, const std::string& name);
/// Failures of the restart so far, in a row.
int32_t RestartAttemptsSoFar(const WorkspaceObservation& observation);
/// True if this pass's probe contradicts an inventory that is newer than our last change.
bool InventoryRefuted(const WorkspaceObservation& observation);

}  // namespace core
