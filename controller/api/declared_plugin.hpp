#pragma once

#include "api/workspace.hpp"

/// DeclaredPlugin (declaredplugins.molecule.ai/v1alpha1) as plain structs; see workspace.hpp for
/// the conventions.
namespace api {

enum class UpdatePolicy { kTrack, kPin, kManual };

struct LabelRequirement {
  std::string key;
  std::string op;  ///< Wire name operator: In, NotIn, Exists, DoesNotExist.
  std::vector<std::string> values;
  bool operator==(const LabelRequirement&) const = default;
};
struct LabelSelector {
  std::map<std::string, std::string> match_labels;
  std::vector<LabelRequirement> match_expressions;
  bool operator==(const LabelSelector&) const = default;
};
/// metav1.LabelSelector semantics: all must hold; an empty selector matches everything.
bool Matches(const LabelSelector& selector, const std::map<std::string, std::string>& labels);
/// What a label selector may not say, as the API server would of one of its own: a key that is no
/// qualified name, a value that no label can have, an operator or a number of values that do not
/// go together. Names the field beneath `field` and the remedy; empty: nothing is wrong.
std::string SelectorProblem(const LabelSelector& selector, const std::string& field);

struct UpdateSpec {
  UpdatePolicy policy = UpdatePolicy::kTrack;
  int32_t interval_seconds = 3600;
  bool operator==(const UpdateSpec&) const = default;
};
struct DeclaredPluginSpec {
  std::optional<LocalRef> workspace_ref;
  std::optional<LabelSelector> workspace_selector;
  std::string plugin_name;
  std::string source;
  std::optional<LocalRef> source_secret_ref;
  UpdateSpec update;
  std::vector<std::string> depends_on;
  DeletionPolicy deletion_policy = DeletionPolicy::kRemove;
  bool suspend = false;
  bool operator==(const DeclaredPluginSpec&) const = default;
};

struct ResolvedSource {
  std::string ref;       ///< As requested.
  std::string ref_kind;  ///< Tag, Branch, Commit, Digest, Content.
  std::string commit;
  std::string digest;  ///< Of the canonical tar, once fetched.
  int64_t size_bytes = 0;
  std::optional<base::WallTime> resolved_time;
  bool operator==(const ResolvedSource&) const = default;
};
struct WorkspaceTrouble {
  std::string name;
  std::string reason;
  std::string message;
  bool operator==(const WorkspaceTrouble&) const = default;
};
struct WorkspaceCounts {
  int32_t matched = 0, ready = 0, pending = 0, failed = 0, blocked = 0;
  std::vector<WorkspaceTrouble> worst;  ///< At most 10.
  bool operator==(const WorkspaceCounts&) const = default;
};
struct DeclaredPluginStatus {
  std::vector<meta::Condition> conditions;
  int64_t observed_generation = 0;
  std::optional<ResolvedSource> resolved;
  std::optional<WorkspaceCounts> workspaces;
  std::string last_handled_reconcile_at;
  bool operator==(const DeclaredPluginStatus&) const = default;
};
struct DeclaredPlugin {
  meta::ObjectMeta meta;
  DeclaredPluginSpec spec;
  DeclaredPluginStatus status;
  bool operator==(const DeclaredPlugin&) const = default;
};

}  // namespace api
