#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/declared_set.hpp"
#include "core/reasons.hpp"
#include "reconcile/simulation/machine.hpp"
#include "reconcile/simulation/user.hpp"

namespace simulation {

/// What must hold once nothing disturbs any more, written down without the product's own planning:
/// what is declared is on the box and loaded, what is not declared and had a row is gone, the rows
/// say what the box holds.
class Convergence {
 public:
  using Machines = std::map<std::string, std::unique_ptr<Machine>>;

  Convergence(ApiStore& store, const Repositories& repositories, const Machines& machines)
      : store_(store), repositories_(repositories), machines_(machines) {}

  /// What a plugin's update policy other than Track holds on to, by workspace and plugin: digests.
  std::map<std::string, std::string> Held() {
    std::map<std::string, std::string> held;
    for (const auto& [name, machine] : machines_) {
      const Json* object = store_.Find(WorkspaceRef(name));
      if (object == nullptr) continue;
      for (const auto& [plugin, wanted] : Declared(name, *object))
        if (!wanted.follows) held[name + "/" + plugin] = machine->DigestOf(plugin);
    }
    return held;
  }

  /// Empty: all is well.
  std::vector<std::string> Missing() {
    missing_.clear();
    for (const auto& [name, machine] : machines_)
      if (store_.Find(WorkspaceRef(name)) != nullptr) LookAtWorkspace(name);
    for (const meta::ObjectKey& key : store_.Keys("declaredplugins")) LookAtPlugin(key.name);
    return missing_;
  }

 private:
  void Miss(std::string what) { missing_.push_back(std::move(what)); }

  /// What is right for a plugin: the bytes of its source; or whatever was there first, if it is not
  /// to follow its source.
  struct Wanted {
    std::string digest;
    bool follows;
    bool Accepts(const std::string& found) const {
      return follows ? found == digest : !found.empty();
    }
  };

  static bool Follows(const Json& plugin) {
    const std::string policy =
        codec::GetString(codec::GetMember(plugin["spec"], "update"), "policy");
    return policy.empty() || policy == "Track";
  }
  std::optional<Wanted> WantedOf(const std::string& name, const std::string& source,
                                 bool follows) const {
    const auto uri = core::ParseSourceUri(source);
    if (!uri) return std::nullopt;
    return Wanted{Repositories::Digest(name, repositories_.RevisionOf(*uri)), follows};
  }

  std::map<std::string, Wanted> Declared(const std::string& workspace, const Json& object) {
    std::map<std::string, Wanted> wanted;
    const auto want = [&](const std::string& name, const std::string& source, bool follows = true) {
      if (const auto right = WantedOf(name, source, follows)) wanted.insert_or_assign(name, *right);
    };
    if (workspace == "plat") want("mgmt", Repositories::TaggedUri("mgmt"));
    for (const Json& plugin : codec::GetMember(object["spec"], "plugins"))
      want(plugin["name"], plugin["source"]);
    store_.Each("declaredplugins", [&](const Json& plugin) {
      const Json& spec = plugin["spec"];
      const Json& ref = codec::GetMember(spec, "workspaceRef");
      if (!ref.is_object() || ref["name"] == workspace) {
        const auto uri = core::ParseSourceUri(codec::GetString(spec, "source"));
        if (uri) want(uri->DefaultPluginName(), uri->text, Follows(plugin));
      }
    });
    return wanted;
  }

