#include "core/declared_set.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/entitlement.hpp"
#include "core/reasons.hpp"

namespace core {
namespace {

struct Declaration {
  DesiredPlugin plugin;
  base::Status entitled;
  int rank = 0;  ///< Implicit management plugin, inline, DeclaredPlugin.
};

void Block(DesiredPlugin* plugin, std::string why, std::string message) {
  if (!plugin->blocked_reason.empty()) return;
  plugin->blocked_reason = std::move(why);
  plugin->blocked_message = std::move(message);
}

api::PluginOwner OwnerOf(const api::Workspace& w) { return {"Workspace", w.meta.name, w.meta.uid}; }

std::vector<Declaration> Collect(const api::Workspace& workspace,
                                 std::vector<const api::DeclaredPlugin*> declared,
                                 const Policy& policy) {
  std::vector<Declaration> all;
  const auto add = [&](DesiredPlugin plugin, int rank) {
    base::Status entitled =
        CheckEntitlement(workspace.spec.kind, plugin.name, plugin.source, "", policy);
    all.push_back({std::move(plugin), std::move(entitled), rank});
  };
  const PrivilegedPlugin* management = policy.Management();
  if (workspace.spec.kind == api::WorkspaceKind::kPlatform && management != nullptr) {
    DesiredPlugin plugin;
    plugin.name = management->name;
    plugin.source = management->source;
    plugin.owner = OwnerOf(workspace);
    add(std::move(plugin), 0);
  }
  for (const api::InlinePlugin& inline_plugin : workspace.spec.plugins) {
    DesiredPlugin plugin;
    plugin.name = inline_plugin.name;
    plugin.source = inline_plugin.source;
    plugin.owner = OwnerOf(workspace);
    add(std::move(plugin), 1);
  }
  std::sort(declared.begin(), declared.end(),
            [](const auto* a, const auto* b) { return a->meta.name < b->meta.name; });
  for (const api::DeclaredPlugin* d : declared) {
    if (!Selects(*d, workspace)) continue;
    DesiredPlugin plugin;
    plugin.name = PluginNameOf(*d);
    plugin.source = d->spec.source;
    plugin.owner = {"DeclaredPlugin", d->meta.name, d->meta.uid};
    plugin.source_secret_ref = d->spec.source_secret_ref;
    plugin.update = d->spec.update.policy;
    plugin.interval = base::Seconds(d->spec.update.interval_seconds);
    plugin.deletion_policy = d->spec.deletion_policy;
    plugin.depends_on = d->spec.depends_on;
    plugin.suspended = d->spec.suspend;
    add(std::move(plugin), 2);
  }
  return all;
}

void Validate(DesiredPlugin* plugin, const Policy& policy) {
  auto uri = ParseSourceUri(plugin->source);
  if (!IsPluginName(plugin->name))
    Block(plugin, reason::kInvalidName,
          fmt::format("plugin name `{}` must be 1 to 63 letters, digits, `.`, `_` and `-`, with a "
                      "letter or digit at both ends; set {}",
                      plugin->name, NameField(*plugin)));
  if (!uri) {
    Block(plugin, reason::kInvalidSource, uri.error().message);
    return;
  }
  plugin->uri = *uri;
  const bool floating = uri->ref_kind == RefKind::kNone && uri->scheme != SourceScheme::kLocal;
  if (floating && !policy.allow_unpinned)
    Block(plugin, reason::kRefNotPinned,
          fmt::format("source `{}` names no ref; add #tag:NAME or #sha:FULL (or @sha256:... for "
                      "oci), or let the "
                      "administrator allow unpinned sources",
                      plugin->source));
}

void Join(DesiredPlugin* into, const DesiredPlugin& other) {
  into->declarers.push_back(other.owner);
  into->interval = std::min(into->interval, other.interval);
  for (const std::string& name : other.depends_on)
    if (std::find(into->depends_on.begin(), into->depends_on.end(), name) == into->depends_on.end())
      into->depends_on.push_back(name);
  if (!into->source_secret_ref) into->source_secret_ref = other.source_secret_ref;
  if (into->source != other.source)
    Block(into, reason::kConflict,
          fmt::format("plugin `{}` is declared as `{}` by {}/{} and as `{}` by {}/{}; make them "
                      "equal or remove one",
                      into->name, into->source, into->owner.kind, into->owner.name, other.source,
                      other.owner.kind, other.owner.name));
}

/// All declarations of one name become one plugin: those that may not be are set aside while
/// another one may.
DesiredPlugin Merge(const std::vector<const Declaration*>& group, DeclaredSet* set) {
  const auto entitled = [](const Declaration* d) { return d->entitled.has_value(); };
  const bool any_entitled = std::any_of(group.begin(), group.end(), entitled);
  std::vector<const Declaration*> kept;
  for (const Declaration* d : group) {
    if (any_entitled && !d->entitled)
      set->rejected.push_back({d->plugin.name, d->plugin.source, d->plugin.owner,
                               reason::kNotEntitled, d->entitled.error().message});
    else
      kept.push_back(d);
  }
  // A suspended declaration gives way to an active one.
  const bool all_suspended = std::all_of(kept.begin(), kept.end(),
                                         [](const Declaration* d) { return d->plugin.suspended; });
  if (!all_suspended) std::erase_if(kept, [](const Declaration* d) { return d->plugin.suspended; });
  DesiredPlugin plugin = kept.front()->plugin;
  plugin.management = kept.front()->rank == 0;
  plugin.declarers = {plugin.owner};
  if (!kept.front()->entitled)
    Block(&plugin, reason::kNotEntitled, kept.front()->entitled.error().message);
  for (size_t i = 1; i < kept.size(); ++i) Join(&plugin, kept[i]->plugin);
  return plugin;
}

/// One DeclaredPlugin that names nothing (its source is none) or takes an overlong name from its
/// source must not spoil the status of every workspace that it selects.
bool CanBeRow(const std::string& name) {
  return !name.empty() && name.size() <= api::kMaxPluginNameBytes;
}

bool Installed(const api::Workspace& workspace, const std::string& name) {
  return std::any_of(workspace.status.plugins.begin(), workspace.status.plugins.end(),
                     [&](const api::PluginRow& row) { return row.name == name && row.origin; });
}

/// Installed ones stay; then by name. Rows that wait for their removal count, too.
void Limit(const api::Workspace& workspace, DeclaredSet* set) {
  size_t leaving = 0;
  for (const api::PluginRow& row : workspace.status.plugins)
    if (row.origin && set->Find(row.name) == nullptr) ++leaving;
  const size_t room = api::kMaxPlugins - std::min(leaving, api::kMaxPlugins);
  if (set->plugins.size() <= room) return;
  const auto weight = [&](const DesiredPlugin& p) {
    return p.management ? 0 : Installed(workspace, p.name) ? 1 : 2;
  };
  std::stable_sort(set->plugins.begin(), set->plugins.end(),
                   [&](const auto& a, const auto& b) { return weight(a) < weight(b); });
  for (size_t i = room; i < set->plugins.size(); ++i) {
    const DesiredPlugin& p = set->plugins[i];
    set->rejected.push_back(
        {p.name, p.source, p.owner, reason::kTooManyPlugins,
         fmt::format("a workspace has at most {} plugins; remove declarations", api::kMaxPlugins)});
  }
  set->plugins.resize(room);
  std::sort(set->plugins.begin(), set->plugins.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
}

bool Reaches(const DeclaredSet& set, const std::string& from, const std::string& to,
             std::set<std::string>* seen) {
  const DesiredPlugin* plugin = set.Find(from);
  if (plugin == nullptr || !seen->insert(from).second) return false;
  return std::any_of(
      plugin->depends_on.begin(), plugin->depends_on.end(),
      [&](const std::string& next) { return next == to || Reaches(set, next, to, seen); });
}

void CheckDependencies(DeclaredSet* set) {
  for (DesiredPlugin& plugin : set->plugins) {
    for (const std::string& name : plugin.depends_on)
      if (set->Find(name) == nullptr)
        Block(&plugin, reason::kMissingDependency,
              fmt::format("plugin `{}` depends on `{}`, which is not declared for this workspace; "
                          "declare it or remove it from "
                          "spec.dependsOn",
                          plugin.name, name));
    std::set<std::string> seen;
    if (Reaches(*set, plugin.name, plugin.name, &seen))
      Block(&plugin, reason::kDependencyCycle,
            fmt::format("plugin `{}` depends on itself, through spec.dependsOn of its dependencies",
                        plugin.name));
  }
}

/// Dependencies first; what waits on a cycle goes last, in the order of names.
void Order(DeclaredSet* set) {
  std::vector<DesiredPlugin> waiting = std::move(set->plugins);
  std::stable_sort(waiting.begin(), waiting.end(),
                   [](const auto& a, const auto& b) { return a.management > b.management; });
  set->plugins.clear();
  std::set<std::string> undone;
  for (const DesiredPlugin& p : waiting) undone.insert(p.name);
  const auto free = [&](const DesiredPlugin& p) {
    return std::none_of(p.depends_on.begin(), p.depends_on.end(),
                        [&](const std::string& d) { return undone.contains(d); });
  };
  while (!waiting.empty()) {
    auto next = std::find_if(waiting.begin(), waiting.end(), free);
    if (next == waiting.end()) next = waiting.begin();
    undone.erase(next->name);
    set->plugins.push_back(std::move(*next));
    waiting.erase(next);
  }
}

void FinishSet(const api::Workspace& workspace, DeclaredSet* set) {
  for (const DesiredPlugin& p : set->plugins) {
    if (p.blocked_reason == reason::kConflict) set->conflicts.push_back(p.name);
    set->probe_names.push_back(p.name);
  }
  for (const api::PluginRow& row : workspace.status.plugins) set->probe_names.push_back(row.name);
  std::sort(set->conflicts.begin(), set->conflicts.end());
  std::sort(set->probe_names.begin(), set->probe_names.end());
  set->probe_names.erase(std::unique(set->probe_names.begin(), set->probe_names.end()),
                         set->probe_names.end());
  // A name that cannot be a folder is not asked for.
  std::erase_if(set->probe_names, [](const std::string& name) { return !IsPluginName(name); });
}

}  // namespace

const DesiredPlugin* DeclaredSet::Find(const std::string& name) const {
  for (const DesiredPlugin& plugin : plugins)
    if (plugin.name == name) return &plugin;
  return nullptr;
}

bool IsPluginName(std::string_view name) {
  const auto alnum = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  if (name.empty() || name.size() > 63 || !alnum(name.front()) || !alnum(name.back())) return false;
  return std::all_of(name.begin(), name.end(),
                     [&](char c) { return alnum(c) || c == '.' || c == '_' || c == '-'; });
}

bool Selects(const api::DeclaredPlugin& declared, const api::Workspace& workspace) {
  if (declared.meta.ns != workspace.meta.ns || declared.meta.deletion_time) return false;
  if (declared.spec.workspace_ref) return declared.spec.workspace_ref->name == workspace.meta.name;
  return declared.spec.workspace_selector &&
         api::Matches(*declared.spec.workspace_selector, workspace.meta.labels);
}

std::string NameField(const DesiredPlugin& plugin) {
  if (plugin.management) return "its name in privilegedPlugins of the operator's settings";
  return plugin.owner.kind == "Workspace" ? "its name in spec.plugins" : "spec.pluginName";
}

std::string PluginNameOf(const api::DeclaredPlugin& declared) {
  if (!declared.spec.plugin_name.empty()) return declared.spec.plugin_name;
  const auto uri = ParseSourceUri(declared.spec.source);
  return uri ? uri->DefaultPluginName() : std::string();
}

DeclaredSet BuildDeclaredSet(const api::Workspace& workspace,
                             const std::vector<const api::DeclaredPlugin*>& declared,
                             const Policy& policy) {
  DeclaredSet set;
  const std::vector<Declaration> all = Collect(workspace, declared, policy);
  std::map<std::string, std::vector<const Declaration*>> groups;
  for (const Declaration& d : all)
    if (CanBeRow(d.plugin.name))
      groups[d.plugin.name].push_back(&d);
    else
      set.rejected.push_back({d.plugin.name, d.plugin.source, d.plugin.owner, reason::kInvalidName,
                              "no plugin has such a name; set spec.pluginName"});
  for (const auto& [name, group] : groups) {
    set.plugins.push_back(Merge(group, &set));
    Validate(&set.plugins.back(), policy);
  }
  Limit(workspace, &set);
  CheckDependencies(&set);
  Order(&set);
  FinishSet(workspace, &set);
  return set;
}

}  // namespace core
