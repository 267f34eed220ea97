#include <fmt/format.h>

#include <algorithm>

#include "core/plan/plugin_plan.hpp"
#include "core/plan/plugin_status.hpp"
#include "core/plan/row_decision.hpp"
#include "core/recovery.hpp"
#include "core/requeue.hpp"
#include "core/restart_debt.hpp"
#include "core/retry_state.hpp"

/// What a process carries from one pass over a workspace to the next.
namespace core {
namespace {

/// The boot, the agent's inventory, the declared set and the rows of the status (their names) that
/// a probe has confirmed to belong together.
std::string VerifiedKey(const DeclaredSet& desired, const WorkspaceObservation& observed,
                        std::vector<std::string_view> rows) {
  uint64_t declared = 0;
  for (const DesiredPlugin& p : desired.plugins) {
    const ResolutionView& r = p.resolution;
    declared = JitterSeed(p.name + "\n" + p.source + "\n" + r.commit + "\n" + r.digest + "\n" +
                              p.blocked_reason + (p.suspended ? "\nsuspended" : ""),
                          declared);
  }
  std::sort(rows.begin(), rows.end());
  if (rows.size() > kMaxRows) rows.resize(kMaxRows);
  for (const std::string_view row : rows) declared = JitterSeed(row, declared);
  return fmt::format("{}\n{}\n{}\n{:016x}", CurrentIdentity(observed), observed.heartbeat.boot_id,
                     observed.heartbeat.inventory_digest, declared);
}

/// A claim may only stand for what a probe has seen to be just so.
bool InventoryAgrees(const WorkspaceObservation& observed) {
  if (!observed.heartbeat.inventory || observed.heartbeat.inventory_digest.empty()) return false;
  return std::all_of(
      observed.probe.plugins.begin(), observed.probe.plugins.end(), [&](const PluginView& view) {
        if (view.presence != Presence::kPresent) return view.presence == Presence::kAbsent;
        return std::any_of(observed.heartbeat.inventory->begin(),
                           observed.heartbeat.inventory->end(), [&](const InventoryItem& item) {
                             return item.name == view.name && item.digest == view.digest &&
                                    item.loaded;
                           });
      });
}

bool RealProbe(const WorkspaceObservation& observed) {
  return observed.probe.made && !observed.probe.from_inventory;
}

/// What failed in another box says nothing about this one.
const api::PluginRow* RowOfThisBox(const WorkspaceObservation& observation,
                                   const std::string& name) {
  const auto& last = observation.workspace.status.box;
  const bool other = last && last->identity != CurrentIdentity(observation);
  return other ? nullptr : FindRow(observation, name);
}

class Rememberer {
 public:
  Rememberer(const WorkspaceObservation& observed, const PluginPlan& plan, const Outcome& outcome,
             base::Now now)
      : o_(observed), plan_(plan), outcome_(outcome), now_(now), memory_(observed.memory) {}

  WorkspaceMemory Run(const DeclaredSet& desired, const Policy& policy) {
    NoteBox();
    NoteProbe(desired, policy);
    for (size_t i = 0; i < plan_.steps.size(); ++i)
      if (outcome_.Ran(i)) NoteStep(plan_.steps[i], outcome_.steps[i].error);
    for (const RowDecision& d : plan_.rows)
      if (d.health == RowHealth::kConverged) memory_.retries.erase(d.name);
    if (ReconcileRequested(o_)) ResetOnRequest();
    if (SpecChanged(o_)) ForgetSlowRetries();
    if (plan_.recovery_attempt) NoteRecovery();
    memory_.probe_again = plan_.probe_again;
    NoteVerified(desired);
    NoteUndeclared(desired);
    return std::move(memory_);
  }

 private:
  void NoteUndeclared(const DeclaredSet& desired) {
    std::map<std::string, ReportMark> still;
    if (o_.workspace.spec.box.type == api::BoxType::kExternal)
      for (const RowDecision& d : plan_.rows) {
        if (desired.Find(d.name) != nullptr) continue;
        const auto before = memory_.undeclared.find(d.name);
        still[d.name] = before != memory_.undeclared.end()
                            ? before->second
                            : ReportMark{o_.heartbeat.boot_id, o_.heartbeat.sequence};
      }
    memory_.undeclared = std::move(still);
  }

