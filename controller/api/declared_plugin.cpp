#include "api/declared_plugin.hpp"

#include <algorithm>

namespace api {
namespace {

bool Holds(const LabelRequirement& r, const std::map<std::string, std::string>& labels) {
  const auto label = labels.find(r.key);
  const bool present = label != labels.end();
  const bool listed =
      present && std::find(r.values.begin(), r.values.end(), label->second) != r.values.end();
  if (r.op == "In") return listed;
  if (r.op == "NotIn") return !listed;
  if (r.op == "Exists") return present;
  if (r.op == "DoesNotExist") return !present;
  return false;
}

}  // namespace

bool Matches(const LabelSelector& selector, const std::map<std::string, std::string>& labels) {
  for (const auto& [key, value] : selector.match_labels) {
    const auto label = labels.find(key);
    if (label == labels.end() || label->second != value) return false;
  }
  return std::all_of(selector.match_expressions.begin(), selector.match_expressions.end(),
                     [&](const LabelRequirement& r) { return Holds(r, labels); });
}

}  // namespace api
