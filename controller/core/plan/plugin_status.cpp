#include "core/plan/plugin_status.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/plan/row_decision.hpp"
#include "core/reasons.hpp"
#include "core/requeue.hpp"
#include "core/retry_state.hpp"
#include "core/status_text.hpp"

namespace core {
namespace {

using meta::Condition;
using meta::ConditionStatus;

constexpr size_t kMaxTaskBytes = 512;
constexpr size_t kMaxShortBytes = 128;

/// Two containers of one Pod ("pod:UID/CONTAINER"), or one.
bool IsSamePod(const std::string& a, const std::string& b) {
  const size_t end = a.find('/');
  return a.starts_with("pod:") && end != std::string::npos &&
         a.substr(0, end + 1) == b.substr(0, end + 1);
}

/// A decision after its steps.
struct FinishedRow {
  RowDecision decision;
  bool gone = false;
};

class Summariser {
 public:
  Summariser(const WorkspaceObservation& observation, const WorkspaceDecision& decision,
             const PluginPlan& plan, const Outcome& outcome, base::Now now)
      : o_(observation),
        last_(observation.workspace.status),
        decision_(decision),
        plan_(plan),
        outcome_(outcome),
        now_(now) {}

  api::WorkspaceStatus Run() {
    const int64_t generation = o_.workspace.meta.generation;
    for (const RowDecision& d : plan_.rows) rows_.push_back({d, false});
    if (!outcome_.intent_error) ApplySteps();
    std::erase_if(rows_, [](const FinishedRow& row) { return row.gone; });
    status_.observed_generation = generation;
    status_.state = decision_.state;
    status_.box = Box();
    status_.agent = Agent();
    status_.plugins = Rows();
    status_.pending_restart = outcome_.intent_error ? last_.pending_restart : plan_.pending_restart;
    status_.recovery = outcome_.intent_error ? last_.recovery : plan_.recovery;
    status_.last_handled_reconcile_at =
        outcome_.intent_error ? last_.last_handled_reconcile_at : plan_.handled_reconcile_at;
    std::vector<Condition> wanted = Conditions();
    for (Condition& c : wanted) {
      c.observed_generation = generation;
      c.reason = ReasonWord(c.reason);
      c.message = BoundedMessage(c.message);
    }
    status_.conditions = meta::MergeConditions(last_.conditions, std::move(wanted), now_.wall);
    return std::move(status_);
  }

 private:
  // --- Rows
  // ----------------------------------------------------------------------------------------

  void ApplySteps() {
    for (size_t i = 0; i < plan_.steps.size() && i < outcome_.steps.size(); ++i) {
      const StepOutcome& result = outcome_.steps[i];
      const Step& step = plan_.steps[i];
      if (!result.ran || (result.error && result.error->code == base::Code::kCancelled)) continue;
      if (step.kind == StepKind::kRestart) {
        ApplyRestart(result.error);
        continue;
      }
      for (FinishedRow& row : rows_)
        if (row.decision.name == step.plugin && step.kind != StepKind::kFetch)
          ApplyStep(step, result.error, &row);
    }
  }

  void ApplyStep(const Step& step, const std::optional<base::Error>& error, FinishedRow* row) {
    if (error)
      return Fail(*error, reason::kStepFailed, AttemptsSoFar(o_, step.plugin) + 1, &row->decision);
    api::PluginRow& r = row->decision.row;
    if (step.kind == StepKind::kRemove) {
      if (row->decision.health != RowHealth::kStalled) row->gone = true;
      r.origin.reset();
      r.loaded = false;
      r.digest.clear();
      r.revision.clear();
      r.installed_time.reset();
    } else if (step.kind == StepKind::kActivate) {
      // Delivered blindly, and the agent had reported these very bytes as loaded: they were there.
      const bool was_there = row->decision.safety_net && !r.origin && ReportedLoaded(step);
      if (was_there) r.origin = api::PluginOrigin::kBootInstalled;
      const bool changed =
          !was_there && (!r.origin || r.digest != step.digest || !row->decision.mends.empty());
      if (changed || !r.installed_time)
        r.installed_time = std::chrono::floor<base::Seconds>(now_.wall);
      if (changed) r.origin = api::PluginOrigin::kDelivered;
      r.source = step.source;
      r.revision = step.revision;
      r.digest = step.digest;
      if (r.approved_digest == r.digest) ForgetApproval(&r);
      r.attempts = 0;
      r.next_attempt_time.reset();
      // What was delivered blindly may have changed nothing: the next probe tells whether it is
      // loaded.
      if (row->decision.safety_net && !changed) return;
      r.loaded = row->decision.reload_none;
      if (r.loaded)
        Explain(&row->decision, RowHealth::kConverged, reason::kLoaded, "");
      else
        Explain(&row->decision, RowHealth::kPending, reason::kAwaitingRestart,
                "installed; loaded when the runtime has started again");
    }
  }

