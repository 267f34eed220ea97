#pragma once

#include <string>
#include <vector>

#include "api/declared_plugin.hpp"
#include "api/workspace.hpp"
#include "core/plan/plugin_plan.hpp"
#include "core/workspace_state.hpp"

namespace core {

inline constexpr size_t kMaxMessageBytes = 1024;
inline constexpr size_t kMaxWorst = 10;
inline constexpr size_t kMaxRows = 256;  ///< Of status.plugins, by name; maxItems in the CRD.

/// The status to write: conditions, state, box, agent, rows, debt, recovery. Equal inputs give
/// equal statuses; a field of the agent that changes with every heartbeat (task, spend, error rate)
/// is only taken over together with a change that matters. Needs what the pass began with
/// (observation.workspace.status is the last written status), the decision, the plan, and what
/// became of its steps.
api::WorkspaceStatus SummariseWorkspace(const WorkspaceObservation& observation,
                                        const WorkspaceDecision& decision, const PluginPlan& plan,
                                        const Outcome& outcome, base::Now now);

/// What the DeclaredPlugin summary looks at.
struct DeclaredPluginObservation {
  api::DeclaredPlugin object;  ///< With its last written status.
  ResolutionView resolution;
  std::vector<const api::Workspace*>
      matched;  ///< Those it selects, with their status as last written; in any order.
  size_t workspaces_examined = 0;  ///< All of the namespace that were looked at (SC-8).
};
struct DeclaredPluginSummary {
  api::DeclaredPluginStatus status;
  base::MonoTime
      next_check{};  ///< When the source is to be resolved again (jittered), or looked at again.
  /// It would be the first status, and says only that everything is on its way: it may wait a while
  /// for what will be true soon.
  bool may_wait = false;
};
DeclaredPluginSummary SummariseDeclaredPlugin(const DeclaredPluginObservation& observation,
                                              const Policy& policy, base::Now now);

/// When the workspace is to be looked at again: the earliest of decision, plan and the retries in
/// the memory after the pass; later than now.
base::MonoTime NextWake(const WorkspaceDecision& decision, const PluginPlan& plan,
                        const WorkspaceMemory& memory, base::Now now);

/// The text cut to kMaxMessageBytes at a character's border, control characters replaced by spaces.
std::string BoundedMessage(std::string_view text);

}  // namespace core