  void NoteBox() {
    const std::string identity = CurrentIdentity(o_);
    if (memory_.box_identity != identity) {
      WorkspaceMemory fresh;
      fresh.recovery_at = memory_.recovery_at;
      fresh.recovery_unheard = std::move(memory_.recovery_unheard);
      fresh.box_identity = identity;
      fresh.former_boot_id = FormerBootId(o_);
      fresh.former_identity = memory_.box_identity;
      fresh.unreported_since = memory_.unreported_since;
      memory_ = std::move(fresh);
    }
    memory_.generation = o_.workspace.meta.generation;
    if (!memory_.box_seen_at) memory_.box_seen_at = now_.mono;
    if (HasReported(o_))
      memory_.unreported_since.reset();
    else if (!memory_.unreported_since)
      memory_.unreported_since = now_.mono;
    if (!plan_.pending_restart) {
      memory_.debt_seen_at.reset();
    } else if (!memory_.debt_seen_at || memory_.debt_epoch != plan_.pending_restart->epoch) {
      memory_.debt_seen_at = now_.mono;
      memory_.debt_epoch = plan_.pending_restart->epoch;
    }
    if (!HeartbeatIsOfThisBox(o_) || memory_.boot_id == o_.heartbeat.boot_id) return;
    memory_.boot_id = o_.heartbeat.boot_id;
    memory_.boot_seen_at = now_.mono;
    memory_.restarts_asked = 0;
    memory_.restart_asked_boot_id.clear();
    memory_.restart_retry.reset();
  }

  /// A stamp that was written counts, whatever became of the attempt.
  void NoteRecovery() {
    constexpr size_t kMostUnheard = 16;
    auto& unheard = memory_.recovery_unheard;
    if (!outcome_.intent_error) {
      memory_.recovery_at = now_.mono;
      unheard.clear();
    } else if (plan_.recovery) {
      if (unheard.size() == kMostUnheard) unheard.erase(unheard.begin());
      unheard.push_back({*plan_.recovery, CountedRecovery(o_)});
    }
  }

  void NoteProbe(const DeclaredSet& desired, const Policy& policy) {
    if (RealProbe(o_))
      memory_.passes_since_probe = 0;
    else
      ++memory_.passes_since_probe;
    const bool unknown =
        !o_.probe.from_inventory &&
        std::any_of(desired.probe_names.begin(), desired.probe_names.end(),
                    [&](const std::string& name) {
                      return FindPlugin(o_.probe, name).presence == Presence::kUnknown;
                    });
    if (!unknown)
      memory_.unknown_since.reset();
    else if (!memory_.unknown_since)
      memory_.unknown_since = now_.mono;
    for (const std::string& name : desired.probe_names) {
      const int streak = UnknownStreak(o_, name);
      if (streak > 0)
        memory_.unknown_streak[name] = streak;
      else if (RealProbe(o_))
        memory_.unknown_streak.erase(name);
    }
    std::erase_if(memory_.unknown_streak, [&](const auto& entry) {
      return std::find(desired.probe_names.begin(), desired.probe_names.end(), entry.first) ==
             desired.probe_names.end();
    });
    const auto evidence = CurrentGateEvidence(o_, policy);
    if (evidence && evidence->presence != Presence::kUnknown) memory_.gate = evidence;
    if (InventoryRefuted(o_)) memory_.untrusted_boot_id = o_.heartbeat.boot_id;
  }

  void NoteStep(const Step& step, const std::optional<base::Error>& error) {
    if (error && error->code == base::Code::kCancelled) return;
    if (step.kind == StepKind::kRestart) return NoteRestart(step, error);
    if (step.plugin.empty() || step.kind == StepKind::kFetch) return;
    if (error) {
      const int32_t attempts = AttemptsSoFar(o_, step.plugin) + 1;
      memory_.retries[step.plugin] = {
          attempts, After(now_, RetryDelay(plan_.retry, *error, attempts)), IsSlow(*error)};
      memory_.staged.erase(step.plugin);
      return;
    }
    if (step.kind == StepKind::kDeliver) memory_.staged[step.plugin] = step.digest;
    if (step.kind == StepKind::kActivate || step.kind == StepKind::kRemove) {
      memory_.staged.erase(step.plugin);
      memory_.retries.erase(step.plugin);
      memory_.unknown_streak.erase(step.plugin);
      memory_.changed_at = now_.mono;
      for (const RowDecision& d : plan_.rows)
        if (d.name == step.plugin && !d.mends.empty()) memory_.mended[d.name] = d.mends;
    }
  }

  void NoteRestart(const Step& step, const std::optional<base::Error>& error) {
    if (error) {
      const int32_t attempts = RestartAttemptsSoFar(o_) + 1;
      memory_.restart_retry =
          Retry{attempts, After(now_, RetryDelay(plan_.retry, *error, attempts)), IsSlow(*error)};
      return;
    }
    memory_.restart_retry.reset();
    memory_.restarts_asked =
        memory_.restart_asked_boot_id == step.boot_id ? memory_.restarts_asked + 1 : 1;
    memory_.restart_asked_boot_id = step.boot_id;
    memory_.restart_asked_at = now_.mono;
    memory_.changed_at = now_.mono;
  }

  /// Once: what failed in this very pass waits again.
  void ResetOnRequest() {
    std::erase_if(memory_.retries, [&](const auto& entry) {
      return entry.second.at <= now_.mono || !FailedNow(entry.first);
    });
  }

  /// What only a person can mend may have been mended by this edit; what fails again waits again.
  void ForgetSlowRetries() {
    std::erase_if(memory_.retries,
                  [&](const auto& entry) { return entry.second.slow && !FailedNow(entry.first); });
    if (memory_.restart_retry && memory_.restart_retry->slow && !FailedNow(""))
      memory_.restart_retry.reset();
  }