  bool ReportedLoaded(const Step& step) const {
    if (!HeartbeatIsOfThisBox(o_) || !o_.heartbeat.inventory) return false;
    const auto& items = *o_.heartbeat.inventory;
    return std::any_of(items.begin(), items.end(), [&](const InventoryItem& item) {
      return item.name == step.plugin && item.digest == step.digest && item.loaded;
    });
  }

  void Fail(const base::Error& error, const char* otherwise, int32_t attempts, RowDecision* d) {
    Explain(d, IsSlow(error) ? RowHealth::kStalled : RowHealth::kFailing,
            error.reason.empty() ? otherwise : error.reason, error.message);
    d->row.attempts = attempts;
    d->row.next_attempt_time = WallAt(After(now_, RetryDelay(plan_.retry, error, attempts)), now_);
  }

  void ApplyRestart(const std::optional<base::Error>& error) {
    for (FinishedRow& row : rows_) {
      RowDecision& d = row.decision;
      if (d.row.reason != reason::kAwaitingRestart) continue;
      if (error)
        Fail(*error, reason::kRestartFailed, RestartAttemptsSoFar(o_) + 1, &d);
      else
        Explain(&d, RowHealth::kPending, reason::kRestarting,
                "a restart was asked for; waiting for the new start to report");
    }
  }

  std::vector<api::PluginRow> Rows() {
    std::vector<api::PluginRow> out;
    for (const FinishedRow& row : rows_) {
      out.push_back(row.decision.row);
      api::PluginRow& r = out.back();
      if (r.origin && !r.installed_time)
        r.installed_time = std::chrono::floor<base::Seconds>(now_.wall);
      r.message = BoundedMessage(r.message);
      r.reason = Bounded(r.reason, kMaxShortBytes);
    }
    std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    if (out.size() > kMaxRows) out.resize(kMaxRows);
    return out;
  }

  // --- Box and agent
  // -------------------------------------------------------------------------------

  std::optional<api::BoxStatus> Box() const {
    api::BoxStatus box;
    box.identity = CurrentIdentity(o_);
    box.state = o_.box.state == BoxState::kRunning   ? "Running"
                : o_.box.state == BoxState::kStopped ? "Stopped"
                                                     : "Unknown";
    box.cause = BoundedMessage(o_.box.cause);
    // observedTime: since when the box is this one, in this definitive state; Unknown says nothing
    // about either.
    const auto& before = last_.box;
    const bool same =
        before && before->identity == box.identity &&
        (before->state == box.state || box.state == "Unknown" || before->state == "Unknown");
    box.observed_time = same && before->observed_time
                            ? before->observed_time
                            : std::chrono::floor<base::Seconds>(now_.wall);
    if (o_.workspace.spec.suspend && before) return before;
    return box;
  }

  api::AgentStatus FreshAgent() const {
    const HeartbeatView& hb = o_.heartbeat;
    api::AgentStatus agent;
    agent.boot_id = Bounded(hb.boot_id, kMaxShortBytes);
    agent.version = Bounded(hb.agent_version, kMaxShortBytes);
    agent.current_task = Bounded(hb.current_task, kMaxTaskBytes);
    agent.active_tasks = hb.active_tasks;
    if (hb.error_rate && std::isfinite(*hb.error_rate))
      agent.error_rate = fmt::format("{:.2f}", *hb.error_rate);
    agent.sample_error = BoundedMessage(hb.sample_error);
    agent.monthly_spend = Bounded(hb.monthly_spend, 32);
    agent.management_present = hb.management_present;
    agent.model_present = hb.model_present;
    agent.loaded_tools = static_cast<int32_t>(hb.loaded_tools.size());
    agent.boot_install = hb.boot_install;
    if (agent.boot_install) agent.boot_install->error = BoundedMessage(agent.boot_install->error);
    agent.last_transition_time = std::chrono::floor<base::Seconds>(now_.wall);
    return agent;
  }

