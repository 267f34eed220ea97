#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/base64.hpp"
#include "codec/resources.hpp"
#include "reconcile/simulation/api_store.hpp"
#include "reconcile/simulation/sources.hpp"

namespace simulation {

inline constexpr char kNamespace[] = "team";

/// Of the private repository.
inline constexpr char kSecret[] = "git-credentials";

inline kube::ObjectRef WorkspaceRef(const std::string& name) {
  return {kube::kWorkspaces, kNamespace, name};
}
inline kube::ObjectRef PluginRef(const std::string& name) {
  return {kube::kDeclaredPlugins, kNamespace, name};
}

/// Somebody with kubectl: declares, edits and removes, without regard to what is going on.
class User {
 public:
  User(ApiStore& store, Repositories& repositories, Dice& dice, Trace& trace)
      : store_(store), repositories_(repositories), dice_(dice), trace_(trace) {
    for (const char* name : {"dir", "pod", "plat", "ext"})
      if (dice_.Chance(500)) workspaces_.push_back(name);
    if (workspaces_.empty()) workspaces_.push_back("dir");
  }

  /// What this run has: a Directory box (restarted through its agent), a Pod and a Platform
  /// workspace (restarted at once), an External box (its agent pulls).
  const std::vector<std::string>& Workspaces() const { return workspaces_; }

  /// The world before the operator: all workspaces, and some declarations.
  void Begin() {
    store_.Create({kube::kNamespaces, ""}, {{"metadata", {{"name", kNamespace}}}}).has_value();
    KeepSecret();
    for (const std::string& name : workspaces_) Make(name);
    for (int i = 0; i < 5; ++i) ToggleDeclaration();
    if (dice_.Chance(500)) ToggleCommon();
  }

  /// One edit.
  void Act() {
    switch (dice_.Upto(18)) {
      case 0:
      case 1:
      case 2:
        return ToggleDeclaration();
      case 3:
        return ToggleCommon();
      case 4:
      case 5:
        return ToggleInline();
      case 6:
        return ToggleTag();
      case 7:
        return Annotate(api::kReconcileRequestedAnnotation);
      case 8:
        return Annotate(api::kRestartRequestedAnnotation);
      case 9:
        return ToggleSuspended();
      case 10:
        return TogglePolicy();
      case 11:
        return ToggleRival();
      case 12:
        return Publish();
      case 13:
        return ToggleUpdate();
      case 14:
        return ToggleDeletion();
      case 15:
        return SpoilSecret();
      case 16:
        return KeepSecret();
      default:
        return dice_.Chance(400) ? ToggleWorkspace() : Publish();
    }
  }

  /// Whoever has said Manual looks in from time to time, and allows the restart of what is not
  /// ready. True: an edit was made.
  bool AllowRestart(const std::string& workspace, base::WallTime now) {
    const Json* object = store_.Find(WorkspaceRef(workspace));
    if (object == nullptr || !IsManual(*object)) return false;
    for (const Json& condition :
         codec::GetMember(codec::GetMember(*object, "status"), "conditions"))
      if (condition["type"] == "Ready" && condition["status"] == "True") return false;
    Allow(workspace, base::FormatTime(now));
    return true;
  }
  /// Whoever reads that what was installed cannot be had any more says what the message asks for.
  void TakeWhatThereIs(const std::string& workspace, base::WallTime now) {
    const Json* object = store_.Find(WorkspaceRef(workspace));
    if (object == nullptr) return;
    for (const Json& row : codec::GetMember(codec::GetMember(*object, "status"), "plugins")) {
      if (codec::GetString(row, "reason") != "RevisionGone") continue;
      return Edit(
          WorkspaceRef(workspace),
          {{"metadata",
            {{"annotations", {{"molecule.ai/reconcile-requested-at", base::FormatTime(now)}}}}}});
    }
  }
  /// Its restarts were Manual from the beginning, and nobody has ever allowed one.
  bool NeverAllowed(const std::string& workspace) const {
    return never_allowed_.contains(workspace);
  }

  /// Something new of everything.
  void PublishAll() {
    for (const char* plugin : {"alpha", "beta", "skill", "common"})
      Publish(plugin, repositories_.Revision(plugin) == 'd' ? 'a' : 'd');
  }

  /// Takes back what would keep a workspace from ever being ready.
  void MakePeace() {
    trace_.Step("the user makes peace");
    KeepSecret();
    for (const std::string& name : workspaces_) {
      if (store_.Find(PluginRef(Rival(name))) != nullptr) Remove(PluginRef(Rival(name)));
      if (store_.Find(WorkspaceRef(name)) != nullptr)
        Edit(WorkspaceRef(name), {{"spec", {{"suspend", nullptr}}}});
      // What is depended on must be declared.
      if (store_.Find(PluginRef(name + "-beta")) != nullptr &&
          store_.Find(PluginRef(name + "-alpha")) == nullptr)
        Declare(name, "alpha");
    }
    for (const meta::ObjectKey& key : store_.Keys("declaredplugins"))
      Edit(PluginRef(key.name), {{"spec", {{"suspend", nullptr}}}});
  }

