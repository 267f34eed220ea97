#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"

namespace meta {

/// Namespace and name: what a work queue and a cache are keyed by. Cluster-scoped objects have an
/// empty namespace.
struct ObjectKey {
  std::string ns;
  std::string name;
  auto operator<=>(const ObjectKey&) const = default;
  std::string Text() const { return ns.empty() ? name : ns + "/" + name; }
};

struct OwnerRef {
  std::string api_version;
  std::string kind;
  std::string name;
  std::string uid;
  bool controller = false;
  bool block_owner_deletion = false;
  auto operator<=>(const OwnerRef&) const = default;
};

/// The parts of metav1.ObjectMeta that controllers read. managedFields are never materialised.
struct ObjectMeta {
  std::string ns;
  std::string name;
  std::string uid;
  std::string resource_version;  ///< Opaque; see ComparableVersion in runtime.
  int64_t generation = 0;
  std::optional<base::WallTime> creation_time;
  std::optional<base::WallTime> deletion_time;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> annotations;
  std::vector<std::string> finalizers;
  std::vector<OwnerRef> owners;
  bool operator==(const ObjectMeta&) const = default;
  ObjectKey Key() const { return {ns, name}; }
};

enum class ConditionStatus { kTrue, kFalse, kUnknown };

constexpr const char* ConditionStatusName(ConditionStatus status) {
  return status == ConditionStatus::kTrue    ? "True"
         : status == ConditionStatus::kFalse ? "False"
                                             : "Unknown";
}

/// metav1.Condition. `reason` is CamelCase and never empty; `message` at most 32768 bytes by the
/// schema, 1024 by our writers.
struct Condition {
  std::string type;
  ConditionStatus status = ConditionStatus::kUnknown;
  int64_t observed_generation = 0;
  base::WallTime last_transition_time{};
  std::string reason;
  std::string message;
  bool operator==(const Condition&) const = default;
};

/// The condition of that type, or null.
const Condition* FindCondition(const std::vector<Condition>& conditions, std::string_view type);

/// Merges `wanted` into `previous`: lastTransitionTime is kept where the status did not flip, else
/// `now` (whole seconds); the order is that of `wanted`; conditions not wanted are dropped.
std::vector<Condition> MergeConditions(const std::vector<Condition>& previous,
                                       std::vector<Condition> wanted, base::WallTime now);

}  // namespace meta

template <>
struct std::hash<meta::ObjectKey> {
  size_t operator()(const meta::ObjectKey& key) const noexcept {
    return std::hash<std::string>{}(key.ns) * 1000003u ^ std::hash<std::string>{}(key.name);
  }
};
