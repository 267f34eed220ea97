#pragma once

#include <optional>

#include "core/plan/plugin_plan.hpp"
#include "core/restart_debt.hpp"

/// External boxes: what would be done there is left to the box's own agent, which is told in the
/// answers to its heartbeats.
namespace core {

/// A delivery: the row waits for what the agent does by itself (kPull).
void AwaitPull(RowDecision* row);

/// What is no longer declared and not there is forgotten (kDrop) only when a report says so that
/// was made after the agent had been given an answer without it: until then it may still be
/// installing what an older answer has named. Returns when to look again, if it waits for that.
std::optional<base::MonoTime> AwaitReports(const WorkspaceObservation& observation, base::Now now,
                                           RowDecision* row);

/// A removal: the agent is told to (kRemove), or the row says what that waits for (kDefer): the
/// permit to change what the runtime has loaded, or the debt, which is written first. An inventory
/// has no tombstones, so nobody would know of it afterwards. Returns when to look again, if by
/// time.
std::optional<base::MonoTime> AskForRemoval(const WorkspaceObservation& observation,
                                            const RestartPermit& permit, const Policy& policy,
                                            base::Now now, RowDecision* row);

}  // namespace core
