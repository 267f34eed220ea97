#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "core/entitlement.hpp"
#include "core/plan/plugin_status.hpp"
#include "core/reasons.hpp"
#include "core/requeue.hpp"
#include "core/status_text.hpp"

namespace core {
namespace {

using meta::Condition;
using meta::ConditionStatus;

enum class Share { kReady, kPending, kFailed, kBlocked };

struct WorkspaceShare {
  Share share = Share::kPending;
  api::WorkspaceTrouble trouble;
};

bool IsBlocking(std::string_view why) {
  constexpr std::array<std::string_view, 9> kBlocking = {
      reason::kConflict,          reason::kNotEntitled,     reason::kInvalidSource,
      reason::kInvalidName,       reason::kNameMismatch,    reason::kRefNotPinned,
      reason::kMissingDependency, reason::kDependencyCycle, reason::kPluginsPathNotPersistent};
  return std::find(kBlocking.begin(), kBlocking.end(), why) != kBlocking.end();
}

bool IsGood(const api::PluginRow& row) {
  return row.origin && row.loaded && row.attempts == 0 &&
         (row.reason == reason::kLoaded || row.reason == reason::kUpdateAvailable);
}

class Summary {
 public:
  Summary(const DeclaredPluginObservation& observation, const Policy& policy, base::Now now)
      : o_(observation),
        spec_(observation.object.spec),
        policy_(policy),
        now_(now),
        name_(PluginNameOf(observation.object)),
        uri_(ParseSourceUri(observation.object.spec.source)) {}

  DeclaredPluginSummary Run() {
    DeclaredPluginSummary out;
    const api::DeclaredPluginStatus& last = o_.object.status;
    Count();
    out.status.observed_generation = o_.object.meta.generation;
    out.status.workspaces = counts_;
    out.status.resolved = Resolved();
    out.status.last_handled_reconcile_at =
        ReconcileRequest(o_.object.meta.annotations).value_or(last.last_handled_reconcile_at);
    std::vector<Condition> wanted = Conditions();
    for (Condition& c : wanted) {
      c.observed_generation = o_.object.meta.generation;
      c.reason = ReasonWord(c.reason);
      c.message = BoundedMessage(c.message);
    }
    out.status.conditions = meta::MergeConditions(last.conditions, std::move(wanted), now_.wall);
    out.next_check = NextCheck();
    out.may_wait = last.conditions.empty() && on_its_way_;
    return out;
  }

 private:
  WorkspaceShare ShareOf(const api::Workspace& w) const {
    WorkspaceShare out;
    out.trouble.name = w.meta.name;
    const auto set = [&](Share share, std::string why, std::string message) {
      out.share = share;
      out.trouble.reason = std::move(why);
      out.trouble.message = BoundedMessage(message);
    };
    const base::Status entitled =
        CheckEntitlement(w.spec.kind, name_, spec_.source, o_.resolution.digest, policy_);
    const auto row = std::find_if(w.status.plugins.begin(), w.status.plugins.end(),
                                  [&](const api::PluginRow& r) { return r.name == name_; });
    if (!entitled) {
      set(Share::kBlocked, entitled.error().reason, entitled.error().message);
    } else if (!uri_ || !IsPluginName(name_)) {
      const Condition refused = Accepted();
      set(Share::kBlocked, refused.reason, refused.message);
    } else if (row == w.status.plugins.end()) {
      const Condition* converged = meta::FindCondition(w.status.conditions, "PluginsConverged");
      const bool too_many = converged != nullptr && converged->reason == reason::kTooManyPlugins;
      set(too_many ? Share::kBlocked : Share::kPending,
          too_many ? reason::kTooManyPlugins : reason::kPluginsPending,
          too_many
              ? fmt::format("it has more than the {} plugins that a workspace may have; remove "
                            "declarations",
                            api::kMaxPlugins)
              : "the workspace has not taken up the declaration yet");
    } else if (IsBlocking(row->reason)) {
      set(Share::kBlocked, row->reason, row->message);
    } else if (IsGood(*row) && row->source == spec_.source) {
      set(Share::kReady, row->reason, row->message);
    } else {
      const bool source_failed = o_.resolution.error && row->reason == o_.resolution.error->reason;
      set(row->attempts > 0 || source_failed ? Share::kFailed : Share::kPending,
          row->reason.empty() ? reason::kPluginsPending : row->reason, row->message);
    }
    return out;
  }

