#include "core/plan/plugin_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/box_obstacle.hpp"
#include "core/plan/pull_box.hpp"
#include "core/plan/row_decision.hpp"
#include "core/reasons.hpp"
#include "core/recovery.hpp"
#include "core/restart_debt.hpp"
#include "core/retry_state.hpp"
#include "core/status_text.hpp"

namespace core {
namespace {

/// A row's decision and how far it may be carried out in this pass.
struct Work {
  TableDecision table;
  const DesiredPlugin* plugin = nullptr;  ///< Null: no longer declared.
  bool change = false;                    ///< The table wants the box changed.
  bool possible = false;  ///< Nothing but the permit to change files stands in the way.
  bool act = false;       ///< It is done in this pass.
  std::optional<RowDecision> before_backoff;  ///< Nothing but a back-off stands in the way.
  RowDecision& row() { return table.decision; }
  const RowDecision& row() const { return table.decision; }
};

class Planner {
 public:
  Planner(const DeclaredSet& desired, const WorkspaceObservation& observed, const Policy& policy,
          base::Now now)
      : desired_(desired),
        o_(observed),
        policy_(policy),
        now_(now),
        gate_(EvaluateGate(observed, policy, now)),
        recovery_(DecideRecovery(observed, gate_, policy, now)) {}

  PluginPlan Plan() {
    const api::Workspace& w = o_.workspace;
    plan_.rejected = desired_.rejected;
    plan_.conflicts = desired_.conflicts;
    plan_.retry = {
        {policy_.backoff_base, policy_.backoff_max}, policy_.slow_retry, JitterSeed(w.meta.uid, 1)};
    plan_.pending_restart = w.status.pending_restart;
    plan_.recovery = CountedRecovery(o_);
    plan_.handled_reconcile_at = HandledReconcile();
    plan_.next_check =
        After(now_, Jittered(policy_.resync, policy_.resync_jitter, JitterSeed(w.meta.uid, 2)));
    if (w.meta.deletion_time || w.spec.suspend)
      KeepRows();
    else
      Converge();
    plan_.next_check = std::max(plan_.next_check, After(now_, base::Millis(1)));
    if (std::any_of(plan_.rows.begin(), plan_.rows.end(),
                    [](const RowDecision& d) { return d.request_waits; }))
      plan_.handled_reconcile_at = w.status.last_handled_reconcile_at;
    return std::move(plan_);
  }

 private:
  std::string HandledReconcile() const {
    return ReconcileRequest(o_.workspace.meta.annotations)
        .value_or(o_.workspace.status.last_handled_reconcile_at);
  }

  void CheckAt(std::optional<base::MonoTime> at) {
    if (at) plan_.next_check = std::min(plan_.next_check, *at);
  }

  /// A box that could not be asked: again after as long as that has lasted, however often something
  /// else has woken us meanwhile; half of it jittered.
  void AskAgain() {
    const Backoff& backoff = plan_.retry.backoff;
    const auto& since = o_.memory.unknown_since;
    const auto lasted =
        since ? std::chrono::floor<base::Millis>(now_.mono - *since) : base::Millis(0);
    const base::Millis most = std::max(backoff.base, backoff.max);
    const base::Millis wait = o_.probe.slow ? most : std::clamp(lasted, backoff.base, most);
    CheckAt(After(now_, Jittered(wait / 2, 1.0, plan_.retry.seed)));
  }

  void KeepRows() {
    for (const api::PluginRow& row : o_.workspace.status.plugins) {
      RowDecision d;
      d.name = row.name;
      d.row = row;
      if (!row.digest.empty()) d.wanted = Revision{row.source, row.revision, row.digest};
      d.health = row.loaded && row.attempts == 0 ? RowHealth::kConverged : RowHealth::kPending;
      plan_.rows.push_back(std::move(d));
    }
  }

