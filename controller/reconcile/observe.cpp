#include "reconcile/observe.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "api/workspace.hpp"
#include "base/failpoint.hpp"
#include "core/declared_set.hpp"
#include "core/plan/plugin_plan.hpp"
#include "core/plan/row_decision.hpp"
#include "core/restart_debt.hpp"
#include "core/status_text.hpp"
#include "reconcile/notes.hpp"

namespace reconcile {
namespace {

constexpr base::Millis kTakenAgain{60'000};

std::string Decimal(double value) {
  std::string text = fmt::format("{:.4f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

core::HeartbeatView HeartbeatOf(const fleet::SlotSnapshot& slot) {
  core::HeartbeatView view;
  view.box_identity = slot.box_identity;
  if (!slot.last) return view;
  const protocol::Heartbeat& last = *slot.last;
  view.has_report = true;
  view.boot_id = last.boot_id;
  view.sequence = last.sequence;
  view.received = slot.seen.mono;
  view.received_wall = slot.seen.wall;
  view.agent_version = last.agent_version;
  view.active_tasks = last.active_tasks;
  view.current_task = last.current_task;
  view.error_rate = last.error_rate;
  view.sample_error = last.sample_error;
  if (last.monthly_spend) view.monthly_spend = Decimal(*last.monthly_spend);
  view.management_present = last.management_present;
  view.model_present = last.model_present;
  view.loaded_tools = last.loaded_tools.value_or(std::vector<std::string>{});
  if (last.boot_install)
    view.boot_install = api::BootInstallStatus{
        protocol::BootInstallStateName(last.boot_install->state), last.boot_install->error};
  if (last.inventory) {
    view.inventory.emplace();
    for (const auto& item : *last.inventory)
      view.inventory->push_back(
          {item.name, item.revision, item.digest, item.loaded, item.activated_this_boot});
  }
  view.inventory_digest = last.inventory_digest;
  return view;
}

core::BoxState StateOf(box::BoxState state) {
  return state == box::BoxState::kRunning   ? core::BoxState::kRunning
         : state == box::BoxState::kStopped ? core::BoxState::kStopped
                                            : core::BoxState::kUnknown;
}

core::Presence PresenceOf(box::Presence presence) {
  return presence == box::Presence::kPresent  ? core::Presence::kPresent
         : presence == box::Presence::kAbsent ? core::Presence::kAbsent
                                              : core::Presence::kUnknown;
}

core::ProbeView ProbeOf(const box::ProbeReport& report, base::MonoTime taken) {
  core::ProbeView view;
  view.made = true;
  view.taken = taken;
  for (const box::PluginProbe& p : report.plugins)
    view.plugins.push_back({p.name, PresenceOf(p.presence), p.cause, p.has_receipt, p.revision,
                            p.digest, p.receipt_digest, p.activated_boot_id, p.reload_none,
                            p.mcp_merged, p.boot_installed});
  for (const box::UnloadedRemoval& r : report.removals)
    view.removals.push_back({r.name, r.removed_boot_id});
  return view;
}

/// What is recorded in the very call that looks for it, as long as we may write.
std::vector<box::Delivery> ToRecord(const Dependencies& on, const Observed& seen,
                                    const core::Policy& policy) {
  std::vector<box::Delivery> record;
  if (!on.client.MayWrite()) return record;
  for (const core::DesiredPlugin* p :
       core::RecordedIfFound(seen.desired, seen.observation.workspace, policy))
    record.push_back({p->name, p->resolution.commit, p->resolution.digest, p->source, ""});
  return record;
}

core::ProbeView ProbeBox(const Dependencies& on, const core::Policy& policy, Observed& seen,
                         std::stop_token stop) {
  if (!seen.box) {
    core::ProbeView none;
    none.cause = seen.box_error ? seen.box_error->message : "the box cannot be reached";
    return none;
  }
  const base::FailpointScope failpoint("box.Probe");
  auto report = seen.box->Probe(seen.desired.probe_names, ToRecord(on, seen, policy), stop);
  if (report) return ProbeOf(*report, on.clock->Read().mono);
  core::ProbeView failed;
  failed.cause = report.error().message;
  failed.slow = report.error().code == base::Code::kInvalid;
  if (failed.slow) seen.probe_error = report.error();
  return failed;
}

/// An agent in a Pod knows the Pod at most, not its container: its report counts for whatever
/// container the Pod has now, unless it is the last word of the one before.
void MatchPod(core::WorkspaceObservation& observation) {
  constexpr std::string_view kPod = "pod:";
  core::HeartbeatView& heartbeat = observation.heartbeat;
  const std::string box_identity = core::CurrentIdentity(observation);
  const std::string& reported = heartbeat.box_identity;
  if (!box_identity.starts_with(kPod)) return;
  // Where no container has run yet nobody reports: a Pod that was deleted by force has an agent
  // that lives on, with the same token.
  const bool never_ran = box_identity.ends_with('/') && !reported.starts_with(kPod);
  if (never_ran || core::IsLastWordOfFormerBox(observation))
    heartbeat = {};
  else if (!reported.starts_with(kPod))
    heartbeat.box_identity.clear();  // An agent in an adopted Pod that was not told which.
  else if (box_identity.starts_with(reported + "/"))
    heartbeat.box_identity = box_identity;
}

/// A box that does not answer is asked for as long as a call may take: what its agent has reported
/// meanwhile is no silence. Only the time is taken over: the rest belongs to what was seen first.
void HearAgain(const Dependencies& on, const std::string& uid, core::HeartbeatView& heartbeat) {
  const auto slot = on.fleet.Snapshot(uid);
  if (!slot || !heartbeat.has_report) return;
  const core::HeartbeatView latest = HeartbeatOf(*slot);
  if (!latest.has_report || latest.received <= heartbeat.received) return;
  heartbeat.received = latest.received;
  heartbeat.received_wall = latest.received_wall;
}

void ResolveSources(const Dependencies& on, const api::Workspace& workspace, Observed& seen,
                    std::stop_token stop) {
  const bool refresh = core::ReconcileRequested(workspace.meta.annotations,
                                                workspace.status.last_handled_reconcile_at);
  for (core::DesiredPlugin& plugin : seen.desired.plugins) {
    if (!plugin.uri || !plugin.blocked_reason.empty() || plugin.suspended) continue;
    const SourceQuestion question{.uri = *plugin.uri,
                                  .ns = workspace.meta.ns,
                                  .secret = plugin.source_secret_ref,
                                  .interval = plugin.interval,
                                  .refresh = refresh};
    plugin.resolution =
        on.sources.Find(question, {AskerKind::kWorkspace, workspace.meta.Key()}, stop);
  }
}

/// What is put back may be in no store any more: another replica fetched it, or an image brought
/// it.
void FindPutBack(const Dependencies& on, Observed& seen, std::stop_token stop) {
  const api::Workspace& workspace = seen.observation.workspace;
  for (core::DesiredPlugin& plugin : seen.desired.plugins) {
    if (!plugin.blocked_reason.empty() || plugin.suspended) continue;
    const auto revision = core::ToPutBack(plugin, seen.observation);
    if (!revision || on.artifacts.Find(revision->digest)) continue;
    auto uri = core::ParseSourceUri(revision->source);
    if (uri) uri = core::AtCommit(*uri, revision->commit);
    if (!uri) {
      plugin.put_back.emplace();
      plugin.put_back->state = core::ResolutionView::State::kFailed;
      plugin.put_back->error = std::move(uri).error();
      continue;
    }
    const SourceQuestion question{
        .uri = *uri, .ns = workspace.meta.ns, .secret = plugin.source_secret_ref};
    plugin.put_back =
        on.sources.Find(question, {AskerKind::kWorkspace, workspace.meta.Key()}, stop);
  }
}

/// Whether only another spec or other settings of the operator can end this refusal. Whatever waits
/// for another object (a PodTemplate, a claim, a Pod) is not among them: that may be a moment
/// behind, in the same push.
bool NeedsMending(const api::Workspace& workspace, const base::Error& error) {
  constexpr std::string_view kAlways[] = {"BoxTypeUnavailable", "BoxPathNotAllowed", "SpecInvalid",
                                          "AgentImageMissing", "AgentURLMissing"};
  if (error.code != base::Code::kInvalid) return false;
  // A PodTemplate may bring the command.
  const auto& pod = workspace.spec.box.pod;
  if (error.reason == "RuntimeCommandUnknown") return !pod || !pod->template_ref;
  return std::find(std::begin(kAlways), std::end(kAlways), error.reason) != std::end(kAlways);
}

/// A plugin without a row whose source nobody has looked up yet. A workspace that was never looked
/// at has no rows: its box comes first.
bool AwaitsSources(const api::Workspace& workspace, const core::DeclaredSet& desired) {
  const auto& rows = workspace.status.plugins;
  return workspace.status.observed_generation != 0 &&
         std::any_of(desired.plugins.begin(), desired.plugins.end(), [&](const auto& plugin) {
           return plugin.uri && plugin.blocked_reason.empty() && !plugin.suspended &&
                  plugin.resolution.digest.empty() && !plugin.resolution.error &&
                  std::none_of(rows.begin(), rows.end(),
                               [&](const auto& row) { return row.name == plugin.name; });
         });
}

box::MayEnd MayEndOf(const Dependencies& on, Observed& seen) {
  return [&on, &seen](base::WallTime since) {
    const base::Now now = on.clock->Read();
    core::WorkspaceObservation observation = seen.observation;
    MatchPod(observation);
    const core::RestartPermit permit = core::PermitRecreate(observation, since, now);
    seen.end_waits = !permit.granted;
    box::EndPermit out{permit.granted, permit.message, {}};
    if (permit.until) out.wait = std::chrono::ceil<base::Millis>(*permit.until - now.mono);
    return out;
  };
}

}  // namespace

Observed Observe(const Dependencies& on, const ObserveRequest& request, std::stop_token stop) {
  Observed seen;
  core::WorkspaceObservation& observation = seen.observation;
  const api::Workspace& workspace = request.workspace;
  observation.workspace = workspace;
  observation.memory = request.memory;
  on.fleet.ForgiveDeafness(on.clock->Read().mono);
  // A report that crosses them has to wake somebody.
  on.fleet.SetErrorRates(request.policy.degraded_at, request.policy.recovered_below);
  observation.takeover = on.fleet.TakeOverTime().value_or(on.clock->Read());
  if (const auto slot = on.fleet.Snapshot(workspace.meta.uid))
    observation.heartbeat = HeartbeatOf(*slot);

  auto made = BoxOf(on, workspace);
  if (made)
    seen.box = *std::move(made);
  else
    seen.box_error = std::move(made).error();

  const auto declared = DeclaredFor(on, workspace);
  std::vector<const api::DeclaredPlugin*> pointers;
  for (const auto& plugin : declared) pointers.push_back(plugin.get());
  seen.desired = core::BuildDeclaredSet(workspace, pointers, request.policy);
  if (workspace.spec.suspend) {
    observation.box.cause = "the workspace is suspended: its box is left alone";
    return seen;
  }
  ResolveSources(on, workspace, seen, stop);
  seen.awaits_sources = AwaitsSources(workspace, seen.desired);
  if (seen.awaits_sources && request.may_wait) return seen;
  bool plugins_path_persistent = true;
  if (seen.box) {
    {
      const base::FailpointScope failpoint("box.Provide");
      if (auto provided = seen.box->Provide(MayEndOf(on, seen), stop); !provided)
        seen.provide_error = std::move(provided).error();
    }
    const base::FailpointScope failpoint("box.State");
    const box::StateReport report = seen.box->State(stop);
    for (const box::BoxNote& note : report.notes) RecordNote(on, workspace, note);
    plugins_path_persistent = report.plugins_path_persistent;
    observation.box = {StateOf(report.state), report.cause,   report.identity,
                       report.reason,         report.boot_id, report.look_again,
                       report.reports_refused};
    on.fleet.SetPresentBox(workspace.meta.uid, report.identity);
    MatchPod(observation);
    // What keeps the box from being made says more than that it is not there.
    if (seen.provide_error && report.state != box::BoxState::kRunning) {
      observation.box.cause = seen.provide_error->message;
      observation.box.reason = seen.provide_error->reason;
      observation.box.needs_mending = NeedsMending(workspace, *seen.provide_error);
    }
  } else {
    observation.box.cause = seen.box_error->message;
    observation.box.reason = seen.box_error->reason;
    observation.box.needs_mending = NeedsMending(workspace, *seen.box_error);
    // Nobody tells when the other one goes.
    if (seen.box_error->reason == kPodTaken)
      observation.box = {
          core::BoxState::kStopped, seen.box_error->message, "", kPodTaken, "", kTakenAgain};
  }
  if (workspace.spec.box.type == api::BoxType::kExternal ||
      !core::ProbeNeeded(seen.desired, observation, request.policy)) {
    observation.probe = core::ProbeFromInventory(observation.heartbeat, seen.desired.probe_names);
    observation.probe.taken = on.clock->Read().mono;
  } else {
    observation.probe = ProbeBox(on, request.policy, seen, stop);
  }
  // Known also where the box refused to be asked for that very reason.
  observation.probe.plugins_path_persistent = plugins_path_persistent;
  FindPutBack(on, seen, stop);
  HearAgain(on, workspace.meta.uid, observation.heartbeat);
  return seen;
}

}  // namespace reconcile