  void LookAtWorkspace(const std::string& name) {
    const Json& object = *store_.Find(WorkspaceRef(name));
    if (object["metadata"].contains("deletionTimestamp"))
      return Miss(name + " is still being deleted");
    const auto decoded = codec::DecodeWorkspace(codec::Dump(object));
    if (!decoded) return Miss(name + " cannot be read: " + decoded.error().message);
    const api::WorkspaceStatus& status = decoded->status;
    const auto* ready = meta::FindCondition(status.conditions, "Ready");
    if (ready == nullptr || ready->status != meta::ConditionStatus::kTrue)
      Miss(fmt::format("{} is not ready: {} {}", name, ready == nullptr ? "" : ready->reason,
                       ready == nullptr ? "" : ready->message));
    if (status.observed_generation != decoded->meta.generation)
      Miss(name + ": its generation was not observed");
    if (status.pending_restart) Miss(name + " waits for a restart");
    const auto wanted = Declared(name, object);
    LookAtBox(name, wanted);
    LookAtRows(name, wanted, status);
  }
  void LookAtBox(const std::string& name, const std::map<std::string, Wanted>& wanted) {
    const Machine& machine = *machines_.at(name);
    for (const auto& [plugin, right] : wanted) {
      if (!right.Accepts(machine.DigestOf(plugin)))
        Miss(fmt::format("{}: {} is not on the box as declared", name, plugin));
      if (machine.LoadedDigest(plugin) != machine.DigestOf(plugin) &&
          !Repositories::ReloadNone(plugin))
        Miss(fmt::format("{}: {} is not loaded", name, plugin));
    }
    for (const std::string& plugin : machine.Plugins())
      if (machine.HasReceipt(plugin) && !wanted.contains(plugin) && ToBeRemoved(name, plugin))
        Miss(fmt::format("{}: {} is no longer declared and still there", name, plugin));
    if (machine.HasTombstones()) Miss(name + ": removals are remembered for ever");
    if (!machine.Has(Machine::kStranger)) Miss(name + ": somebody else's plugin is gone");
  }
  void LookAtRows(const std::string& name, const std::map<std::string, Wanted>& wanted,
                  const api::WorkspaceStatus& status) {
    std::set<std::string> rows;
    for (const api::PluginRow& row : status.plugins) {
      rows.insert(row.name);
      if (!wanted.contains(row.name)) {
        Miss(fmt::format("{}: {} has a row and is not declared", name, row.name));
        continue;
      }
      const Wanted& right = wanted.at(row.name);
      const bool newer = !right.follows && row.reason == core::reason::kUpdateAvailable;
      if (!right.Accepts(row.digest) || row.digest != machines_.at(name)->DigestOf(row.name) ||
          !row.loaded || !row.origin || (row.reason != core::reason::kLoaded && !newer))
        Miss(fmt::format("{}: the row of {} says {} {}", name, row.name, row.reason, row.digest));
    }
    for (const api::PluginRow& row : status.plugins)
      if (!row.approved_digest.empty())
        Miss(fmt::format("{}: what was asked for of {} has not come", name, row.name));
    for (const auto& [plugin, right] : wanted)
      if (!rows.contains(plugin)) Miss(fmt::format("{}: {} has no row", name, plugin));
  }
  void LookAtPlugin(const std::string& name) {
    const auto decoded = codec::DecodeDeclaredPlugin(codec::Dump(*store_.Find(PluginRef(name))));
    if (!decoded) return Miss(name + " cannot be read: " + decoded.error().message);
    const auto uri = core::ParseSourceUri(decoded->spec.source);
    // Of what is pinned nobody asks what is new.
    const bool asks = decoded->spec.update.policy != api::UpdatePolicy::kPin;
    const auto right = WantedOf(uri->DefaultPluginName(), uri->text, asks);
    if (!decoded->status.resolved || !right->Accepts(decoded->status.resolved->digest))
      Miss(name + ": its status does not say what its source is now");
    const auto* ready = meta::FindCondition(decoded->status.conditions, "Ready");
    const bool matches =
        decoded->spec.workspace_ref
            ? store_.Find(WorkspaceRef(decoded->spec.workspace_ref->name)) != nullptr
            : !store_.Keys("workspaces").empty();
    if (matches && (ready == nullptr || ready->status != meta::ConditionStatus::kTrue))
      Miss(fmt::format("{} is not ready: {} {}", name, ready == nullptr ? "" : ready->reason,
                       ready == nullptr ? "" : ready->message));
  }

  /// In this life of the workspace it had a row, of which the last one did not say Orphan.
  bool ToBeRemoved(const std::string& workspace, const std::string& plugin) {
    for (; read_ < store_.Log("workspaces").size(); ++read_) {
      const auto seen = codec::DecodeWorkspace(store_.Log("workspaces")[read_].bytes);
      if (!seen) continue;
      for (const api::PluginRow& row : seen->status.plugins)
        if (row.origin)
          rows_[seen->meta.uid + "/" + row.name] =
              row.deletion_policy == api::DeletionPolicy::kRemove;
    }
    const Json& meta = (*store_.Find(WorkspaceRef(workspace)))["metadata"];
    const auto row = rows_.find(codec::GetString(meta, "uid") + "/" + plugin);
    return row != rows_.end() && row->second;
  }

  ApiStore& store_;
  const Repositories& repositories_;
  const Machines& machines_;
  std::vector<std::string> missing_;
  size_t read_ = 0;  ///< Of the log of workspaces.
  std::map<std::string, bool>
      rows_;  ///< uid/plugin of every row that there ever was: is it Remove?
};

}  // namespace simulation