  void Converge() {
    for (const DesiredPlugin& plugin : desired_.plugins) {
      Work work;
      work.table = DecideDeclared(plugin, o_, policy_);
      work.plugin = &plugin;
      work_.push_back(std::move(work));
    }
    for (const api::PluginRow& row : o_.workspace.status.plugins) {
      if (desired_.Find(row.name) != nullptr) continue;
      Work work;
      work.table.decision = DecideUndeclared(row, o_);
      if (External()) CheckAt(AwaitReports(o_, now_, &work.row()));
      work_.push_back(std::move(work));
    }
    owed_ = OwedFor(o_);
    FindObstacles();
    DecideDebt();
    for (Work& work : work_)
      if (work.possible)
        Permit(&work);
      else if (IsLeftToAgent(work))
        CheckAt(AskForRemoval(o_, permit_, policy_, now_, &work.row()));
    AddSteps();
    AddRestart();
    FinishRecovery();
    for (Work& work : work_)
      if (work.row().action != RowAction::kDrop) plan_.rows.push_back(std::move(work.row()));
    NoteTrust();
  }

  // --- What stands in the way -------------------------------------------------------------------

  bool External() const { return o_.workspace.spec.box.type == api::BoxType::kExternal; }

  void FindObstacles() {
    if (auto found = BoxObstacle(o_, policy_, now_)) obstacle_ = *std::move(found);
    for (Work& work : work_) {
      RowDecision& d = work.row();
      RefuseForgetfulPath(&d);
      work.change = d.action == RowAction::kDeliver || d.action == RowAction::kRemove;
      if (d.action == RowAction::kWait && d.row.reason == reason::kProbeUnknown) AskAgain();
      if (work.change) work.possible = Possible(&work);
    }
    JoinTheTrip();
  }

  /// Such a box is not even asked: there is nothing to learn from it.
  void RefuseForgetfulPath(RowDecision* d) const {
    const bool asks = d->action == RowAction::kWait && d->row.reason == reason::kProbeUnknown;
    if (o_.probe.plugins_path_persistent || (d->action != RowAction::kDeliver && !asks)) return;
    d->action = RowAction::kBlocked;
    d->safety_net = false;
    Explain(d, RowHealth::kStalled, reason::kPluginsPathNotPersistent,
            "a restart of the box would erase its plugins folder; give the box a persistent volume "
            "at /configs");
  }

  /// The back-off is the workspace's: what has failed joins when something else goes to the box, so
  /// that both share a restart. What only a person can mend waits for its own time.
  void JoinTheTrip() {
    const auto goes = [&](const Work& w) { return w.possible && !Staged(w); };
    if (std::none_of(work_.begin(), work_.end(), goes)) return;
    for (Work& work : work_) {
      if (!work.before_backoff) continue;
      work.row() = *std::move(work.before_backoff);
      work.possible = DependenciesReady(&work);
    }
  }

  void Defer(Work* work, std::string why, std::string message,
             std::optional<base::MonoTime> until = std::nullopt) {
    RowDecision& d = work->row();
    d.action = RowAction::kDefer;
    // A removal, a withdrawn entitlement and drift keep their own word.
    if (d.health != RowHealth::kStalled)
      Explain(&d, RowHealth::kPending, std::move(why), std::move(message));
    CheckAt(until);
  }

  bool Possible(Work* work) {
    RowDecision& d = work->row();
    if (External()) {
      if (d.action == RowAction::kDeliver) AwaitPull(&d);
      return false;
    }
    if (!d.safety_net && (!o_.probe.made || o_.probe.from_inventory)) {
      // Nothing in a box is changed on a claim.
      plan_.probe_again = true;
      Defer(work, reason::kProbeUnknown, "the box is asked first",
            After(now_, policy_.backoff_base));
      return false;
    }
    if (InBackoff(work)) return false;
    if (!obstacle_.reason.empty()) {
      Defer(work, obstacle_.reason, obstacle_.message, obstacle_.until);
      return false;
    }
    return DependenciesReady(work);
  }

  /// A removal that only the agent of an External box can do.
  bool IsLeftToAgent(const Work& work) const {
    return External() && work.row().action == RowAction::kRemove;
  }

  bool InBackoff(Work* work) {
    const std::optional<Retry> retry = RetryOf(o_, work->row().name, policy_, now_);
    if (!retry || retry->at <= now_.mono) return false;
    RowDecision& d = work->row();
    if (!retry->slow && obstacle_.reason.empty()) work->before_backoff = d;
    d.action = RowAction::kDefer;
    d.health = retry->slow ? RowHealth::kStalled : RowHealth::kFailing;
    if (const api::PluginRow* row = FindRow(o_, d.name)) {
      d.row.reason = row->reason;
      d.row.message = row->message;
      d.row.attempts = row->attempts;
      d.row.next_attempt_time = row->next_attempt_time;
    }
    CheckAt(retry->at);
    return true;
  }

