#include "reconcile/workspace_reconciler.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/failpoint.hpp"
#include "base/log.hpp"
#include "codec/json.hpp"
#include "codec/resources.hpp"
#include "core/entitlement.hpp"
#include "core/plan/plugin_status.hpp"
#include "core/reasons.hpp"
#include "core/requeue.hpp"
#include "kube/status_error.hpp"
#include "reconcile/executor.hpp"
#include "reconcile/notes.hpp"
#include "reconcile/pass_log.hpp"
#include "reconcile/status_writer.hpp"

namespace reconcile {
namespace {

using codec::Json;

/// A source is known after a fraction of this, or its host is slow: then the box is looked at
/// without it. (On a busy machine five repositories took a little more than one second.)
constexpr base::Millis kSourcesWait{2'000};

/// External boxes have nothing that we could clean, managed Pods go away as a whole; the others
/// hold our plugins and receipts.
bool NeedsCleanup(const api::Workspace& workspace) {
  const auto& box = workspace.spec.box;
  return box.type != api::BoxType::kExternal && !(box.pod && !box.pod->pod_ref);
}

bool HasFinalizer(const api::Workspace& workspace) {
  const auto& all = workspace.meta.finalizers;
  return std::find(all.begin(), all.end(), api::kFinalizer) != all.end();
}

/// Removed, or recorded without ever having had our receipt: then its files are somebody else's to
/// remove.
bool IsGone(const base::Status& removed) {
  return removed.has_value() || removed.error().reason == "NotOurs";
}

kube::ObjectRef RefOf(const api::Workspace& workspace) {
  return {kube::kWorkspaces, workspace.meta.ns, workspace.meta.name};
}

/// Only an administrator can mend it.
bool IsShown(const base::Error& error) {
  return error.code == base::Code::kForbidden || error.code == base::Code::kInvalid;
}

bool IsOfEndingNamespace(const base::Status& made) {
  return !made && made.error().reason == kube::kNamespaceTerminating;
}

/// No answer, and yet the write may have been taken; or somebody else has written since.
bool ViewMayBeOld(const base::Error& error) {
  return error.code == base::Code::kTimeout || error.code == base::Code::kUnavailable ||
         error.code == base::Code::kCancelled || error.code == base::Code::kInternal ||
         error.code == base::Code::kConflict;
}

/// What belongs on the box, which an update policy may hold at an older revision than the source
/// has.
std::optional<core::Revision> WantedOf(const core::PluginPlan& plan, const std::string& plugin) {
  for (const core::RowDecision& row : plan.rows)
    if (row.name == plugin) return row.wanted;
  return std::nullopt;
}

}  // namespace

/// Everything of one pass.
struct WorkspaceReconciler::Pass {
  std::shared_ptr<const core::Policy> policy;
  Observed seen;
  core::PluginPlan plan;
  WrittenStatus written;  ///< As the API has it now (the intent included).
};

core::WorkspaceMemory WorkspaceReconciler::Recall(const std::string& uid) {
  const std::lock_guard lock(mutex_);
  const auto found = memory_.find(uid);
  return found == memory_.end() ? core::WorkspaceMemory{} : found->second;
}

/// How much longer a pass may wait for the sources of new plugins.
base::Millis WorkspaceReconciler::MayAwaitSources(const std::string& uid) {
  const std::lock_guard lock(mutex_);
  const auto since = awaiting_.find(uid);
  if (since == awaiting_.end()) return kSourcesWait;
  return std::max(base::Millis{0}, std::chrono::ceil<base::Millis>(since->second + kSourcesWait -
                                                                   on_.clock->Read().mono));
}

void WorkspaceReconciler::NoteAwaited(const std::string& uid, bool awaits) {
  const std::lock_guard lock(mutex_);
  if (awaits)
    awaiting_.try_emplace(uid, on_.clock->Read().mono);
  else
    awaiting_.erase(uid);
}

/// Under the lock.
void WorkspaceReconciler::ForgetUid(const std::string& uid) {
  memory_.erase(uid);
  awaiting_.erase(uid);
  deleting_since_.erase(uid);
  tokens_.Forget(uid);
  on_.downloads.Remove(uid);
  slow_.Forget(uid);
  unsure_.erase(uid);
  contests_.Forget(uid);
  ending_.Forget(uid);
}

base::Result<runtime::Requeue> WorkspaceReconciler::Forget(const meta::ObjectKey& key) {
  on_.fleet.RemoveByKey(key);
  on_.sources.Forget({AskerKind::kWorkspace, key});
  const std::lock_guard lock(mutex_);
  if (const auto uid = uids_.find(key); uid != uids_.end()) {
    ForgetUid(uid->second);
    uids_.erase(uid);
  }
  return runtime::Requeue::None();
}

void WorkspaceReconciler::NoteWrite(const std::string& uid, const base::Error& error) {
  if (!ViewMayBeOld(error)) return;
  const std::lock_guard lock(mutex_);
  unsure_.insert(uid);
}

/// What became of a status write without an answer, or who was first? The rows are written as a
/// whole: who decides by old ones drops what was recorded since, and that is never removed then.
base::Status WorkspaceReconciler::CatchUp(const meta::ObjectKey& key, std::stop_token stop) {
  {
    const std::lock_guard lock(mutex_);
    const auto uid = uids_.find(key);
    if (uid == uids_.end() || !unsure_.contains(uid->second)) return {};
  }
  const auto cached = on_.workspaces.Get(key);
  if (!cached) return {};
  auto live = on_.client.Get(RefOf(*cached), {.deadline = base::Seconds{30}, .stop = stop});
  if (!live && live.error().code != base::Code::kNotFound) return std::move(live).error();
  if (live) {
    auto decoded = codec::DecodeWorkspace(*live);
    if (!decoded) return std::move(decoded).error();
    on_.workspaces.ObserveWrite(*std::move(decoded));
  }
  const std::lock_guard lock(mutex_);
  unsure_.erase(cached->meta.uid);
  return {};
}

base::Result<runtime::Requeue> WorkspaceReconciler::Reconcile(const meta::ObjectKey& key,
                                                              std::stop_token stop) {
  if (auto current = CatchUp(key, stop); !current) return std::move(current).error();
  const std::shared_ptr<const api::Workspace> workspace = on_.workspaces.Get(key);
  if (!workspace) return Forget(key);
  {
    const std::lock_guard lock(mutex_);
    std::string& known = uids_[key];
    if (known != workspace->meta.uid) ForgetUid(known);  // It was made anew under its name.
    known = workspace->meta.uid;
  }
  auto turn = slow_.Enter(workspace->meta.uid);
  if (!turn) return runtime::Requeue::After(base::Seconds{1}, runtime::Priority::kLow);
  if (workspace->meta.deletion_time) return Delete(*workspace, *turn, stop);
  if (const auto left = ending_.LeftFor(workspace->meta.uid, on_.clock->Read().mono))
    return runtime::Requeue::After(*left, runtime::Priority::kLow);
  // The finalizer comes before any effect outside of the API (WR-08).
  if (NeedsCleanup(*workspace) && !HasFinalizer(*workspace)) {
    if (auto added = AddFinalizer(*workspace, stop); !added) return std::move(added).error();
    return runtime::Requeue::After(base::Millis{1});
  }
  return Converge(*workspace, *turn, stop);
}

base::Result<runtime::Requeue> WorkspaceReconciler::Converge(const api::Workspace& workspace,
                                                             SlowBoxes::Turn& turn,
                                                             std::stop_token stop) {
  Pass pass;
  pass.policy = on_.policy();
  const base::Status token = turn.Timed([&] {
    auto box = BoxOf(on_, workspace);
    return tokens_.Ensure(workspace, box && !workspace.spec.suspend ? box->get() : nullptr, stop);
  });
  const auto leave = [&] {
    return runtime::Requeue::After(ending_.Leave(workspace.meta, on_.clock->Read().mono),
                                   runtime::Priority::kLow);
  };
  if (IsOfEndingNamespace(token)) return leave();
  const base::Millis wait = MayAwaitSources(workspace.meta.uid);
  pass.seen = turn.Timed([&] {
    return Observe(on_, {workspace, Recall(workspace.meta.uid), *pass.policy, wait.count() > 0},
                   stop);
  });
  if (IsOfEndingNamespace(pass.seen.ProvideStatus())) return leave();
  NoteAwaited(workspace.meta.uid, pass.seen.awaits_sources);
  if (pass.seen.awaits_sources && wait.count() > 0) return runtime::Requeue::After(wait);
  core::WorkspaceObservation& observation = pass.seen.observation;
  if (!token) observation.token_trouble = token.error().message;
  const base::Now now = on_.clock->Read();
  const core::WorkspaceDecision decision =
      core::DecideWorkspace(observation, workspace.status, *pass.policy, now);
  pass.plan = core::PlanPlugins(pass.seen.desired, observation, *pass.policy, now);
  Publish(pass, decision);
  pass.written = {workspace.status, workspace.meta.resource_version};
  const core::Outcome outcome = Act(pass, decision, turn, stop);
  if (stop.stop_requested())
    return base::MakeError(base::Code::kCancelled,
                           "reconcile " + workspace.meta.Key().Text() + ": stopping");

  const base::Now done = on_.clock->Read();
  if (outcome.intent_error) {
    NoteWrite(workspace.meta.uid, *outcome.intent_error);
    // Somebody was first: what this pass has seen is of no use.
    if (outcome.intent_error->code == base::Code::kConflict)
      return Shown(workspace, *outcome.intent_error);
  }
  observation.workspace.status = pass.written.status;
  const api::WorkspaceStatus status =
      core::SummariseWorkspace(observation, decision, pass.plan, outcome, done);
  const core::WorkspaceMemory memory =
      core::Remember(pass.seen.desired, observation, pass.plan, outcome, *pass.policy, done);
  {
    const std::lock_guard lock(mutex_);
    memory_[workspace.meta.uid] = memory;
  }
  const base::MonoTime next = core::NextWake(decision, pass.plan, memory, done);
  LogPass(observation, pass.plan, outcome, std::chrono::ceil<base::Millis>(next - done.mono));
  // What was done is written in any case.
  const api::WorkspaceStatus& there = workspace.status;
  const base::Millis contested = contests_.Ask(workspace.meta.uid, there, status, done.mono);
  if (contested.count() > 0 && pass.plan.steps.empty())
    return Until(on_, std::min(next, done.mono + contested));
  auto wrote = WriteStatus(on_, workspace, pass.written, status, stop);
  if (!wrote && wrote.error().code == base::Code::kNotFound)
    return runtime::Requeue::After(base::Seconds{1});
  if (!wrote) {
    NoteWrite(workspace.meta.uid, wrote.error());
    return Shown(workspace, std::move(wrote).error());
  }
  const bool another = contests_.Written(workspace.meta.uid, there, status, done.mono);
  if (!wrote->empty()) {
    const bool told = !pass.seen.ProvideStatus() && IsShown(*pass.seen.provide_error);
    RecordNotes(on_,
                {workspace, status, pass.plan, outcome, told,
                 core::HeartbeatIsFresh(observation, done) ? "" : observation.box.reports_refused});
    WakeDeclared(on_, workspace);
    if (another) WarnOfAnother(workspace);
  }
  if (outcome.intent_error) return Shown(workspace, *outcome.intent_error);
  // What only somebody else can mend is shown, not hammered at: it is looked at again when anything
  // else is due.
  for (const base::Status& shown : {token, pass.seen.ProvideStatus(), pass.seen.ProbeStatus()})
    if (!shown && Shown(workspace, shown.error()).code != base::Code::kInvalid)
      return shown.error();
  return Until(on_, next);
}

void WorkspaceReconciler::WarnOfAnother(const api::Workspace& workspace) const {
  constexpr char kText[] =
      "somebody else writes this Workspace's status again and again, probably another "
      "workspace-operator that watches its namespace: let only one do so";
  base::LogWarning(kText, {{"workspace", workspace.meta.Key().Text()}});
  RecordWarning(on_, workspace, "AnotherOperator", "WriteStatus", kText);
}

/// What only an administrator can mend is an Event too: the status may be what cannot be written.
base::Error WorkspaceReconciler::Shown(const api::Workspace& workspace, base::Error error) const {
  if (error.reason == kSchemaOutdated)
    RecordWarning(on_, workspace, error.reason, "WriteStatus", error.message);
  else if (IsShown(error))
    RecordWarning(on_, workspace, error.reason.empty() ? "Refused" : error.reason, "Reconcile",
                  error.message);
  return error;
}

core::Outcome WorkspaceReconciler::Act(Pass& pass, const core::WorkspaceDecision& decision,
                                       SlowBoxes::Turn& turn, std::stop_token stop) {
  core::Outcome outcome;
  outcome.steps.resize(pass.plan.steps.size());
  if (pass.plan.steps.empty() || !pass.seen.box) return outcome;
  const api::Workspace& workspace = pass.seen.observation.workspace;
  if (pass.plan.ChangesBox()) {
    api::WorkspaceStatus intent = core::IntentStatus(workspace.status, pass.plan);
    // A gate that fails is shown before its repair begins, which may take minutes (SC-3).
    if (decision.gate.applies && !decision.gate.Passed()) {
      auto shown = core::SummariseWorkspace(pass.seen.observation, decision, pass.plan, {},
                                            on_.clock->Read());
      intent.state = std::move(shown.state);
      intent.conditions = std::move(shown.conditions);
    }
    const base::FailpointScope failpoint("api.intent");
    auto written = WriteIntent(on_, workspace, intent, stop);
    if (!written) {
      outcome.intent_error = std::move(written).error();
      return outcome;
    }
    pass.written.status = intent;
    if (!written->empty()) pass.written.version = *written;
    if (written->empty()) {
      // Nothing had to be written, so nothing has told us that this view is current: a live read
      // does (S13).
      auto live = on_.client.Get(RefOf(workspace), {.deadline = base::Seconds{30}, .stop = stop});
      auto decoded =
          live ? codec::DecodeObjectMeta(*live) : base::Result<meta::ObjectMeta>(live.error());
      if (decoded && (decoded->uid != workspace.meta.uid ||
                      decoded->generation != workspace.meta.generation || decoded->deletion_time))
        decoded = base::MakeError(
            base::Code::kConflict,
            "act on " + workspace.meta.Key().Text() + ": it has changed meanwhile; deciding again");
      if (!decoded) {
        outcome.intent_error = decoded.error();
        return outcome;
      }
    }
  }
  return turn.Timed([&] { return RunPlan(on_, *pass.seen.box, pass.plan, stop); });
}

/// What agents are told, and what they may download.
void WorkspaceReconciler::Publish(const Pass& pass, const core::WorkspaceDecision& decision) {
  const api::Workspace& workspace = pass.seen.observation.workspace;
  const bool pulls = workspace.spec.box.type == api::BoxType::kExternal;
  fleet::AnswerParts answer;
  answer.state = decision.state;
  answer.reason = decision.reason;
  answer.message = decision.message;
  answer.gate_failing = !decision.gate.Passed();
  answer.restart_waits = pass.plan.restart_waits || pass.seen.end_waits;
  answer.plugins_known = !(pulls && workspace.spec.suspend);  // Such a box is left alone.
  const core::PrivilegedPlugin* management =
      workspace.spec.kind == api::WorkspaceKind::kPlatform ? pass.policy->Management() : nullptr;
  std::map<std::string, std::string> downloads;
  for (const core::DesiredPlugin& plugin : pass.seen.desired.plugins) {
    if (!plugin.blocked_reason.empty() || plugin.suspended) continue;
    const core::ResolutionView& known = plugin.resolution;
    const auto wanted = WantedOf(pass.plan, plugin.name);
    if (!wanted) {
      answer.plugins_known =
          answer.plugins_known &&
          (workspace.spec.suspend || known.state == core::ResolutionView::State::kFailed);
      continue;
    }
    if (!core::CheckEntitlement(workspace.spec.kind, plugin.name, plugin.source, wanted->digest,
                                *pass.policy))
      continue;
    if (wanted->digest == known.digest) {
      if (!known.manifest_name.empty() && known.manifest_name != plugin.name) continue;
    } else if (!on_.artifacts.Find(wanted->digest)) {
      continue;  // An older revision that is not at hand: what must be put back is fetched first.
    }
    downloads[plugin.name] = wanted->digest;
    answer.plugins.push_back(
        {plugin.name, wanted->commit, wanted->digest,
         fmt::format("/workspaces/{}/plugins/{}/download", workspace.meta.uid, plugin.name),
         wanted->source, management != nullptr && management->name == plugin.name});
  }
  if (pulls)
    for (const core::RowDecision& row : pass.plan.rows)
      if (row.action == core::RowAction::kRemove) answer.remove.push_back(row.name);
  on_.downloads.Set(workspace.meta.uid, std::move(downloads));
  on_.fleet.SetAnswer(workspace.meta.uid, std::move(answer));
}

base::Status WorkspaceReconciler::AddFinalizer(const api::Workspace& workspace,
                                               std::stop_token stop) {
  Json finalizers = workspace.meta.finalizers;
  finalizers.push_back(api::kFinalizer);
  const Json body{{"metadata",
                   {{"uid", workspace.meta.uid},
                    {"resourceVersion", workspace.meta.resource_version},
                    {"finalizers", std::move(finalizers)}}}};
  kube::WriteOptions options;
  options.call.stop = stop;
  const base::FailpointScope failpoint("api.finalizer.add");
  auto answer =
      on_.client.Patch(RefOf(workspace), {kube::PatchType::kMerge, codec::Dump(body)}, options);
  if (!answer) return std::move(answer).error();
  auto written = codec::DecodeWorkspace(*answer);
  if (!written) return std::move(written).error();
  on_.workspaces.ObserveWrite(*std::move(written));
  return {};
}

base::Status WorkspaceReconciler::RemoveFinalizer(const api::Workspace& workspace,
                                                  std::stop_token stop) {
  Json left = Json::array();
  for (const std::string& finalizer : workspace.meta.finalizers)
    if (finalizer != api::kFinalizer) left.push_back(finalizer);
  const Json body{{"metadata",
                   {{"uid", workspace.meta.uid},
                    {"resourceVersion", workspace.meta.resource_version},
                    {"finalizers", std::move(left)}}}};
  kube::WriteOptions options;
  options.call.stop = stop;
  const base::FailpointScope failpoint("api.finalizer.remove");
  auto answer =
      on_.client.Patch(RefOf(workspace), {kube::PatchType::kMerge, codec::Dump(body)}, options);
  if (!answer && answer.error().code != base::Code::kNotFound) return std::move(answer).error();
  return {};
}

base::Status WorkspaceReconciler::WriteTerminating(const api::Workspace& workspace,
                                                   const core::Policy& policy,
                                                   std::stop_token stop) {
  core::WorkspaceObservation observation;
  observation.workspace = workspace;
  observation.takeover = on_.fleet.TakeOverTime().value_or(on_.clock->Read());
  const base::Now now = on_.clock->Read();
  const auto decision = core::DecideWorkspace(observation, workspace.status, policy, now);
  const auto plan = core::PlanPlugins({}, observation, policy, now);
  auto wrote = WriteStatus(on_, workspace, {workspace.status, workspace.meta.resource_version},
                           core::SummariseWorkspace(observation, decision, plan, {}, now), stop);
  if (!wrote && wrote.error().code != base::Code::kNotFound) return std::move(wrote).error();
  return {};
}

/// The token of an agent whose Workspace goes away opens nothing any more, so this is tried once: a
/// box that does not answer holds nothing up. Why it was left there, or nothing.
std::string WorkspaceReconciler::TakeBack(const api::Workspace& workspace, SlowBoxes::Turn& turn,
                                          std::stop_token stop) {
  auto box = BoxOf(on_, workspace);
  if (!box || !on_.client.MayWrite()) return "";  // Then the finalizer stays, too.
  const base::FailpointScope failpoint("box.TakeToken");
  const auto taken = turn.Timed([&] { return (*box)->WriteToken("", stop); });
  if (taken || taken.error().reason == "PluginsPathNotPersistent") return "";
  return "the token of its agent, which opens nothing any more, may be left in the box: " +
         taken.error().message;
}

base::Result<runtime::Requeue> WorkspaceReconciler::Delete(const api::Workspace& workspace,
                                                           SlowBoxes::Turn& turn,
                                                           std::stop_token stop) {
  if (!HasFinalizer(workspace)) return runtime::Requeue::None();
  const auto policy = on_.policy();
  if (auto shown = WriteTerminating(workspace, *policy, stop); !shown)
    return std::move(shown).error();
  core::CleanupFacts facts;
  {
    const std::lock_guard lock(mutex_);
    const auto since = deleting_since_.find(workspace.meta.uid);
    if (since != deleting_since_.end()) facts.first_tried = since->second;
  }
  auto ns = on_.client.Get({kube::kNamespaces, "", workspace.meta.ns},
                           {.deadline = base::Seconds{10}, .stop = stop});
  if (ns)
    if (const auto decoded = codec::DecodeObjectMeta(*ns))
      facts.namespace_terminating = decoded->deletion_time.has_value();
  core::CleanupPlan plan = core::PlanCleanup(workspace, facts, *policy, on_.clock->Read());
  if (!plan.release && !plan.remove.empty()) {
    auto box = BoxOf(on_, workspace);
    if (box) {
      facts.box_gone = (*box)->State(stop).reason == core::reason::kPodMissing;
      const std::string boot = workspace.status.agent ? workspace.status.agent->boot_id : "";
      // As in RunPlan: boxes are beyond the API's fence.
      if (auto may = on_.client.MayWrite(); !may) return std::move(may).error();
      const base::FailpointScope failpoint("box.Remove");
      const auto results = turn.Timed([&] { return (*box)->Remove(plan.remove, boot, stop); });
      facts.removed = results && std::all_of(results->begin(), results->end(),
                                             [](const auto& r) { return IsGone(r.status); });
    }
    const std::lock_guard lock(mutex_);
    facts.first_tried =
        deleting_since_.try_emplace(workspace.meta.uid, on_.clock->Read().mono).first->second;
  } else if (plan.remove.empty()) {
    facts.removed = true;
  }
  if (!plan.release) plan = core::PlanCleanup(workspace, facts, *policy, on_.clock->Read());
  if (!plan.release) return Until(on_, plan.next_check);
  if (plan.warning.empty() && !facts.box_gone) plan.warning = TakeBack(workspace, turn, stop);
  if (!plan.warning.empty())
    RecordWarning(on_, workspace, "CleanupIncomplete", "Delete", plan.warning);
  const auto latest = on_.workspaces.Get(workspace.meta.Key());
  if (auto removed = RemoveFinalizer(latest ? *latest : workspace, stop); !removed)
    return std::move(removed).error();
  return runtime::Requeue::None();
}

}  // namespace reconcile
