#include "core/plan/row_decision.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/entitlement.hpp"
#include "core/plan/row_facts.hpp"
#include "core/reasons.hpp"
#include "core/restart_debt.hpp"
#include "core/status_text.hpp"

namespace core {
namespace {

using State = ResolutionView::State;

void Deliver(TableDecision* out, const std::string& source, const std::string& revision,
             const std::string& digest) {
  out->decision.action = RowAction::kDeliver;
  out->deliver_source = source;
  out->deliver_revision = revision;
  out->deliver_digest = digest;
  Explain(&out->decision, RowHealth::kPending, reason::kDelivering, "");
}

RowHealth HealthOf(const base::Error& error) {
  return IsSlow(error) ? RowHealth::kStalled : RowHealth::kFailing;
}

/// The source cannot be had; the row says so, and what is installed stays.
void ExplainSource(RowDecision* d, const ResolutionView& resolution) {
  const base::Error error = resolution.error.value_or(
      base::MakeError(base::Code::kUnavailable, "the source cannot be read"));
  Explain(d, HealthOf(error), error.reason.empty() ? reason::kSourceUnavailable : error.reason,
          error.message);
  d->row.attempts = resolution.attempts;
  d->row.next_attempt_time = resolution.next_attempt_time;
}

/// Brings the wanted bytes, or says what they wait for.
void Obtain(const Facts& f, TableDecision* out) {
  const ResolutionView& r = f.plugin.resolution;
  if (!r.digest.empty()) return Deliver(out, f.plugin.source, r.commit, r.digest);
  if (r.state == State::kFailed) {
    out->decision.action = RowAction::kBlocked;
    return ExplainSource(&out->decision, r);
  }
  out->decision.action = r.state == State::kResolved ? RowAction::kFetch : RowAction::kWait;
  Explain(&out->decision, RowHealth::kPending,
          r.state == State::kResolved ? reason::kFetching : reason::kResolving, "");
}

/// A request is answered by one pass, and what it asks for may have to wait for much longer: the
/// row remembers it, exactly.
void NoteConsent(const Facts& f, RowDecision* d) {
  const ResolutionView& r = f.plugin.resolution;
  if (r.digest.empty()) {
    d->request_waits = r.state != State::kFailed;
    return;
  }
  d->row.approved_revision = r.commit;
  d->row.approved_digest = r.digest;
}

/// What the source has now, which somebody has asked for.
void Take(const Facts& f, TableDecision* out) {
  NoteConsent(f, &out->decision);
  Obtain(f, out);
}

/// Brings these bytes, or says what they wait for: this process may never have had them.
void PutBack(const Facts& f, const Revision& revision, TableDecision* out) {
  const auto& known = f.plugin.put_back;
  if (!known || known->digest == revision.digest)
    return Deliver(out, revision.source, revision.commit, revision.digest);
  RowDecision& d = out->decision;
  if (known->state == State::kFailed) {
    d.action = RowAction::kBlocked;
    ExplainSource(&d, *known);
  } else if (known->state == State::kFetched) {
    d.action = RowAction::kBlocked;
    Explain(&d, RowHealth::kStalled, reason::kRevisionGone,
            fmt::format("revision {} of its source has other bytes than those that were installed; "
                        "set the annotation {} to install what the source has now",
                        revision.commit, api::kReconcileRequestedAnnotation));
  } else {
    d.action = RowAction::kFetch;
    Explain(&d, RowHealth::kPending, reason::kFetching, "");
  }
}

/// The box holds something else than what it is to hold on to.
void Return(const Facts& f, const Revision& owed, TableDecision* out) {
  if (f.requested && IsGone(f, owed)) return Take(f, out);
  // The row says what is there now; this is what outlives it.
  out->decision.row.approved_revision = owed.commit;
  out->decision.row.approved_digest = owed.digest;
  PutBack(f, owed, out);
}

/// Row "any | Absent".
void Install(const Facts& f, TableDecision* out) {
  out->decision.row.origin.reset();
  out->decision.row.loaded = false;
  const auto approved = Approved(f);
  if (approved && !f.requested) return PutBack(f, *approved, out);
  out->decision.row.source = f.plugin.source;
  if (approved) return Take(f, out);
  Obtain(f, out);
}

/// Row "any | Unknown".
void AwaitProbe(const Facts& f, const Policy& policy, TableDecision* out) {
  RowDecision& d = out->decision;
  d.action = RowAction::kWait;
  const int streak = UnknownStreak(f.observation, f.plugin.name);
  const bool held =
      streak < policy.unknown_limit && f.WasConverged() && !f.SourceEdited() &&
      (f.plugin.resolution.digest.empty() || f.plugin.resolution.digest == f.row->digest ||
       f.plugin.update != api::UpdatePolicy::kTrack);
  if (held) {
    d.health = RowHealth::kConverged;
    return;
  }
  if (f.observation.box.state == BoxState::kStopped)
    return Explain(&d, RowHealth::kPending, reason::kBoxStopped, f.observation.box.cause);
  if (streak >= policy.unknown_limit && !f.plugin.resolution.digest.empty()) {
    // Pin and Manual: the safety net must not bring another revision than the approved one, nor one
    // over what nobody has recorded yet.
    const bool track = f.plugin.update == api::UpdatePolicy::kTrack || f.SourceEdited();
    const auto approved = f.Installed() ? Approved(f) : std::nullopt;
    if (track)
      Deliver(out, f.plugin.source, f.plugin.resolution.commit, f.plugin.resolution.digest);
    else if (approved)
      PutBack(f, *approved, out);
    d.safety_net = d.action == RowAction::kDeliver;
    // Bytes that are not at hand are on their way already: until they are, the box is asked on.
    if (!d.safety_net) d.action = RowAction::kWait;
  }
  Explain(&d, RowHealth::kPending, reason::kProbeUnknown, f.view.cause);
}

void Keep(const Facts& f, TableDecision* out) {
  RowDecision& d = out->decision;
  const HeartbeatView& hb = f.observation.heartbeat;
  if (!d.row.loaded)
    return Explain(&d, RowHealth::kPending, reason::kAwaitingRestart,
                   "installed; loaded when the runtime has started again");
  if (HeartbeatIsOfThisBox(f.observation) && hb.inventory)
    for (const InventoryItem& item : *hb.inventory)
      if (item.name == f.plugin.name && !item.loaded && item.digest == f.view.digest)
        return Explain(&d, RowHealth::kPending, reason::kReportedNotLoaded,
                       "the runtime has started and has not reported the plugin as loaded yet; if "
                       "that lasts, look at the runtime's log in the box");
  Explain(&d, RowHealth::kConverged, reason::kLoaded, "");
}

/// Present and, as far as known, the wanted revision.
void KeepOrMend(const Facts& f, TableDecision* out) {
  const std::string drift = DriftKey(f.view);
  if (drift.empty()) return Keep(f, out);
  RowDecision& d = out->decision;
  const auto mended = f.observation.memory.mended.find(f.plugin.name);
  const bool done = mended != f.observation.memory.mended.end() && mended->second == drift;
  if (f.view.receipt_digest.empty() || (done && !f.requested)) {
    d.action = RowAction::kKeep;
    return Explain(&d, RowHealth::kStalled, reason::kDrifted,
                   fmt::format("files of the plugin were changed in the box again after they were "
                               "mended; stop what changes them, then set the "
                               "annotation {}",
                               api::kReconcileRequestedAnnotation));
  }
  const Revision installed{d.row.source, f.view.revision, f.view.receipt_digest};
  if (f.requested && IsGone(f, installed)) return Take(f, out);
  PutBack(f, installed, out);
  if (d.action != RowAction::kDeliver) return;
  d.mends = drift;
  Explain(&d, RowHealth::kPending, reason::kDrifted,
          "files of the plugin were changed in the box; they are put back");
}

/// Present, and nothing better is known: is that good enough?
void KeepUnverified(const Facts& f, TableDecision* out) {
  KeepOrMend(f, out);
  RowDecision& d = out->decision;
  const State state = f.plugin.resolution.state;
  // An edited source has never been compared with what is there: nothing vouches for it yet.
  const bool vouched = f.WasConverged() && !f.SourceEdited();
  if (d.health != RowHealth::kConverged || vouched) return;
  if (state == State::kPending) Explain(&d, RowHealth::kPending, reason::kResolving, "");
  if (state == State::kFailed) ExplainSource(&d, f.plugin.resolution);
}

/// Row "any | Present, known digest differs".
void ReplaceOrReport(const Facts& f, TableDecision* out) {
  const api::UpdatePolicy update = f.plugin.update;
  const bool asked = update == api::UpdatePolicy::kManual && f.requested;
  if (update == api::UpdatePolicy::kTrack || f.SourceEdited() || asked) {
    Obtain(f, out);
    if (out->decision.action == RowAction::kBlocked && f.WasConverged())
      out->decision.row.attempts = f.plugin.resolution.attempts;
    return;
  }
  KeepOrMend(f, out);
  if (out->decision.health != RowHealth::kConverged) return;
  out->decision.row.reason = reason::kUpdateAvailable;
  const std::string how =
      update == api::UpdatePolicy::kPin
          ? std::string("Pin: change spec.source to get it")
          : fmt::format("Manual: set the annotation {} of the Workspace to get it",
                        api::kReconcileRequestedAnnotation);
  out->decision.row.message = fmt::format("revision {} is available; spec.update.policy is {}",
                                          f.plugin.resolution.commit, how);
}

/// Rows "none | Present" and "any | Present".
void DecidePresent(const Facts& f, TableDecision* out) {
  RowDecision& d = out->decision;
  const Difference difference = Compare(f);
  if (!f.Installed()) d.row.source = f.plugin.source;
  // Of bytes that have no receipt, and are not those of the row, nobody knows the revision.
  const bool known = d.row.digest == f.BaseDigest();
  d.row.revision = !f.view.revision.empty()          ? f.view.revision
                   : difference == Difference::kNone ? f.plugin.resolution.commit
                   : known                           ? d.row.revision
                                                     : std::string();
  d.row.digest = f.BaseDigest();
  d.row.loaded = IsLoaded(f.observation, f.view);
  d.reload_none = f.view.reload_none;
  // The edited source leads to the very bytes that are there.
  if (difference == Difference::kNone) d.row.source = f.plugin.source;
  const bool record = !f.Installed();
  if (d.row.approved_digest == f.BaseDigest()) ForgetApproval(&d.row);
  // The debt is written before the first byte moves: what it names was brought by us, in a pass
  // that did not live to write the row; unless its bytes never arrived and the box has installed
  // them itself.
  const auto& debt = f.observation.workspace.status.pending_restart;
  const bool brought =
      debt && !f.view.boot_installed &&
      std::find(debt->plugins.begin(), debt->plugins.end(), f.plugin.name) != debt->plugins.end();
  if (record)
    d.row.origin = brought ? api::PluginOrigin::kDelivered : api::PluginOrigin::kBootInstalled;
  const auto owed = Owed(f);
  if (owed && (!f.requested || f.Holds()))
    Return(f, *owed, out);
  else if (difference == Difference::kDiffers)
    ReplaceOrReport(f, out);
  else if (difference == Difference::kNone)
    KeepOrMend(f, out);
  else
    KeepUnverified(f, out);
  if (record && d.action == RowAction::kKeep) d.action = RowAction::kRecord;
}

std::optional<Revision> Wanted(const Facts& f, const TableDecision& out) {
  const api::PluginRow& row = out.decision.row;
  if (!out.deliver_digest.empty())
    return Revision{out.deliver_source, out.deliver_revision, out.deliver_digest};
  const bool kept =
      out.decision.action == RowAction::kKeep || out.decision.action == RowAction::kRecord;
  if (kept && f.view.presence == Presence::kPresent && !row.digest.empty())
    return Revision{row.source, row.revision, row.digest};
  if (auto approved = Approved(f)) return approved;
  const ResolutionView& r = f.plugin.resolution;
  if (r.digest.empty()) return std::nullopt;
  return Revision{f.plugin.source, r.commit, r.digest};
}

struct Refusal {
  std::string why, message;
};

std::optional<Refusal> RefusalOf(const DesiredPlugin& plugin, api::WorkspaceKind kind,
                                 const Policy& policy) {
  const ResolutionView& r = plugin.resolution;
  if (!plugin.blocked_reason.empty()) return Refusal{plugin.blocked_reason, plugin.blocked_message};
  // The second look at the choke point, now with the bytes (SC-7).
  const base::Status entitled =
      CheckEntitlement(kind, plugin.name, plugin.source, r.digest, policy);
  if (!entitled) return Refusal{entitled.error().reason, entitled.error().message};
  if (r.manifest_name.empty() || r.manifest_name == plugin.name) return std::nullopt;
  return Refusal{
      reason::kNameMismatch,
      fmt::format("the plugin's manifest says name `{}`, the declaration `{}`; set {} to the "
                  "manifest's name",
                  r.manifest_name, plugin.name, NameField(plugin))};
}

bool Refused(const Facts& f, const Policy& policy, TableDecision* out) {
  RowDecision& d = out->decision;
  auto refusal = RefusalOf(f.plugin, f.observation.workspace.spec.kind, policy);
  if (!refusal) return false;
  auto& [why, message] = *refusal;
  d.action = RowAction::kBlocked;
  d.row.loaded = f.view.presence == Presence::kUnknown
                     ? d.row.loaded
                     : f.Installed() && IsLoaded(f.observation, f.view);
  if (f.view.presence == Presence::kAbsent) d.row.origin.reset();
  const bool withdraw = why == reason::kNotEntitled && f.Installed() &&
                        f.view.presence == Presence::kPresent &&
                        f.row->deletion_policy == api::DeletionPolicy::kRemove;
  if (withdraw) {
    d.action = RowAction::kRemove;
    d.reload_none = false;  // A removal is owed a restart, whatever its manifest says.
  }
  Explain(&d, RowHealth::kStalled, std::move(why), std::move(message));
  return true;
}

}  // namespace

void Explain(RowDecision* decision, RowHealth health, std::string reason, std::string message) {
  decision->health = health;
  decision->row.reason = std::move(reason);
  decision->row.message = std::move(message);
}

const api::PluginRow* FindRow(const WorkspaceObservation& observation, const std::string& name) {
  for (const api::PluginRow& row : observation.workspace.status.plugins)
    if (row.name == name) return &row;
  return nullptr;
}

bool ReconcileRequested(const WorkspaceObservation& observation) {
  return ReconcileRequested(observation.workspace.meta.annotations,
                            observation.workspace.status.last_handled_reconcile_at);
}

int UnknownStreak(const WorkspaceObservation& observation, const std::string& name) {
  if (observation.box.state != BoxState::kRunning || observation.probe.from_inventory) return 0;
  if (FindPlugin(observation.probe, name).presence != Presence::kUnknown) return 0;
  const auto found = observation.memory.unknown_streak.find(name);
  return 1 + (found == observation.memory.unknown_streak.end() ? 0 : found->second);
}

TableDecision DecideDeclared(const DesiredPlugin& plugin, const WorkspaceObservation& observation,
                             const Policy& policy) {
  const Facts f = FactsOf(plugin, observation);
  TableDecision out;
  RowDecision& d = out.decision;
  d.name = plugin.name;
  d.management = plugin.management;
  d.reload_none = plugin.resolution.reload_none;
  if (f.row != nullptr)
    d.row = *f.row;
  else
    d.row.source = plugin.source;
  d.row.name = plugin.name;
  d.row.owner = plugin.owner;
  d.row.deletion_policy = plugin.deletion_policy;
  if (plugin.suspended) {
    Explain(&d, RowHealth::kConverged, reason::kSuspended,
            "its declaration is suspended: what is on the box stays");
    return out;
  }
  if (Refused(f, policy, &out)) return out;
  d.row.attempts = 0;
  d.row.next_attempt_time.reset();
  if (plugin.update == api::UpdatePolicy::kTrack || f.SourceEdited())
    ForgetApproval(&d.row);
  else if (plugin.update == api::UpdatePolicy::kManual && f.requested)
    NoteConsent(f, &d);
  switch (f.view.presence) {
    case Presence::kUnknown:
      AwaitProbe(f, policy, &out);
      break;
    case Presence::kAbsent:
      Install(f, &out);
      break;
    case Presence::kPresent:
      DecidePresent(f, &out);
      break;
  }
  d.wanted = Wanted(f, out);
  return out;
}

std::vector<const DesiredPlugin*> RecordedIfFound(const DeclaredSet& desired,
                                                  const api::Workspace& workspace,
                                                  const Policy& policy) {
  std::vector<const DesiredPlugin*> out;
  for (const DesiredPlugin& plugin : desired.plugins) {
    if (plugin.suspended || plugin.resolution.digest.empty()) continue;
    const auto& rows = workspace.status.plugins;
    const bool ours = std::any_of(rows.begin(), rows.end(), [&](const api::PluginRow& row) {
      return row.name == plugin.name && row.origin;
    });
    if (!ours && !RefusalOf(plugin, workspace.spec.kind, policy)) out.push_back(&plugin);
  }
  return out;
}

std::optional<Revision> ToPutBack(const DesiredPlugin& plugin,
                                  const WorkspaceObservation& observation) {
  const Facts f = FactsOf(plugin, observation);
  std::optional<Revision> revision = Approved(f);
  if (f.view.presence == Presence::kPresent && !Owed(f)) {
    if (DriftKey(f.view).empty() || f.view.receipt_digest.empty()) return std::nullopt;
    revision = {f.Installed() ? f.row->source : plugin.source, f.view.revision,
                f.view.receipt_digest};
  }
  if (revision && revision->digest == plugin.resolution.digest) return std::nullopt;
  return revision;
}

void ForgetApproval(api::PluginRow* row) {
  row->approved_revision.clear();
  row->approved_digest.clear();
}

RowDecision DecideUndeclared(const api::PluginRow& row, const WorkspaceObservation& observation) {
  RowDecision d;
  d.name = row.name;
  d.row = row;
  d.row.attempts = 0;
  d.row.next_attempt_time.reset();
  const PluginView view = FindPlugin(observation.probe, row.name);
  // The box removes nothing without its receipt, whatever the row says: it was recorded without its
  // bytes being known, or somebody wrote the row by hand.
  // An inventory does not tell: our agent says the revision of all that it has a receipt of.
  const bool told = !view.revision.empty() || !row.revision.empty();
  const bool ours = view.has_receipt && (told || !observation.probe.from_inventory);
  const bool wanted_gone = row.deletion_policy == api::DeletionPolicy::kRemove;
  // A receipt without its files: a removal that was cut short.
  const bool gone = view.presence == Presence::kAbsent && !view.has_receipt;
  if (gone || !wanted_gone || (view.presence == Presence::kPresent && !ours)) {
    d.action = RowAction::kDrop;
    d.health = RowHealth::kConverged;
    return d;
  }
  const bool answered = view.presence != Presence::kUnknown;
  d.action = answered ? RowAction::kRemove : RowAction::kWait;
  Explain(&d, RowHealth::kPending, reason::kRemoving,
          answered ? "no longer declared; it is removed"
                   : "no longer declared; removed when the box answers");
  return d;
}

}  // namespace core