  bool DependenciesReady(Work* work) {
    if (work->plugin == nullptr || work->row().action != RowAction::kDeliver) return true;
    for (const std::string& name : work->plugin->depends_on) {
      const auto other = std::find_if(work_.begin(), work_.end(),
                                      [&](const Work& w) { return w.row().name == name; });
      const bool there =
          other != work_.end() && (other->possible || other->row().action == RowAction::kKeep ||
                                   other->row().action == RowAction::kRecord);
      if (there) continue;
      Defer(work, reason::kDependencyNotReady,
            fmt::format("waiting for plugin `{}`, on which it depends", name));
      return false;
    }
    return true;
  }

  // --- The debt, and the permit to change what the runtime has loaded
  // -----------------------------

  /// Names for which a restart is owed, or will be when this pass (or the wait for its permit) is
  /// over.
  void DecideDebt() {
    std::set<std::string> names(owed_.begin(), owed_.end());
    const auto& before = o_.workspace.status.pending_restart;
    const auto was_pending = [&](const std::string& name) {
      return before && std::find(before->plugins.begin(), before->plugins.end(), name) !=
                           before->plugins.end();
    };
    for (const Work& work : work_) {
      const RowDecision& d = work.row();
      const bool comes = work.possible || IsLeftToAgent(work) || was_pending(d.name);
      if (work.change && !d.reload_none && comes) names.insert(d.name);
    }
    if (before) {
      const std::string boot = CurrentBootId(o_);
      for (const std::string& name : before->plugins) {
        const bool unseen = FindPlugin(o_.probe, name).presence == Presence::kUnknown;
        if (unseen && (before->boot_id.empty() || boot.empty() || before->boot_id == boot))
          names.insert(name);
      }
    }
    if (recovery_.restart_due) names.insert(policy_.Management()->name);
    plan_.pending_restart = NextPendingRestart(o_, {names.begin(), names.end()}, now_);
    permit_ = PermitRestart(o_, plan_.pending_restart, now_);
    if (permit_.granted) Gather();
  }

  /// Is it still on its way, and not merely failing?
  static bool OnItsWay(const Work& work) {
    const RowDecision& d = work.table.decision;
    return d.health == RowHealth::kPending &&
           (d.action == RowAction::kFetch ||
            (d.action == RowAction::kWait && d.row.reason == reason::kResolving));
  }

  void Gather() {
    const bool changes = std::any_of(work_.begin(), work_.end(), [](const Work& w) {
      return w.possible && !w.table.decision.reload_none;
    });
    if (!changes || recovery_.active || !plan_.pending_restart) return;
    const bool more = std::any_of(work_.begin(), work_.end(), OnItsWay);
    permit_ = PermitWhenGathered(o_, *plan_.pending_restart,
                                 more ? policy_.gather_limit : policy_.gather, now_);
  }

  /// The management plugin goes first: while its bytes are on their way, nothing else uses up an
  /// attempt.
  bool AwaitsManagement() const {
    if (!recovery_.active || gate_.reason != reason::kManagementMissing) return false;
    return std::any_of(work_.begin(), work_.end(), [](const Work& work) {
      const RowAction action = work.row().action;
      return work.row().management && !work.possible &&
             (action == RowAction::kFetch || action == RowAction::kWait ||
              action == RowAction::kDefer);
    });
  }

  void Permit(Work* work) {
    RowDecision& d = work->row();
    if (recovery_.active && !recovery_.may_act)
      Defer(work, recovery_.reason, recovery_.message, recovery_.until);
    else if (AwaitsManagement())
      Defer(work, reason::kRecoveryAwaitingManagement, "the management plugin goes first");
    else if (!permit_.granted && !d.reload_none)
      Defer(work, permit_.reason, permit_.message, permit_.until);
    else
      work->act = DependenciesAct(*work);
    if (!work->act && d.action != RowAction::kDefer)
      Defer(work, reason::kDependencyNotReady, "waiting for a plugin on which it depends");
  }

