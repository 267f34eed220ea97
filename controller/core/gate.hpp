#pragma once

#include <string>

#include "core/observation.hpp"
#include "core/policy.hpp"
#include "meta/object.hpp"

namespace core {

/// What the gate of a Platform workspace says. Fails closed: absent fields of a heartbeat count as
/// "not present".
struct GateVerdict {
  bool applies = false;  ///< False for Agent workspaces: then the rest means nothing.
  /// True: passed. False: ManagementMissing, ManagementToolsNotLoaded, ModelMissing,
  /// ManagementNotConfigured. Unknown: GateEvidenceStale (own probe too old, missing or Unknown),
  /// HeartbeatStale, AwaitingFirstReport.
  meta::ConditionStatus status = meta::ConditionStatus::kUnknown;
  std::string reason;
  std::string message;
  Presence management = Presence::kUnknown;  ///< By our own, recent probe.
  std::optional<base::MonoTime> evidence_expires;
  bool Passed() const { return !applies || status == meta::ConditionStatus::kTrue; }
};

/// A heartbeat only claims: the gate also needs the operator's own probe of the management plugin
/// (of this pass, else remembered), Present at an entitled digest and at most
/// policy.evidence_timeouts heartbeat timeouts old. Management is checked before the model, because
/// it can be mended.
GateVerdict EvaluateGate(const WorkspaceObservation& observation, const Policy& policy,
                         base::Now now);

/// The evidence that counts: this pass's probe of the management plugin, else the remembered one.
/// Nothing if there never was one.
std::optional<GateEvidence> CurrentGateEvidence(const WorkspaceObservation& observation,
                                                const Policy& policy);

}  // namespace core
