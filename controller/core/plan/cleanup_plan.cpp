#include <fmt/format.h>

#include <algorithm>

#include "core/plan/plugin_plan.hpp"
#include "core/requeue.hpp"

namespace core {

CleanupPlan PlanCleanup(const api::Workspace& workspace, const CleanupFacts& facts,
                        const Policy& policy, base::Now now) {
  CleanupPlan plan;
  // As long as it has been tried already: an exec that failed once costs seconds, not minutes.
  const base::Millis tried = facts.first_tried
                                 ? std::chrono::ceil<base::Millis>(now.mono - *facts.first_tried)
                                 : base::Millis(0);
  plan.next_check = After(now, std::clamp(tried, policy.backoff_base, policy.backoff_max));
  for (const api::PluginRow& row : workspace.status.plugins)
    if (row.origin && row.deletion_policy == api::DeletionPolicy::kRemove)
      plan.remove.push_back(row.name);
  if (plan.remove.empty() || facts.removed) {
    plan.remove.clear();
    plan.release = true;
    return plan;
  }
  const base::Millis allowed = facts.namespace_terminating || facts.box_gone
                                   ? policy.deletion_deadline_terminating_ns
                                   : policy.deletion_deadline;
  const base::WallTime begun = workspace.meta.deletion_time.value_or(now.wall);
  // A stamp from the future (a clock that went back) waits once, not for years.
  base::Millis left = std::min(begun + allowed - now.wall, allowed);
  if (facts.first_tried)
    left = std::min(left, std::chrono::ceil<base::Millis>(*facts.first_tried + allowed - now.mono));
  if (left <= base::Millis(0) && facts.first_tried) {
    plan.release = true;
    plan.warning =
        fmt::format("{} plugins may be left in the box: it {} within {} s", plan.remove.size(),
                    facts.box_gone ? "does not exist and did not come back" : "did not answer",
                    std::chrono::duration_cast<base::Seconds>(allowed).count());
    plan.remove.clear();
    return plan;
  }
  plan.next_check = std::min(plan.next_check, After(now, left));
  return plan;
}

}  // namespace core