 private:
  static std::string Rival(const std::string& workspace) { return "rival-" + workspace; }
  std::string AnyWorkspace() { return dice_.Pick(workspaces_); }

  void Make(const std::string& name) {
    api::Workspace w;
    w.meta.name = name;
    w.meta.labels["team"] = "x";
    w.spec.runtime = "claude-code";
    w.spec.heartbeat = {120, 600};
    if (name == "dir") {
      w.spec.box.type = api::BoxType::kDirectory;
      w.spec.box.directory = api::DirectoryBox{"/boxes/dir"};
    } else if (name == "pod") {
      w.spec.box.type = api::BoxType::kPod;
      w.spec.box.pod.emplace().pod_ref = api::LocalRef{"pod"};
    } else if (name == "ext") {
      w.spec.box.type = api::BoxType::kExternal;
    } else {
      w.spec.kind = api::WorkspaceKind::kPlatform;
      w.spec.box.type = api::BoxType::kSSH;
      w.spec.box.ssh.emplace().host = "plat.example";
    }
    never_allowed_.erase(name);
    if (dice_.Chance(200)) {
      w.spec.restart.policy = api::RestartPolicy::kManual;
      never_allowed_.insert(name);
    }
    trace_.Note("user creates workspace " + name);
    store_.Create({kube::kWorkspaces, kNamespace}, codec::EncodeWorkspace(w)).has_value();
  }
  void Declare(const std::string& workspace, const std::string& plugin) {
    api::DeclaredPlugin d;
    d.meta.name = workspace + "-" + plugin;
    d.spec.workspace_ref = api::LocalRef{workspace};
    d.spec.source = Repositories::Uri(plugin);
    if (Repositories::Private(plugin)) d.spec.source_secret_ref = api::LocalRef{kSecret};
    d.spec.update.interval_seconds = 600;
    if (plugin == "beta" && dice_.Chance(300)) d.spec.depends_on = {"alpha"};
    if (dice_.Chance(300))
      d.spec.update.policy =
          dice_.Chance(500) ? api::UpdatePolicy::kPin : api::UpdatePolicy::kManual;
    if (dice_.Chance(200)) d.spec.deletion_policy = api::DeletionPolicy::kOrphan;
    Create(d);
  }
  void Create(const api::DeclaredPlugin& plugin) {
    trace_.Note("user declares " + plugin.meta.name + " " + plugin.spec.source);
    store_.Create({kube::kDeclaredPlugins, kNamespace}, codec::EncodeDeclaredPlugin(plugin))
        .has_value();
  }
  void Remove(const kube::ObjectRef& ref) {
    trace_.Note("user deletes " + ref.Text());
    store_.Delete(ref).has_value();
  }
  void Edit(const kube::ObjectRef& ref, const Json& patch) {
    const bool done = store_.Patch(ref, patch).has_value();
    trace_.Note(fmt::format("user edits {} {}{}", ref.Text(), codec::Dump(patch),
                            done ? "" : ": not there"));
  }

