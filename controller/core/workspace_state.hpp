#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/workspace.hpp"
#include "core/gate.hpp"
#include "core/observation.hpp"
#include "core/policy.hpp"
#include "meta/object.hpp"

namespace core {

/// The state of a workspace and why (behaviour.md section 3). lastTransitionTime of the conditions
/// is not set here.
///
///   Provisioning / AwaitingAgent --first heartbeat--> Online <--> Degraded
///        | deadline                                    |  ^ heartbeat
///        v                                             v  |
///      Failed <---- gate fails (Platform) ---------- Offline / AwaitingAgent (silence, box
///      stopped)
///   from anywhere: Suspended (spec.suspend), Terminating (deleted).
struct WorkspaceDecision {
  std::string state;   ///< Terminating, Suspended, Failed, AwaitingAgent, Provisioning, Offline,
                       ///< Degraded, Online.
  std::string reason;  ///< Reason of Ready as far as the workspace itself is concerned.
  std::string message;
  /// Ready of the workspace itself. True only in state Online; SummariseWorkspace lowers it while
  /// plugins have not converged.
  meta::ConditionStatus ready = meta::ConditionStatus::kUnknown;
  bool reconciling = false;
  bool stalled = false;
  GateVerdict gate;
  meta::Condition box_running;
  meta::Condition agent_reporting;
  std::optional<meta::Condition> gate_passed;  ///< Platform only.
  bool held =
      false;  ///< The last written state stands for now (take-over, or a box that is Unknown).
  base::MonoTime next_check{};  ///< Always later than now.
  /// Ready, Reconciling, Stalled, BoxRunning, AgentReporting and, of a Platform, GatePassed.
  std::vector<meta::Condition> Conditions(int64_t generation) const;
};

/// Total and pure. `last_status` is the status as last written (usually
/// observation.workspace.status).
WorkspaceDecision DecideWorkspace(const WorkspaceObservation& observation,
                                  const api::WorkspaceStatus& last_status, const Policy& policy,
                                  base::Now now);

/// What is wrong with the box and was not said before, to be told once: BoxRunning as it is by now,
/// where it is False with another reason (but that the box is stopped, or not made yet), or True
/// with something to be said (PodOutdated, ...) that was not said in these words.
std::optional<meta::Condition> NewBoxTrouble(const std::vector<meta::Condition>& before,
                                             const std::vector<meta::Condition>& after);

}  // namespace core
