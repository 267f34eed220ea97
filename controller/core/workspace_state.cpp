#include "core/workspace_state.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/reasons.hpp"
#include "core/requeue.hpp"

namespace core {
namespace {

using meta::Condition;
using meta::ConditionStatus;

constexpr char kJustStarted[] = "the operator has just started and waits for the next heartbeat";
constexpr char kRefused[] = "; what it reports is refused: ";
constexpr char kSilentSinceStart[] = "no heartbeat since the operator started";

struct Case {
  const WorkspaceObservation& o;
  const api::WorkspaceStatus& last;
  const Policy& policy;
  base::Now now;
  base::Millis timeout;
  bool external;
  bool fresh;  ///< The agent of this box reports, and its box is not stopped.
};

/// Something of a box that runs is to be told: it is outdated, say, or could not be made again.
bool IsRemark(const std::string& why) {
  return !why.empty() && why != reason::kBoxRunning && why != reason::kContainerNotReady;
}

/// It is Online all the same: the box works as it was asked for before.
std::string ReadyMessage(const Case& c) {
  const bool remark = c.o.box.state == BoxState::kRunning && IsRemark(c.o.box.reason);
  return remark ? "the agent reports; " + c.o.box.cause : "the agent reports";
}

void Set(WorkspaceDecision* d, const char* state, const char* why, std::string message) {
  d->state = state;
  d->reason = why;
  d->message = std::move(message);
}

void CheckAt(WorkspaceDecision* d, base::MonoTime at) {
  d->next_check = std::min(d->next_check, at);
}

Condition BoxRunning(const Case& c) {
  Condition out{"BoxRunning", ConditionStatus::kUnknown, 0, {}, "", ""};
  if (c.external) {
    out.reason = reason::kBoxNotReachable;
    out.message = "an External box is not reached by the operator; its agent pulls";
  } else if (c.o.box.state == BoxState::kRunning) {
    out.status = ConditionStatus::kTrue;
    out.reason = reason::kBoxRunning;
    out.message = c.o.box.cause;
  } else if (c.o.box.state == BoxState::kStopped) {
    out.status = ConditionStatus::kFalse;
    out.reason = reason::kBoxStopped;
    out.message = c.o.box.cause;
  } else {
    out.reason = reason::kBoxUnknown;
    out.message = c.o.box.cause;
  }
  if (!c.external && !c.o.box.reason.empty()) out.reason = c.o.box.reason;
  return out;
}

/// Not that nobody reports: that nobody is heard.
std::string Refused(const Case& c) {
  return c.o.box.reports_refused.empty() ? "" : kRefused + c.o.box.reports_refused;
}

Condition AgentReporting(const Case& c) {
  Condition out{"AgentReporting", ConditionStatus::kUnknown, 0, {}, "", ""};
  if (HeartbeatIsFresh(c.o, c.now)) {
    out.status = ConditionStatus::kTrue;
    out.reason = reason::kHeartbeatFresh;
  } else if (HeartbeatIsOfThisBox(c.o)) {
    out.status = ConditionStatus::kFalse;
    out.reason = reason::kHeartbeatStale;
    out.message = fmt::format("no heartbeat since {}{}",
                              base::FormatTime(c.o.heartbeat.received_wall), Refused(c));
  } else if (HasReported(c.o)) {
    // A start writes nothing: what was written stands for one timeout, and a silence that was
    // written goes on.
    const bool grace = c.now.mono - c.o.takeover.mono <= c.timeout;
    const Condition* before = meta::FindCondition(c.last.conditions, out.type);
    if (before != nullptr && (grace || before->reason == reason::kHeartbeatStale)) {
      out.status = before->status;
      out.reason = before->reason;
      out.message = before->message;
      if (before->reason == reason::kHeartbeatStale)
        out.message = out.message.substr(0, out.message.find(kRefused)) + Refused(c);
      return out;
    }
    out.status = ConditionStatus::kFalse;
    out.reason = grace ? reason::kTakeOver : reason::kHeartbeatStale;
    out.message = (grace ? kJustStarted : kSilentSinceStart) + Refused(c);
  } else {
    out.reason = reason::kAwaitingFirstReport;
    out.message = "the agent of this box has not reported yet" + Refused(c);
  }
  return out;
}

/// Row 3. A gate that repairing can open is worked on; a missing model or a missing setting needs a
/// human.
bool GateFails(const Case& c, WorkspaceDecision* d) {
  const bool seen_missing = d->gate.status == ConditionStatus::kFalse && HasReported(c.o) &&
                            c.o.box.state != BoxState::kStopped && !HeartbeatIsOfThisBox(c.o);
  if (d->gate.Passed() || (!c.fresh && !seen_missing)) return false;
  Set(d, reason::kFailed, d->gate.reason.c_str(), d->gate.message);
  d->ready = ConditionStatus::kFalse;
  d->stalled =
      d->gate.reason == reason::kModelMissing || d->gate.reason == reason::kManagementNotConfigured;
  d->reconciling = !d->stalled;
  return true;
}

bool IsState(const std::string& state, std::initializer_list<const char*> any) {
  return std::any_of(any.begin(), any.end(), [&](const char* s) { return state == s; });
}

/// After a start or a leader change the last written state stands, with its Ready.
void HoldLast(const Case& c, WorkspaceDecision* d) {
  d->held = true;
  CheckAt(d, c.o.takeover.mono + c.timeout + base::Millis(1));
  const bool usable = IsState(c.last.state, {reason::kOnline, reason::kDegraded, reason::kFailed,
                                             reason::kOffline, reason::kAwaitingAgent});
  Set(d,
      usable       ? c.last.state.c_str()
      : c.external ? reason::kAwaitingAgent
                   : reason::kProvisioning,
      reason::kTakeOver, kJustStarted);
  if (!usable) {
    d->reconciling = true;
    return;
  }
  if (c.last.state == reason::kOnline) {
    d->ready = ConditionStatus::kTrue;
    d->reason = reason::kReady;
    d->message = ReadyMessage(c);
    return;
  }
  const auto is_true = [&](const char* type) {
    const Condition* found = meta::FindCondition(c.last.conditions, type);
    return found != nullptr && found->status == ConditionStatus::kTrue;
  };
  d->reconciling = is_true("Reconciling");
  d->stalled = is_true("Stalled");
  if (const Condition* ready = meta::FindCondition(c.last.conditions, "Ready")) {
    d->ready = ready->status;
    d->reason = ready->reason;
    d->message = ready->message;
  }
}

/// Waiting mends nothing, so nobody is kept waiting; whoever reports is not in the box that is
/// asked for.
bool CannotBeHad(const Case& c, WorkspaceDecision* d) {
  if (!c.o.box.needs_mending) return false;
  Set(d, reason::kFailed, c.o.box.reason.c_str(), c.o.box.cause);
  d->ready = ConditionStatus::kFalse;
  d->stalled = true;
  return true;
}

/// Why there may be no heartbeat yet, as far as is known: ": the box; the token", or nothing.
std::string WhySilent(const Case& c) {
  std::string why = c.o.box.cause;
  if (!c.o.token_trouble.empty())
    why += (why.empty() ? "" : "; ") + fmt::format("no token for its agent: {}", c.o.token_trouble);
  return (why.empty() ? why : ": " + why) + Refused(c);
}

/// Row 4.
bool NeverReported(const Case& c, WorkspaceDecision* d) {
  if (HasReported(c.o)) return false;
  d->reconciling = true;
  if (c.external) {
    Set(d, reason::kAwaitingAgent, reason::kAwaitingAgent,
        fmt::format("waiting for the first heartbeat of the external agent; give it the "
                    "workspace's token and the operator's address{}",
                    WhySilent(c)));
    return true;
  }
  const base::MonoTime deadline = ProvisioningDeadline(c.o, c.now);
  if (c.now.mono < deadline) {
    // What had failed before a start or a leader change goes on so through the grace that follows.
    const Condition* ready = meta::FindCondition(c.last.conditions, "Ready");
    if (deadline <= c.o.takeover.mono + c.timeout && c.last.state == reason::kFailed &&
        ready != nullptr && ready->reason == reason::kProvisioningTimeout) {
      HoldLast(c, d);
      return true;
    }
    Set(d, reason::kProvisioning, reason::kProvisioning,
        fmt::format("waiting for the first heartbeat of this box{}", WhySilent(c)));
    CheckAt(d, deadline);
    return true;
  }
  Set(d, reason::kFailed, reason::kProvisioningTimeout,
      fmt::format(
          "no heartbeat within spec.provisioning.deadlineSeconds ({}); look at the box and at "
          "its agent's log{}",
          c.o.workspace.spec.provisioning.deadline_seconds, WhySilent(c)));
  d->ready = ConditionStatus::kFalse;
  d->reconciling = false;
  d->stalled = true;
  return true;
}

/// Row 5.
bool Stopped(const Case& c, WorkspaceDecision* d) {
  if (c.o.box.state != BoxState::kStopped || c.external) return false;
  Set(d, reason::kOffline, reason::kBoxStopped,
      c.o.box.cause.empty() ? "the box is stopped"
                            : fmt::format("the box is stopped: {}", c.o.box.cause));
  return true;
}

std::string CannotBeAsked(const Case& c, const std::string& silence) {
  return fmt::format("{}, and the box cannot be asked: {}", silence, c.o.box.cause);
}

/// Row 6.
bool Silent(const Case& c, WorkspaceDecision* d) {
  if (c.fresh) return false;
  const bool in_memory = HeartbeatIsOfThisBox(c.o);
  const base::MonoTime since = in_memory ? c.o.heartbeat.received : c.o.takeover.mono;
  const auto silence = c.now.mono - since;
  if (silence <= c.timeout) {
    HoldLast(c, d);
    return true;
  }
  const std::string message = d->agent_reporting.reason == reason::kHeartbeatStale
                                  ? d->agent_reporting.message
                                  : kSilentSinceStart + Refused(c);
  if (c.external) {
    Set(d, reason::kAwaitingAgent, reason::kHeartbeatStale, message);
    return true;
  }
  const bool evidence_lost = d->gate.applies && !d->gate.evidence_expires;
  if (c.o.box.state == BoxState::kUnknown && silence <= 3 * c.timeout && !evidence_lost &&
      IsState(c.last.state, {reason::kOnline, reason::kDegraded, reason::kFailed})) {
    Set(d, c.last.state.c_str(), reason::kHeartbeatStale, CannotBeAsked(c, message));
    d->held = true;
    CheckAt(d, since + 3 * c.timeout + base::Millis(1));
    return true;
  }
  const bool unknown = c.o.box.state == BoxState::kUnknown && !c.o.box.cause.empty();
  Set(d, reason::kOffline, reason::kHeartbeatStale, unknown ? CannotBeAsked(c, message) : message);
  return true;
}

/// Rows 7 and 8.
void Reporting(const Case& c, WorkspaceDecision* d) {
  CheckAt(d, c.o.heartbeat.received + c.timeout + base::Millis(1));
  if (d->gate.evidence_expires) CheckAt(d, *d->gate.evidence_expires + base::Millis(1));
  const double rate = c.o.heartbeat.error_rate.value_or(0.0);
  const double limit =
      c.last.state == reason::kDegraded ? c.policy.recovered_below : c.policy.degraded_at;
  if (std::isfinite(rate) && rate >= limit) {
    // The rate itself changes with every heartbeat; the message must not.
    Set(d, reason::kDegraded, reason::kErrorRateHigh,
        fmt::format(
            "the agent's error rate reached {} (back to Online below {}); one of the errors "
            "is in status.agent.sampleError",
            c.policy.degraded_at, c.policy.recovered_below));
    d->ready = ConditionStatus::kFalse;
    return;
  }
  Set(d, reason::kOnline, reason::kReady, ReadyMessage(c));
  d->ready = ConditionStatus::kTrue;
}

/// What the deletion waits for, and until when at the latest.
std::string Terminating(const Case& c) {
  std::vector<std::string> left;
  for (const api::PluginRow& row : c.o.workspace.status.plugins)
    if (row.origin && row.deletion_policy == api::DeletionPolicy::kRemove) left.push_back(row.name);
  if (left.empty()) return "the workspace is being deleted";
  const size_t count = left.size();
  left.resize(std::min<size_t>(count, 3));
  return fmt::format(
      "the workspace is being deleted: {} plugins are removed from its box first ({}{}), until {} "
      "at the latest",
      count, fmt::join(left, ", "), count > left.size() ? ", ..." : "",
      base::FormatTime(*c.o.workspace.meta.deletion_time + c.policy.deletion_deadline));
}

/// The ordered table: the first row that applies decides.
void DecideRow(const Case& c, WorkspaceDecision* d) {
  if (c.o.workspace.meta.deletion_time) {
    Set(d, reason::kTerminating, reason::kTerminating, Terminating(c));
    d->ready = ConditionStatus::kFalse;
    return;
  }
  if (c.o.workspace.spec.suspend) {
    Set(d, reason::kSuspended, reason::kSuspended, "spec.suspend is true: the box is left alone");
    return;
  }
  if (CannotBeHad(c, d)) return;
  if (GateFails(c, d)) return;
  if (NeverReported(c, d)) return;
  if (Stopped(c, d)) return;
  if (Silent(c, d)) return;
  Reporting(c, d);
}

}  // namespace

WorkspaceDecision DecideWorkspace(const WorkspaceObservation& observation,
                                  const api::WorkspaceStatus& last_status, const Policy& policy,
                                  base::Now now) {
  const api::WorkspaceSpec& spec = observation.workspace.spec;
  const Case c{observation,
               last_status,
               policy,
               now,
               base::Seconds(spec.heartbeat.timeout_seconds),
               spec.box.type == api::BoxType::kExternal,
               HeartbeatIsFresh(observation, now) && observation.box.state != BoxState::kStopped};
  WorkspaceDecision d;
  d.next_check = After(now, Jittered(policy.resync, policy.resync_jitter,
                                     JitterSeed(observation.workspace.meta.uid, 0)));
  if (observation.box.look_again) CheckAt(&d, After(now, *observation.box.look_again));
  d.gate = EvaluateGate(observation, policy, now);
  d.box_running = BoxRunning(c);
  d.agent_reporting = AgentReporting(c);
  DecideRow(c, &d);
  if (d.gate.applies) {
    d.gate_passed = Condition{"GatePassed", d.gate.status, 0, {}, d.gate.reason, d.gate.message};
    const Condition* before = meta::FindCondition(last_status.conditions, "GatePassed");
    if (d.held && before != nullptr && d.gate.status == ConditionStatus::kUnknown)
      d.gate_passed = *before;
  }
  if (HeartbeatIsFresh(observation, now))
    CheckAt(&d, observation.heartbeat.received + c.timeout + base::Millis(1));
  d.next_check = std::max(d.next_check, After(now, base::Millis(1)));
  return d;
}

std::optional<Condition> NewBoxTrouble(const std::vector<Condition>& before,
                                       const std::vector<Condition>& after) {
  const Condition* now = meta::FindCondition(after, "BoxRunning");
  if (now == nullptr) return std::nullopt;
  const bool remark = now->status == ConditionStatus::kTrue && IsRemark(now->reason);
  if (!remark && (now->status != ConditionStatus::kFalse || now->reason == reason::kBoxStopped ||
                  now->reason == reason::kPodMissing))
    return std::nullopt;
  const Condition* was = meta::FindCondition(before, "BoxRunning");
  const bool said =
      was != nullptr && was->reason == now->reason && (!remark || was->message == now->message);
  return said ? std::nullopt : std::optional(*now);
}

std::vector<Condition> WorkspaceDecision::Conditions(int64_t generation) const {
  const auto truth = [](bool value) {
    return value ? ConditionStatus::kTrue : ConditionStatus::kFalse;
  };
  std::vector<Condition> out;
  out.push_back({"Ready", ready, 0, {}, reason, message});
  out.push_back({"Reconciling",
                 truth(reconciling),
                 0,
                 {},
                 reconciling ? reason : reason::kIdle,
                 reconciling ? message : ""});
  out.push_back(
      {"Stalled", truth(stalled), 0, {}, stalled ? reason : reason::kIdle, stalled ? message : ""});
  out.push_back(box_running);
  out.push_back(agent_reporting);
  if (gate_passed) out.push_back(*gate_passed);
  for (Condition& c : out) c.observed_generation = generation;
  return out;
}

}  // namespace core