  /// While nobody reports. Of a container before this one in its Pod it stays known that its agent
  /// has reported: nothing is wrong with the Pod then. What it said does not count any more.
  std::optional<api::AgentStatus> SilentAgent() const {
    if (HasReported(o_)) return last_.agent;
    const bool same_pod = last_.box && IsSamePod(last_.box->identity, CurrentIdentity(o_));
    if (!last_.agent || !same_pod) return std::nullopt;
    if (last_.agent->boot_id.empty()) return last_.agent;
    api::AgentStatus former;
    former.version = last_.agent->version;
    former.last_transition_time = std::chrono::floor<base::Seconds>(now_.wall);
    return former;
  }

  /// Written when something that a person or program acts on has changed, never for a heartbeat as
  /// such.
  std::optional<api::AgentStatus> Agent() const {
    if (!HeartbeatIsOfThisBox(o_)) return SilentAgent();
    api::AgentStatus fresh = FreshAgent();
    if (!last_.agent) return fresh;
    const api::AgentStatus& before = *last_.agent;
    const auto idle = [](const api::AgentStatus& a) { return a.active_tasks.value_or(1) == 0; };
    const bool matters =
        last_.state != decision_.state || before.boot_id != fresh.boot_id ||
        before.version != fresh.version || before.management_present != fresh.management_present ||
        before.model_present != fresh.model_present || before.loaded_tools != fresh.loaded_tools ||
        before.boot_install != fresh.boot_install ||
        (plan_.pending_restart && idle(before) != idle(fresh));
    return matters ? fresh : before;
  }

  // --- Conditions
  // ----------------------------------------------------------------------------------

  struct Worst {
    RowHealth health = RowHealth::kConverged;
    std::string reason = reason::kConverged;
    std::string message;
    bool unknown = false;  ///< The worst thing is that the box has not answered.
  };

  Worst WorstPlugin() const {
    Worst worst;
    size_t alike = 0;
    for (const FinishedRow& row : rows_) {
      const RowDecision& d = row.decision;
      if (d.health < worst.health || d.health == RowHealth::kConverged) continue;
      alike = d.health == worst.health ? alike + 1 : 0;
      if (d.health == worst.health) continue;
      worst = {d.health, d.row.reason,
               fmt::format("plugin `{}`: {}{}{}", d.name, d.row.reason,
                           d.row.message.empty() ? "" : ": ", d.row.message),
               d.row.reason == reason::kProbeUnknown};
    }
    if (alike > 0) worst.message += fmt::format(" (and {} more)", alike);
    size_t beyond = 0;
    for (const RejectedDeclaration& r : plan_.rejected) {
      // A rival declared by somebody else is their trouble, shown on their object.
      const bool too_many = r.reason == reason::kTooManyPlugins;
      if (too_many && ++beyond > 1) continue;
      // What is not even looked at comes before what is wrong with the others.
      if (too_many || (r.owner.kind == "Workspace" && worst.health != RowHealth::kStalled))
        worst = {RowHealth::kStalled, r.reason, fmt::format("plugin `{}`: {}", r.name, r.message),
                 false};
    }
    if (beyond > 1) worst.message += fmt::format(" ({} more are beyond it)", beyond - 1);
    return worst;
  }

  Condition PluginsConverged(const Worst& worst) const {
    Condition c{"PluginsConverged", ConditionStatus::kFalse, 0, {}, worst.reason, worst.message};
    if (decision_.state == reason::kSuspended || decision_.state == reason::kTerminating)
      return {c.type, ConditionStatus::kUnknown, 0, {}, decision_.state, "plugins are left alone"};
    if (worst.health == RowHealth::kConverged)
      c.status = ConditionStatus::kTrue;
    else if (worst.unknown)
      c.status = ConditionStatus::kUnknown;
    if (c.reason.empty()) c.reason = reason::kPluginsPending;
    return c;
  }

