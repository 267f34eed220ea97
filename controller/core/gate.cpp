#include "core/gate.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/reasons.hpp"

namespace core {
namespace {

using meta::ConditionStatus;

void Set(GateVerdict* verdict, ConditionStatus status, const char* why, std::string message) {
  verdict->status = status;
  verdict->reason = why;
  verdict->message = std::move(message);
}

bool Definitive(const GateEvidence& e) { return e.presence != Presence::kUnknown; }

bool BelongsTo(const std::string& tool, const std::string& plugin) {
  if (tool == plugin) return true;
  for (const char* form : {"{}__", "mcp__{}__", "{}/", "{}.", "{}:"})
    if (tool.starts_with(fmt::format(fmt::runtime(form), plugin))) return true;
  return false;
}

/// The first tool of the management plugin that the runtime has not loaded; empty: all are there.
std::string MissingTool(const std::vector<std::string>& loaded, const PrivilegedPlugin& plugin) {
  for (const std::string& tool : plugin.tools)
    if (std::find(loaded.begin(), loaded.end(), tool) == loaded.end()) return tool;
  if (!plugin.tools.empty()) return "";
  const bool any = std::any_of(loaded.begin(), loaded.end(), [&](const std::string& tool) {
    return BelongsTo(tool, plugin.name);
  });
  return any ? "" : plugin.name;
}

bool Allowed(const PrivilegedPlugin& plugin, const std::string& digest) {
  return std::find(plugin.allowed_digests.begin(), plugin.allowed_digests.end(), digest) !=
         plugin.allowed_digests.end();
}

/// By the operator's own probe alone: missing, or present at bytes that nobody has allowed. True if
/// that decides the verdict.
bool EvidenceFails(const PrivilegedPlugin& plugin, const GateEvidence& e, GateVerdict* verdict) {
  if (e.presence == Presence::kAbsent) {
    Set(verdict, ConditionStatus::kFalse, reason::kManagementMissing,
        fmt::format("the management plugin `{}` is not on the box", plugin.name));
    return true;
  }
  if (e.presence == Presence::kPresent && !e.digest.empty() && !Allowed(plugin, e.digest)) {
    Set(verdict, ConditionStatus::kFalse, reason::kManagementMissing,
        fmt::format("the management plugin `{}` on the box has digest {}, which "
                    "privilegedPlugins[{}].digests does not list",
                    plugin.name, e.digest, plugin.name));
    return true;
  }
  return false;
}

/// What the agent claims of management and model. True if that decides the verdict.
bool ClaimFails(const HeartbeatView& hb, const PrivilegedPlugin& plugin, Presence by_probe,
                GateVerdict* verdict) {
  if (!hb.management_present.value_or(false)) {
    const bool there = by_probe == Presence::kPresent;
    Set(verdict, ConditionStatus::kFalse,
        there ? reason::kManagementToolsNotLoaded : reason::kManagementMissing,
        there ? fmt::format(
                    "the management plugin `{}` is on the box, but the agent does not report it",
                    plugin.name)
              : fmt::format("the agent does not report the management plugin `{}`", plugin.name));
    return true;
  }
  if (const std::string tool = MissingTool(hb.loaded_tools, plugin); !tool.empty()) {
    Set(verdict, ConditionStatus::kFalse, reason::kManagementToolsNotLoaded,
        fmt::format("the runtime has not loaded the management tools (missing: `{}`)", tool));
    return true;
  }
  if (!hb.model_present.value_or(false)) {
    Set(verdict, ConditionStatus::kFalse, reason::kModelMissing,
        "the agent reports no model; configure spec.model and its credentials in the box (no "
        "plugin can mend this)");
    return true;
  }
  return false;
}

}  // namespace

std::optional<GateEvidence> CurrentGateEvidence(const WorkspaceObservation& observation,
                                                const Policy& policy) {
  std::optional<GateEvidence> remembered = observation.memory.gate;
  if (observation.memory.box_identity != CurrentIdentity(observation)) remembered.reset();
  const PrivilegedPlugin* management = policy.Management();
  if (management == nullptr || !observation.probe.made || observation.probe.from_inventory)
    return remembered;
  const PluginView view = FindPlugin(observation.probe, management->name);
  GateEvidence fresh{view.presence, view.digest, view.cause, observation.probe.taken};
  if (!Definitive(fresh) && remembered) return remembered;
  return fresh;
}

GateVerdict EvaluateGate(const WorkspaceObservation& observation, const Policy& policy,
                         base::Now now) {
  GateVerdict verdict;
  verdict.applies = observation.workspace.spec.kind == api::WorkspaceKind::kPlatform;
  if (!verdict.applies) return verdict;
  const PrivilegedPlugin* management = policy.Management();
  if (management == nullptr) {
    Set(&verdict, ConditionStatus::kFalse, reason::kManagementNotConfigured,
        "the operator's settings mark no entry of privilegedPlugins as the management plugin");
    return verdict;
  }
  const base::Millis limit = base::Seconds(observation.workspace.spec.heartbeat.timeout_seconds) *
                             policy.evidence_timeouts;
  const auto evidence = CurrentGateEvidence(observation, policy);
  const bool usable = evidence && Definitive(*evidence) && now.mono - evidence->taken <= limit;
  if (usable) {
    verdict.management = evidence->presence;
    verdict.evidence_expires = evidence->taken + limit;
    if (EvidenceFails(*management, *evidence, &verdict)) return verdict;
  }
  if (!HeartbeatIsFresh(observation, now)) {
    const bool ever = HasReported(observation);
    Set(&verdict, ConditionStatus::kUnknown,
        ever ? reason::kHeartbeatStale : reason::kAwaitingFirstReport,
        ever ? "the agent is silent" : "the agent of this box has not reported yet");
    return verdict;
  }
  if (ClaimFails(observation.heartbeat, *management, verdict.management, &verdict)) return verdict;
  if (!usable || evidence->digest.empty()) {
    Set(&verdict, ConditionStatus::kUnknown, reason::kGateEvidenceStale,
        fmt::format("the agent claims that all is well, but the operator's own probe of `{}` is "
                    "missing, undecided or too old",
                    management->name));
    return verdict;
  }
  Set(&verdict, ConditionStatus::kTrue, reason::kGatePassed,
      "management plugin, its tools and the model are present");
  return verdict;
}

}  // namespace core