  void Count() {
    std::vector<WorkspaceShare> troubled;
    for (const api::Workspace* w : o_.matched) {
      if (w->meta.deletion_time) continue;
      WorkspaceShare share = ShareOf(*w);
      ++counts_.matched;
      ++(share.share == Share::kReady     ? counts_.ready
         : share.share == Share::kPending ? counts_.pending
         : share.share == Share::kFailed  ? counts_.failed
                                          : counts_.blocked);
      conflict_ = conflict_ || share.trouble.reason == reason::kConflict;
      if (share.trouble.reason == reason::kNotEntitled && not_entitled_.empty())
        not_entitled_ = share.trouble.message;
      if (share.share != Share::kReady) troubled.push_back(std::move(share));
    }
    std::sort(troubled.begin(), troubled.end(),
              [](const WorkspaceShare& a, const WorkspaceShare& b) {
                return a.share != b.share ? a.share > b.share : a.trouble.name < b.trouble.name;
              });
    for (size_t i = 0; i < troubled.size() && i < kMaxWorst; ++i)
      counts_.worst.push_back(std::move(troubled[i].trouble));
  }

  std::optional<api::ResolvedSource> Resolved() const {
    const ResolutionView& r = o_.resolution;
    const auto& before = o_.object.status.resolved;
    const std::string ref = uri_ ? uri_->ref : "";
    if (r.commit.empty())
      return before && before->ref == ref && !SourceChanged() ? before : std::nullopt;
    api::ResolvedSource out{ref, r.ref_kind, r.commit, r.digest, r.size_bytes, std::nullopt};
    if (before) {
      out.resolved_time = before->resolved_time;
      if (out == *before) return before;  // Resolved again to the same: nothing to write.
      out.resolved_time.reset();
    }
    out.resolved_time = std::chrono::floor<base::Seconds>(r.resolved_time.value_or(now_.wall));
    return out;
  }

  bool SourceChanged() const {
    return o_.object.status.observed_generation != o_.object.meta.generation;
  }

  Condition Accepted() const {
    Condition c{"Accepted", ConditionStatus::kFalse, 0, {}, "", ""};
    const auto refuse = [&](const char* why, std::string message) {
      c.reason = why;
      c.message = std::move(message);
      return c;
    };
    if (!uri_) return refuse(reason::kInvalidSource, uri_.error().message);
    if (!IsPluginName(name_))
      return refuse(
          reason::kInvalidName,
          fmt::format("plugin name `{}` cannot be a folder's name; set spec.pluginName", name_));
    if (spec_.workspace_selector)
      if (std::string why =
              api::SelectorProblem(*spec_.workspace_selector, "spec.workspaceSelector");
          !why.empty())
        return refuse(reason::kInvalidSelector, std::move(why));
    if (uri_->ref_kind == RefKind::kNone && uri_->scheme != SourceScheme::kLocal &&
        !policy_.allow_unpinned)
      return refuse(reason::kRefNotPinned,
                    "spec.source names no ref; add #tag:NAME or #sha:FULL, or let the "
                    "administrator allow unpinned sources");
    const std::string& manifest = o_.resolution.manifest_name;
    if (!manifest.empty() && manifest != name_)
      return refuse(
          reason::kNameMismatch,
          fmt::format("the plugin's manifest says name `{}`; set spec.pluginName to it", manifest));
    if (!not_entitled_.empty()) return refuse(reason::kNotEntitled, not_entitled_);
    c.status = ConditionStatus::kTrue;
    c.reason = reason::kAccepted;
    return c;
  }

  Condition SourceResolved() const {
    const ResolutionView& r = o_.resolution;
    Condition c{"SourceResolved", ConditionStatus::kUnknown, 0, {}, reason::kResolving, ""};
    if (r.state == ResolutionView::State::kFailed) {
      c.status = ConditionStatus::kFalse;
      c.reason = r.error && !r.error->reason.empty() ? r.error->reason : reason::kSourceUnavailable;
      c.message = r.error ? r.error->message : "";
    } else if (r.state != ResolutionView::State::kPending) {
      c.status = ConditionStatus::kTrue;
      c.reason = reason::kSourceResolved;
    } else if (const Condition* before = meta::FindCondition(o_.object.status.conditions, c.type);
               before != nullptr && !SourceChanged()) {
      return *before;  // A process that has just started does not unsay what was resolved.
    }
    return c;
  }

  Condition Conflict() const {
    Condition c{"Conflict", ConditionStatus::kFalse, 0, {}, reason::kNoConflict, ""};
    if (!conflict_) return c;
    c.status = ConditionStatus::kTrue;
    c.reason = reason::kConflict;
    for (const api::WorkspaceTrouble& t : counts_.worst)
      if (t.reason == reason::kConflict && c.message.empty())
        c.message = fmt::format("workspace {}: {}", t.name, t.message);
    return c;
  }