  bool FailedNow(const std::string& name) const {
    for (size_t i = 0; i < plan_.steps.size(); ++i)
      if (plan_.steps[i].plugin == name && outcome_.Ran(i) && outcome_.steps[i].error) return true;
    return false;
  }

  void NoteVerified(const DeclaredSet& desired) {
    if (!RealProbe(o_)) return;
    const bool fine = OnlyRecorded() && !plan_.pending_restart && o_.probe.removals.empty() &&
                      InventoryAgrees(o_) &&
                      std::all_of(plan_.rows.begin(), plan_.rows.end(), [](const RowDecision& d) {
                        return d.health == RowHealth::kConverged;
                      });
    memory_.verified_key.clear();
    if (!fine) return;
    std::vector<std::string_view> rows;  // As the status has them after this pass.
    for (const RowDecision& d : plan_.rows) rows.push_back(d.name);
    memory_.verified_key = VerifiedKey(desired, o_, std::move(rows));
  }

  /// What is there is written down: the box has not changed since it was asked.
  bool OnlyRecorded() const {
    for (size_t i = 0; i < plan_.steps.size(); ++i)
      if (plan_.steps[i].kind != StepKind::kRecord || !outcome_.Succeeded(i)) return false;
    return true;
  }

  const WorkspaceObservation& o_;
  const PluginPlan& plan_;
  const Outcome& outcome_;
  const base::Now now_;
  WorkspaceMemory memory_;
};

}  // namespace

WorkspaceMemory Remember(const DeclaredSet& desired, const WorkspaceObservation& observed,
                         const PluginPlan& plan, const Outcome& outcome, const Policy& policy,
                         base::Now now) {
  return Rememberer(observed, plan, outcome, now).Run(desired, policy);
}

bool ProbeNeeded(const DeclaredSet& desired, const WorkspaceObservation& observed,
                 const Policy& policy) {
  const WorkspaceMemory& memory = observed.memory;
  const api::Workspace& w = observed.workspace;
  if (w.spec.box.type == api::BoxType::kExternal) return false;
  if (w.spec.kind == api::WorkspaceKind::kPlatform || memory.probe_again ||
      memory.verified_key.empty())
    return true;
  if (!HeartbeatIsOfThisBox(observed) || !observed.heartbeat.inventory) return true;
  if (memory.untrusted_boot_id == observed.heartbeat.boot_id || ReconcileRequested(observed))
    return true;
  if (memory.passes_since_probe + 1 >= policy.probe_every) return true;
  std::vector<std::string_view> rows;
  for (const api::PluginRow& row : w.status.plugins) rows.push_back(row.name);
  return memory.verified_key != VerifiedKey(desired, observed, std::move(rows));
}

std::optional<Retry> RetryOf(const WorkspaceObservation& observation, const std::string& name,
                             const Policy& policy, base::Now now) {
  if (ReconcileRequested(observation)) return std::nullopt;
  const auto found = observation.memory.retries.find(name);
  if (found != observation.memory.retries.end())
    return found->second.slow && SpecChanged(observation) ? std::nullopt
                                                          : std::optional(found->second);
  const api::PluginRow* row = RowOfThisBox(observation, name);
  if (row == nullptr || row->attempts == 0 || !row->next_attempt_time) return std::nullopt;
  // Written by another process: measured from its take-over on, so that a jump of the wall clock
  // cannot stretch it.
  const base::Millis left = RemainingWait(*row->next_attempt_time - policy.slow_retry,
                                          policy.slow_retry, observation.takeover, now);
  return Retry{row->attempts, now.mono + left, left > policy.backoff_max};
}

int32_t AttemptsSoFar(const WorkspaceObservation& observation, const std::string& name) {
  if (ReconcileRequested(observation)) return 0;
  const auto found = observation.memory.retries.find(name);
  if (found != observation.memory.retries.end()) return found->second.attempts;
  const api::PluginRow* row = RowOfThisBox(observation, name);
  return row == nullptr ? 0 : row->attempts;
}

int32_t RestartAttemptsSoFar(const WorkspaceObservation& observation) {
  const auto& retry = observation.memory.restart_retry;
  const bool anew = ReconcileRequested(observation) || SpecChanged(observation);
  return retry && !anew ? retry->attempts : 0;
}

bool InventoryRefuted(const WorkspaceObservation& observation) {
  const HeartbeatView& hb = observation.heartbeat;
  if (!RealProbe(observation) || !HeartbeatIsOfThisBox(observation) || !hb.inventory) return false;
  if (hb.received <= observation.memory.changed_at || hb.received > observation.probe.taken)
    return false;
  return std::any_of(hb.inventory->begin(), hb.inventory->end(), [&](const InventoryItem& item) {
    const PluginView view = FindPlugin(observation.probe, item.name);
    if (view.presence == Presence::kAbsent) return true;
    return view.presence == Presence::kPresent && !view.digest.empty() && !item.digest.empty() &&
           view.digest != item.digest;
  });
}

}  // namespace core
