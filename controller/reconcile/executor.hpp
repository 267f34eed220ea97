#pragma once

#include <stop_token>

#include "core/plan/plugin_plan.hpp"
#include "reconcile/dependencies.hpp"

namespace reconcile {

/// Runs the steps of a plan in their order against the box; the plan leaves nothing to choose.
/// Steps of one kind are one call of the port. The intent (debt, recovery stamp) has been written
/// by the caller. A failed step stops only what needs it.
core::Outcome RunPlan(const Dependencies& on, box::Box& box, const core::PluginPlan& plan,
                      std::stop_token stop);

/// Has the agent asked in the answer to its next heartbeat. kConflict box::kBootChanged: it reports
/// another start already.
base::Status AskForRestart(fleet::HeartbeatTable& fleet, const std::string& uid,
                           const std::string& expected_boot_id);

}  // namespace reconcile