  Condition Conflict() const {
    Condition c{"Conflict", ConditionStatus::kFalse, 0, {}, reason::kNoConflict, ""};
    if (plan_.conflicts.empty()) return c;
    c.status = ConditionStatus::kTrue;
    c.reason = reason::kConflict;
    for (const FinishedRow& row : rows_)
      if (row.decision.name == plan_.conflicts.front()) c.message = row.decision.row.message;
    if (plan_.conflicts.size() > 1)
      c.message += fmt::format(" (and {} more)", plan_.conflicts.size() - 1);
    return c;
  }

  /// ux.md ST-02: working; failed and will retry; needs a human; done.
  void Combine(const Worst& worst, WorkspaceDecision* d) const {
    if (d->state == reason::kSuspended || d->state == reason::kTerminating) return;
    if (d->ready == ConditionStatus::kTrue && worst.health != RowHealth::kConverged) {
      d->message = worst.message;
      d->stalled = worst.health == RowHealth::kStalled;
      d->reconciling = !d->stalled;
      d->ready =
          worst.health == RowHealth::kPending ? ConditionStatus::kUnknown : ConditionStatus::kFalse;
      d->reason = d->stalled                            ? reason::kPluginsStalled
                  : worst.health == RowHealth::kFailing ? reason::kPluginsFailed
                                                        : reason::kPluginsPending;
    } else if (d->reconciling && worst.health == RowHealth::kStalled) {
      // A mistake in a declaration is shown at once, not only when the box is up.
      d->message += (d->message.empty() ? "" : "; ") + worst.message;
      if (d->ready != ConditionStatus::kFalse) d->reason = reason::kPluginsStalled;
      d->ready = ConditionStatus::kFalse;
      d->stalled = true;
      d->reconciling = false;
    }
    const bool blocked = plan_.recovery_reason == reason::kRecoveryBlockedByPolicy;
    if (d->state == reason::kFailed && (plan_.recovery_stalled || blocked)) {
      d->stalled = true;
      d->reconciling = false;
    }
    if (d->state == reason::kFailed && !plan_.recovery_message.empty())
      d->message += "; " + plan_.recovery_message;
  }

  std::vector<Condition> Conditions() const {
    const Worst worst = WorstPlugin();
    WorkspaceDecision combined = decision_;
    Combine(worst, &combined);
    if (plan_.inventory_untrusted && combined.agent_reporting.status == ConditionStatus::kTrue) {
      combined.agent_reporting.reason = reason::kInventoryUntrusted;
      combined.agent_reporting.message =
          "a probe has refuted the agent's inventory; it is not believed until the next boot";
    }
    std::vector<Condition> out = combined.Conditions(o_.workspace.meta.generation);
    out.push_back(PluginsConverged(worst));
    out.push_back(Conflict());
    return out;
  }

  const WorkspaceObservation& o_;
  const api::WorkspaceStatus& last_;
  const WorkspaceDecision& decision_;
  const PluginPlan& plan_;
  const Outcome& outcome_;
  const base::Now now_;
  std::vector<FinishedRow> rows_;
  api::WorkspaceStatus status_;
};

}  // namespace

std::string BoundedMessage(std::string_view text) { return Bounded(text, kMaxMessageBytes); }

api::WorkspaceStatus SummariseWorkspace(const WorkspaceObservation& observation,
                                        const WorkspaceDecision& decision, const PluginPlan& plan,
                                        const Outcome& outcome, base::Now now) {
  return Summariser(observation, decision, plan, outcome, now).Run();
}

base::MonoTime NextWake(const WorkspaceDecision& decision, const PluginPlan& plan,
                        const WorkspaceMemory& memory, base::Now now) {
  base::MonoTime at = std::min(decision.next_check, plan.next_check);
  for (const auto& [name, retry] : memory.retries)
    if (retry.at > now.mono) at = std::min(at, retry.at);
  if (memory.restart_retry && memory.restart_retry->at > now.mono)
    at = std::min(at, memory.restart_retry->at);
  return std::max(at, After(now, base::Millis(1)));
}

}  // namespace core