  /// A dependency that waits holds back what needs it.
  bool DependenciesAct(const Work& work) const {
    if (work.plugin == nullptr || work.row().action != RowAction::kDeliver) return true;
    return std::none_of(work.plugin->depends_on.begin(), work.plugin->depends_on.end(),
                        [&](const std::string& name) {
                          return std::any_of(work_.begin(), work_.end(), [&](const Work& w) {
                            return w.row().name == name && w.possible && !w.act;
                          });
                        });
  }

  // --- Steps

  Step MakeStep(StepKind kind, const Work& work) const {
    Step step;
    step.kind = kind;
    step.plugin = work.row().name;
    step.source = work.table.deliver_source;
    step.revision = work.table.deliver_revision;
    step.digest = work.table.deliver_digest;
    step.boot_id = CurrentBootId(o_);
    return step;
  }

  /// What is recorded are the bytes that were found, whether or not the source is known yet.
  Step RecordStep(const Work& work) const {
    Step step = MakeStep(StepKind::kRecord, work);
    step.source = work.row().row.source;
    step.revision = work.row().row.revision;
    step.digest = work.row().row.digest;
    return step;
  }

  bool Staged(const Work& work) const {
    const auto found = o_.memory.staged.find(work.row().name);
    return found != o_.memory.staged.end() && found->second == work.table.deliver_digest &&
           o_.memory.box_identity == CurrentIdentity(o_);
  }

  void AddSteps() {
    for (const Work& work : work_) {
      if (work.row().action == RowAction::kFetch) {
        plan_.steps.push_back(MakeStep(StepKind::kFetch, work));
        plan_.steps.back().source = work.plugin->source;
        const ResolutionView& wanted =
            work.plugin->put_back ? *work.plugin->put_back : work.plugin->resolution;
        plan_.steps.back().revision = wanted.commit;
      }
    }
    for (const Work& work : work_)
      // With a receipt the row is all that is missing.
      if (work.row().action == RowAction::kRecord &&
          !FindPlugin(o_.probe, work.row().name).has_receipt)
        plan_.steps.push_back(RecordStep(work));
    // While changes gather nothing is staged either: then one stream brings them all.
    const bool gathering = permit_.reason == reason::kGatheringChanges;
    for (const Work& work : work_)
      if (work.possible && !work.table.deliver_digest.empty() && !Staged(work) &&
          (work.act || !gathering))
        plan_.steps.push_back(MakeStep(StepKind::kDeliver, work));
    for (const Work& work : work_) {
      if (!work.act || work.table.deliver_digest.empty()) continue;
      plan_.steps.push_back(MakeStep(StepKind::kActivate, work));
      for (const Work& other : work_)
        if (other.act && std::find(work.plugin->depends_on.begin(), work.plugin->depends_on.end(),
                                   other.row().name) != work.plugin->depends_on.end())
          plan_.steps.back().needs.push_back(other.row().name);
    }
    for (const Work& work : work_)
      if (work.act && work.table.deliver_digest.empty())
        plan_.steps.push_back(MakeStep(StepKind::kRemove, work));
    if (HasSettledRemovals(o_) && HeartbeatIsOfThisBox(o_) && o_.box.state != BoxState::kStopped) {
      Step step;
      step.kind = StepKind::kForgetRemovals;
      step.boot_id = CurrentBootId(o_);
      plan_.steps.push_back(std::move(step));
    }
    for (const Work& work : work_)
      if (work.act) plan_.probe_again = true;
  }

  void RestartWaits(std::string why, std::string message,
                    std::optional<base::MonoTime> until = std::nullopt) {
    plan_.restart_waits = true;
    plan_.restart_reason = std::move(why);
    plan_.restart_message = std::move(message);
    CheckAt(until);
  }