  std::string CountText() const {
    return fmt::format(
        "{} of {} matched workspaces ready, {} pending, {} failed, {} blocked; {} examined",
        counts_.ready, counts_.matched, counts_.pending, counts_.failed, counts_.blocked,
        o_.workspaces_examined);
  }

  std::string WorstText() const {
    if (counts_.worst.empty()) return CountText();
    const api::WorkspaceTrouble& t = counts_.worst.front();
    return fmt::format("{}; workspace {}: {}{}{}", CountText(), t.name, t.reason,
                       t.message.empty() ? "" : ": ", t.message);
  }

  std::vector<Condition> Conditions() {
    const Condition accepted = Accepted();
    const Condition resolved = SourceResolved();
    const Condition conflict = Conflict();
    WorkspaceDecision d;  // Only its three-condition vocabulary is used.
    const auto say = [&](ConditionStatus ready, bool reconciling, bool stalled, std::string why,
                         std::string message) {
      d.ready = ready;
      d.reconciling = reconciling;
      d.stalled = stalled;
      d.reason = std::move(why);
      d.message = std::move(message);
    };
    if (accepted.status == ConditionStatus::kFalse) {
      say(ConditionStatus::kFalse, false, true, accepted.reason, accepted.message);
    } else if (spec_.suspend) {
      say(ConditionStatus::kUnknown, false, false, reason::kSuspended,
          "spec.suspend is true: what is installed stays as it is");
    } else if (conflict_) {
      say(ConditionStatus::kFalse, false, true, conflict.reason, conflict.message);
    } else if (resolved.status == ConditionStatus::kFalse) {
      const bool human = o_.resolution.error && IsSlow(*o_.resolution.error);
      say(ConditionStatus::kFalse, !human, human, resolved.reason, resolved.message);
    } else if (counts_.matched == 0) {
      // Zero while workspaces exist is never taken for success (SC-8).
      say(o_.workspaces_examined > 0 ? ConditionStatus::kFalse : ConditionStatus::kUnknown, true,
          false, reason::kNoWorkspaceMatches,
          spec_.workspace_ref && o_.workspaces_examined == 0
              ? fmt::format("spec.workspaceRef: there is no Workspace {} in namespace {}",
                            spec_.workspace_ref->name, o_.object.meta.ns)
              : fmt::format("none of {} workspaces examined in namespace {} is selected",
                            o_.workspaces_examined, o_.object.meta.ns));
    } else if (counts_.blocked > 0) {
      say(ConditionStatus::kFalse, false, true, reason::kPluginsStalled, WorstText());
    } else if (counts_.failed > 0) {
      say(ConditionStatus::kFalse, true, false, reason::kPluginsFailed, WorstText());
    } else if (counts_.pending > 0) {
      say(ConditionStatus::kUnknown, true, false, reason::kPluginsPending, WorstText());
      on_its_way_ = true;
    } else {
      say(ConditionStatus::kTrue, false, false, reason::kReady, CountText());
    }
    std::vector<Condition> out = d.Conditions(0);
    out.resize(3);
    out.push_back(accepted);
    out.push_back(resolved);
    out.push_back(conflict);
    return out;
  }

  base::MonoTime NextCheck() const {
    const uint64_t seed = JitterSeed(o_.object.meta.uid, 3);
    base::Millis wait = Jittered(policy_.resync, policy_.resync_jitter, seed);
    if (spec_.update.policy != api::UpdatePolicy::kPin && !spec_.suspend)
      wait = std::min(wait, Jittered(base::Seconds(std::max(1, spec_.update.interval_seconds)),
                                     policy_.resync_jitter, seed));
    if (o_.resolution.next_attempt_time)
      wait =
          std::min(wait, std::max(base::Millis(1), *o_.resolution.next_attempt_time - now_.wall));
    return After(now_, wait);
  }

  const DeclaredPluginObservation& o_;
  const api::DeclaredPluginSpec& spec_;
  const Policy& policy_;
  const base::Now now_;
  const std::string name_;
  const base::Result<SourceUri> uri_;
  api::WorkspaceCounts counts_;
  bool conflict_ = false;
  bool on_its_way_ = false;
  std::string not_entitled_;
};

}  // namespace

DeclaredPluginSummary SummariseDeclaredPlugin(const DeclaredPluginObservation& observation,
                                              const Policy& policy, base::Now now) {
  return Summary(observation, policy, now).Run();
}

}  // namespace core