  void ToggleDeclaration() {
    const std::string workspace = AnyWorkspace();
    const std::string plugin = dice_.Pick<std::string>({"alpha", "beta", "skill"});
    const kube::ObjectRef ref = PluginRef(workspace + "-" + plugin);
    if (store_.Find(ref) == nullptr)
      Declare(workspace, plugin);
    else
      Remove(ref);
  }
  void ToggleCommon() {
    if (store_.Find(PluginRef("common")) != nullptr) return Remove(PluginRef("common"));
    api::DeclaredPlugin d;
    d.meta.name = "common";
    d.spec.workspace_selector.emplace().match_labels["team"] = "x";
    d.spec.source = Repositories::Uri("common");
    d.spec.update.interval_seconds = 600;
    Create(d);
  }
  void ToggleInline() {
    const kube::ObjectRef ref = WorkspaceRef(AnyWorkspace());
    const Json* workspace = store_.Find(ref);
    if (workspace == nullptr) return;
    const Json& plugins = codec::GetMember((*workspace)["spec"], "plugins");
    const bool there = plugins.is_array() && !plugins.empty();
    Json wanted = Json::array();
    if (!there) wanted.push_back({{"name", "inner"}, {"source", Repositories::TaggedUri("inner")}});
    Edit(ref, {{"spec", {{"plugins", wanted}}}});
  }
  void ToggleTag() {
    const std::string workspace = AnyWorkspace();
    const Json* plugin = store_.Find(PluginRef(workspace + "-alpha"));
    if (plugin == nullptr) return;
    const bool tagged = (*plugin)["spec"]["source"] == Repositories::TaggedUri("alpha");
    Edit(PluginRef(workspace + "-alpha"),
         {{"spec",
           {{"source", tagged ? Repositories::Uri("alpha") : Repositories::TaggedUri("alpha")}}}});
  }
  /// With a time that has not come yet: it is a request all the same.
  void Annotate(const char* annotation) {
    const std::string workspace = AnyWorkspace();
    never_allowed_.erase(workspace);
    SetAnnotation(workspace, annotation, fmt::format("2026-01-01T00:00:{:02}Z", ++asked_ % 60));
  }
  void Allow(const std::string& workspace, const std::string& time) {
    never_allowed_.erase(workspace);
    SetAnnotation(workspace, api::kRestartRequestedAnnotation, time);
  }
  void SetAnnotation(const std::string& workspace, const char* annotation,
                     const std::string& value) {
    Edit(WorkspaceRef(workspace), {{"metadata", {{"annotations", {{annotation, value}}}}}});
  }
  static bool IsManual(const Json& workspace) {
    const Json& restart = codec::GetMember(workspace["spec"], "restart");
    return restart.is_object() && codec::GetString(restart, "policy") == "Manual";
  }
  void ToggleSuspended() {
    const auto plugins = store_.Keys("declaredplugins");
    const kube::ObjectRef ref = dice_.Chance(500) || plugins.empty()
                                    ? WorkspaceRef(AnyWorkspace())
                                    : PluginRef(dice_.Pick(plugins).name);
    const Json* object = store_.Find(ref);
    if (object == nullptr) return;
    Edit(ref, {{"spec", {{"suspend", !codec::GetBool((*object)["spec"], "suspend")}}}});
  }
  void TogglePolicy() {
    const std::string workspace = AnyWorkspace();
    never_allowed_.erase(workspace);
    const auto policy = dice_.Pick<std::string>({"Immediate", "WhenIdle", "Manual"});
    Edit(WorkspaceRef(workspace), {{"spec", {{"restart", {{"policy", policy}}}}}});
  }
  void ToggleUpdate() {
    const auto policy = dice_.Pick<std::string>({"Track", "Pin", "Manual"});
    EditAnyPlugin({{"spec", {{"update", {{"policy", policy}}}}}});
  }
  /// The password of the private repository is in its Secret.
  void KeepSecret() {
    const kube::ObjectRef ref{kube::kSecrets, kNamespace, kSecret};
    const Json data{{"password", base::EncodeBase64(repositories_.Password())}};
    if (store_.Find(ref) == nullptr) {
      trace_.Note("user creates the Secret of the repository");
      store_
          .Create({kube::kSecrets, kNamespace}, {{"metadata", {{"name", kSecret}}}, {"data", data}})
          .has_value();
    } else {
      Edit(ref, {{"data", data}});
    }
  }
  /// The repository has another password, the Secret none, or there is no Secret.
  void SpoilSecret() {
    const kube::ObjectRef ref{kube::kSecrets, kNamespace, kSecret};
    switch (dice_.Upto(3)) {
      case 0:
        trace_.Note("the repository gets another password");
        return repositories_.SetPassword(fmt::format("password {}", ++asked_));
      case 1:
        return Edit(ref, {{"data", nullptr}});
      default:
        if (store_.Find(ref) != nullptr) Remove(ref);
    }
  }
  void ToggleDeletion() {
    EditAnyPlugin({{"spec", {{"deletionPolicy", dice_.Chance(500) ? "Orphan" : "Remove"}}}});
  }
  void EditAnyPlugin(const Json& patch) {
    const auto plugins = store_.Keys("declaredplugins");
    if (!plugins.empty()) Edit(PluginRef(dice_.Pick(plugins).name), patch);
  }
  void ToggleRival() {
    const std::string workspace = AnyWorkspace();
    if (store_.Find(PluginRef(Rival(workspace))) != nullptr)
      return Remove(PluginRef(Rival(workspace)));
    api::DeclaredPlugin d;
    d.meta.name = Rival(workspace);
    d.spec.workspace_ref = api::LocalRef{workspace};
    d.spec.plugin_name = "alpha";
    d.spec.source = "gitea://o/alpha#tag:v2";
    Create(d);
  }
  void Publish() {
    const auto plugin = dice_.Pick<std::string>({"alpha", "beta", "skill", "common"});
    Publish(plugin, static_cast<char>('a' + dice_.Upto(4)));
  }
  void Publish(const std::string& plugin, char revision) {
    trace_.Note(fmt::format("{} is published at {}", plugin, revision));
    repositories_.Publish(plugin, revision);
  }
  void ToggleWorkspace() {
    const std::string name = AnyWorkspace();
    if (store_.Find(WorkspaceRef(name)) != nullptr)
      Remove(WorkspaceRef(name));
    else
      Make(name);
  }

  ApiStore& store_;
  Repositories& repositories_;
  Dice& dice_;
  Trace& trace_;
  std::vector<std::string> workspaces_;
  std::set<std::string> never_allowed_;
  int asked_ = 0;
};

}  // namespace simulation
