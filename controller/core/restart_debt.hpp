#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/observation.hpp"
#include "core/policy.hpp"

/// The restart that a box is owed. The debt is a fact in the box (receipts and tombstones that
/// carry the boot id of their act); what status.pendingRestart says is only its shadow, and the
/// memory of when the waiting began.
namespace core {

/// True if a start of the runtime is known to have happened since the act that `act_boot_id` was
/// recorded with. Boot ids of different reporters (an agent, the box itself: "box:...") or unknown
/// ones say nothing by themselves; then the written pendingRestart decides.
bool StartedSince(const WorkspaceObservation& observation, const std::string& plugin,
                  const std::string& act_boot_id);
/// Whether what is on the box is what the runtime runs. Without a receipt: it was there before the
/// runtime, hence loaded.
bool IsLoaded(const WorkspaceObservation& observation, const PluginView& view);
/// Names whose activation or removal is not loaded, sorted: a restart is owed for them and for
/// nothing else. Only what a probe says.
std::vector<std::string> OwedFor(const WorkspaceObservation& observation);
/// Tombstones that a start has settled since.
bool HasSettledRemovals(const WorkspaceObservation& observation);

/// When the user asked for a restart; nothing if never, or at what is no time that has come (some
/// minutes are left to the user's clock): a time far ahead would allow every restart until then.
std::optional<base::WallTime> RestartRequestTime(const WorkspaceObservation& observation,
                                                 base::Now now);
/// What is wrong with a request that does not count, to follow a message; nothing without one.
const char* RestartRequestFault(const WorkspaceObservation& observation, base::Now now);

/// The debt to be written, for these names. Keeps since and deadline of the written one as long as
/// the debt (or the wait for it) goes on.
std::optional<api::PendingRestart> NextPendingRestart(const WorkspaceObservation& observation,
                                                      const std::vector<std::string>& names,
                                                      base::Now now);

/// May files that the runtime has loaded change, and may it be restarted, now?
struct RestartPermit {
  bool granted = false;
  std::string reason;  ///< AwaitingIdle, AwaitingRestartRequest or GatheringChanges.
  std::string message;
  std::optional<base::MonoTime> until;  ///< The deadline of WhenIdle.
};
RestartPermit PermitRestart(const WorkspaceObservation& observation,
                            const std::optional<api::PendingRestart>& pending, base::Now now);

/// What is declared together seldom becomes ready together: a debt younger than `wait` is
/// GatheringChanges, so that one restart loads it all. Its age is what this process or, by the wall
/// clock, an earlier one has seen of it.
RestartPermit PermitWhenGathered(const WorkspaceObservation& observation,
                                 const api::PendingRestart& pending, base::Millis wait,
                                 base::Now now);

/// While a restart that we asked for may still be on its way: when to stop waiting for it. Nothing:
/// none is.
std::optional<base::MonoTime> RestartInFlight(const WorkspaceObservation& observation,
                                              const Policy& policy, base::Now now);

/// Whether the box may be made anew by now for a change of its spec that was noticed at `since`: as
/// a restart would be allowed that is owed since then.
RestartPermit PermitRecreate(const WorkspaceObservation& observation, base::WallTime since,
                             base::Now now);

}  // namespace core
