#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/declared_plugin.hpp"
#include "api/workspace.hpp"
#include "base/result.hpp"
#include "core/policy.hpp"
#include "core/source_uri.hpp"

namespace core {

/// What is known of a source at this moment; looked up by the caller, by source text (and namespace
/// where a Secret is used).
struct ResolutionView {
  enum class State {
    kPending,   ///< Not resolved yet.
    kResolved,  ///< `commit` is known, its bytes are not fetched: `digest` is empty.
    kFetched,   ///< The verified tar is in the artifact store under `digest`.
    kFailed,    ///< `error` says why (its code decides whether retrying can mend it). commit and
                ///< digest may hold the last good ones.
  };
  State state = State::kPending;
  std::string ref_kind;
  std::string commit;
  std::string digest;
  int64_t size_bytes = 0;
  std::string manifest_name;  ///< The plugin's own name, once fetched; another than declared is
                              ///< NameMismatch. Empty: not known.
  bool reload_none = false;   ///< Its manifest says `reload: none`: no restart is planned for it.
  std::optional<base::WallTime> resolved_time;
  std::optional<base::Error> error;
  int32_t attempts = 0;
  std::optional<base::WallTime> next_attempt_time;
};

/// One plugin of the declared set.
struct DesiredPlugin {
  std::string name;
  std::string source;
  std::optional<SourceUri> uri;  ///< Absent: InvalidSource.
  api::PluginOwner owner;  ///< First declarer: the Workspace itself, then DeclaredPlugins by name.
  std::vector<api::PluginOwner> declarers;
  std::optional<api::LocalRef> source_secret_ref;
  api::UpdatePolicy update = api::UpdatePolicy::kTrack;
  base::Seconds interval{3600};  ///< Between two looks at the source: its declarers' shortest.
  api::DeletionPolicy deletion_policy = api::DeletionPolicy::kRemove;
  std::vector<std::string> depends_on;
  bool management = false;  ///< The implicit (or identical explicit) management plugin.
  bool suspended =
      false;  ///< All its declarers are suspended: what is there stays, nothing is changed.
  std::string blocked_reason;   ///< Not empty: nothing is done for it (what is installed stays):
                                ///< Conflict, NotEntitled,
  std::string blocked_message;  ///< InvalidSource, InvalidName, MissingDependency, DependencyCycle.
  ResolutionView resolution;    ///< Filled by the caller after BuildDeclaredSet.
  /// What is known of ToPutBack(), where its bytes are not at hand. Filled after the probe.
  std::optional<ResolutionView> put_back;
};

/// A declaration that is not part of the set (a rival of the management plugin, one over the limit,
/// or one without a name that a tracking row may have).
struct RejectedDeclaration {
  std::string name;
  std::string source;
  api::PluginOwner owner;
  std::string reason;  ///< NotEntitled, TooManyPlugins or InvalidName.
  std::string message;
};

struct DeclaredSet {
  std::vector<DesiredPlugin> plugins;  ///< Dependencies first, the management plugin before
                                       ///< everything, else by name. At most api::kMaxPlugins.
  std::vector<RejectedDeclaration> rejected;
  std::vector<std::string> conflicts;  ///< Names in conflict, sorted.
  /// The names to probe: those declared and those that have tracking rows; sorted, unique.
  std::vector<std::string> probe_names;
  const DesiredPlugin* Find(const std::string& name) const;
};

/// True if the DeclaredPlugin is for that workspace (same namespace; by name or by labels) and not
/// being deleted.
bool Selects(const api::DeclaredPlugin& declared, const api::Workspace& workspace);

/// spec.pluginName, else the last segment of the source's path; empty for an invalid source without
/// a name.
std::string PluginNameOf(const api::DeclaredPlugin& declared);

/// Where its first declarer has said the plugin's name, for people.
std::string NameField(const DesiredPlugin& plugin);

/// A plugin's name as a folder: 1 to 63 letters, digits, `.`, `_`, `-`, with a letter or digit at
/// both ends.
bool IsPluginName(std::string_view name);

/// Inline plugins, the DeclaredPlugins among `declared` that select the workspace (others are
/// ignored), and the implicit management plugin of a Platform, as one set. Tracking rows of
/// workspace.status decide who stays when there are too many: installed ones do.
DeclaredSet BuildDeclaredSet(const api::Workspace& workspace,
                             const std::vector<const api::DeclaredPlugin*>& declared,
                             const Policy& policy);

}  // namespace core
