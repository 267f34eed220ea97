#pragma once

#include "core/observation.hpp"
#include "core/plan/plugin_plan.hpp"

namespace reconcile {

/// One line at level debug: what a pass saw (box, agent, probe), decided and did, and in how many
/// milliseconds the workspace is looked at again. Costs nothing at other levels.
void LogPass(const core::WorkspaceObservation& seen, const core::PluginPlan& plan,
             const core::Outcome& outcome, base::Millis next);

}  // namespace reconcile
