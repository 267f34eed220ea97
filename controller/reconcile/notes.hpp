#pragma once

#include <string>

#include "core/plan/plugin_plan.hpp"
#include "reconcile/dependencies.hpp"

namespace reconcile {

/// What a pass wrote, for its events.
struct PassResult {
  const api::Workspace& before;
  const api::WorkspaceStatus& after;
  const core::PluginPlan& plan;
  const core::Outcome& outcome;
  bool box_told = false;  ///< Why the box cannot be made is told elsewhere.
  std::string reports_refused =
      {};  ///< Why nothing that the agent, which is silent, reports is taken.
};

/// One Event for each transition that a person would want to know of: state, plugins delivered,
/// removed, failed, a restart, a recovery.
void RecordNotes(const Dependencies& on, const PassResult& pass);
void RecordWarning(const Dependencies& on, const api::Workspace& workspace,
                   const std::string& reason, const std::string& action, const std::string& note);
/// What was done to the box.
void RecordNote(const Dependencies& on, const api::Workspace& workspace, const box::BoxNote& note);
/// The summaries of the declarations that select this workspace are to be made anew.
void WakeDeclared(const Dependencies& on, const api::Workspace& workspace);

}  // namespace reconcile