  void AddRestart() {
    const bool changes = std::any_of(work_.begin(), work_.end(), [](const Work& work) {
      return work.act && !work.row().reload_none && !work.row().safety_net;
    });
    if (owed_.empty() && !changes && !recovery_.restart_due) return;
    const std::optional<Retry>& retry = o_.memory.restart_retry;
    if (CurrentBootId(o_).empty())
      RestartWaits(reason::kAwaitingBootReport, "the runtime's start is not known yet");
    else if (!obstacle_.reason.empty())
      RestartWaits(obstacle_.reason, obstacle_.message, obstacle_.until);
    else if (recovery_.active && !recovery_.may_act)
      RestartWaits(recovery_.reason, recovery_.message, recovery_.until);
    else if (AwaitsManagement())
      RestartWaits(reason::kRecoveryAwaitingManagement, "the management plugin goes first");
    else if (!permit_.granted)
      RestartWaits(permit_.reason, permit_.message, permit_.until);
    else if (retry && retry->at > now_.mono && !ReconcileRequested(o_) && !SpecChanged(o_))
      RestartWaits(reason::kRestartFailed, "", retry->at);
    else if (!o_.probe.made || (o_.probe.from_inventory && !External())) {
      // The claim may stand for the probe, but not for the reason of a restart.
      plan_.probe_again = true;
      RestartWaits(reason::kProbeUnknown, "the box is asked first",
                   After(now_, policy_.backoff_base));
    } else {
      Step step;
      step.kind = StepKind::kRestart;
      step.boot_id = CurrentBootId(o_);
      step.owed_already = !owed_.empty() || recovery_.restart_due;
      plan_.steps.push_back(std::move(step));
      plan_.probe_again = true;
    }
    for (Work& work : work_) ExplainAwaiting(&work.row());
  }

  /// A row that waits for the restart says what the restart waits for.
  void ExplainAwaiting(RowDecision* d) {
    if (!plan_.restart_waits || d->row.reason != reason::kAwaitingRestart) return;
    if (plan_.restart_reason != reason::kRestartFailed)
      return Explain(d, RowHealth::kPending, plan_.restart_reason, plan_.restart_message);
    d->health = o_.memory.restart_retry->slow ? RowHealth::kStalled : RowHealth::kFailing;
    d->row.reason = reason::kRestartFailed;
    if (const api::PluginRow* row = FindRow(o_, d->name)) {
      d->row.reason = row->reason;
      d->row.message = row->message;
      d->row.attempts = row->attempts;
      d->row.next_attempt_time = row->next_attempt_time;
    }
  }

  void FinishRecovery() {
    if (gate_.applies && gate_.Passed() && plan_.recovery)
      plan_.recovery->attempts = plan_.recovery->restarts = 0;
    plan_.recovery_stalled = recovery_.stalled;
    if (!recovery_.active) return;
    plan_.recovery_attempt = plan_.ChangesBox();
    if (plan_.recovery_attempt) {
      const api::RecoveryStatus before = plan_.recovery.value_or(api::RecoveryStatus{});
      // Rounded up: the next one is never early. Deliveries say nothing of what restarts can mend.
      plan_.recovery =
          api::RecoveryStatus{std::chrono::ceil<base::Seconds>(now_.wall), before.attempts + 1,
                              recovery_.restart_due ? before.restarts + 1 : 0};
      return;
    }
    if (!recovery_.may_act) {
      plan_.recovery_reason = recovery_.reason;
      plan_.recovery_message = recovery_.message;
      CheckAt(recovery_.until);
      if (recovery_.reason == reason::kProbeUnknown) AskAgain();
    }
  }

  void NoteTrust() {
    const std::string boot = CurrentBootId(o_);
    plan_.inventory_untrusted =
        !boot.empty() && (o_.memory.untrusted_boot_id == boot || InventoryRefuted(o_));
  }

  const DeclaredSet& desired_;
  const WorkspaceObservation& o_;
  const Policy& policy_;
  const base::Now now_;
  const GateVerdict gate_;
  const RecoveryState recovery_;
  PluginPlan plan_;
  std::vector<Work> work_;
  std::vector<std::string> owed_;
  Obstacle obstacle_;  ///< Without a reason: none.
  RestartPermit permit_;
};

}  // namespace

PluginPlan PlanPlugins(const DeclaredSet& desired, const WorkspaceObservation& observed,
                       const Policy& policy, base::Now now) {
  return Planner(desired, observed, policy, now).Plan();
}

}  // namespace core
