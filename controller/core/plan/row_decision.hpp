#pragma once

#include <string>
#include <vector>

#include "core/plan/plugin_plan.hpp"

/// The five-row table of behaviour.md section 4, for one plugin and without regard to time: what
/// would be right to do. plugin_plan.cpp decides whether it may be done now.
namespace core {

/// The decision on one declared plugin. Actions: kKeep, kRecord, kFetch, kDeliver, kWait, kRemove
/// (entitlement withdrawn), kBlocked. With kDeliver, `deliver_*` say which bytes.
struct TableDecision {
  RowDecision decision;
  std::string deliver_revision;
  std::string deliver_digest;
  std::string deliver_source;
};
TableDecision DecideDeclared(const DesiredPlugin& plugin, const WorkspaceObservation& observation,
                             const Policy& policy);

/// The decision on a tracking row whose plugin is no longer declared: kRemove, kDrop or kWait.
RowDecision DecideUndeclared(const api::PluginRow& row, const WorkspaceObservation& observation);

/// What is to be put back where the box has lost it or changed its files, if that is not what the
/// source has now: what Pin and Manual have approved, or what was activated last. Nothing: the box
/// has it, or the source's own revision is what it should have.
std::optional<Revision> ToPutBack(const DesiredPlugin& plugin,
                                  const WorkspaceObservation& observation);

/// What was asked for is there, or counts no more.
void ForgetApproval(api::PluginRow* row);

/// Declared plugins that would be recorded (kRecord) if exactly their resolved bytes were found:
/// not ours yet, entitled, and nothing else stands against them.
std::vector<const DesiredPlugin*> RecordedIfFound(const DeclaredSet& desired,
                                                  const api::Workspace& workspace,
                                                  const Policy& policy);

/// The tracking row of that name as last written, or null.
const api::PluginRow* FindRow(const WorkspaceObservation& observation, const std::string& name);
/// True if the reconcile annotation asks for something that no pass has answered yet.
bool ReconcileRequested(const WorkspaceObservation& observation);
/// Consecutive Unknown probes of the plugin on a Running box, this one included.
int UnknownStreak(const WorkspaceObservation& observation, const std::string& name);
/// Sets reason, message and health of a decision.
void Explain(RowDecision* decision, RowHealth health, std::string reason, std::string message);

}  // namespace core
