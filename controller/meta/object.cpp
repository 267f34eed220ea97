#include "meta/object.hpp"

namespace meta {

const Condition* FindCondition(const std::vector<Condition>& conditions, std::string_view type) {
  for (const Condition& c : conditions)
    if (c.type == type) return &c;
  return nullptr;
}

std::vector<Condition> MergeConditions(const std::vector<Condition>& previous,
                                       std::vector<Condition> wanted, base::WallTime now) {
  for (Condition& c : wanted) {
    const Condition* before = FindCondition(previous, c.type);
    c.last_transition_time = before != nullptr && before->status == c.status
                                 ? before->last_transition_time
                                 : std::chrono::floor<base::Seconds>(now);
  }
  return wanted;
}

}  // namespace meta
