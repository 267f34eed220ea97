#include "app/plugin_routes.hpp"

#include <fmt/format.h>

#include "app/cluster/access_review.hpp"
#include "base/sha256.hpp"
#include "codec/json.hpp"
#include "codec/resources.hpp"
#include "core/declared_set.hpp"
#include "core/entitlement.hpp"

namespace app {
namespace {

using codec::Json;

const char* VerbName(server::Verb verb) {
  switch (verb) {
    case server::Verb::kGet:
      return "get";
    case server::Verb::kCreate:
      return "create";
    case server::Verb::kDelete:
      return "delete";
  }
  return "get";
}

/// The verb on DeclaredPlugins of that namespace.
base::Status Authorise(Reviews& reviews, const server::AuthoriseRequest& request) {
  const std::string verb = VerbName(request.verb);
  return ReviewAccess(reviews, request.caller.bearer_token,
                      {{"resourceAttributes",
                        {{"verb", verb},
                         {"group", api::kGroup},
                         {"resource", "declaredplugins"},
                         {"namespace", request.ns}}}},
                      fmt::format("{} on declaredplugins.{} in namespace {}", verb, api::kGroup,
                                  request.ns.empty() ? "(all)" : request.ns));
}

base::Result<server::WorkspaceView> FindWorkspace(const reconcile::Dependencies& on,
                                                  const std::string& id) {
  meta::ObjectKey key;
  if (const auto slot = on.fleet.Snapshot(id)) {
    key = slot->key;
  } else if (const size_t dot = id.find('.'); dot != std::string::npos) {
    key = {id.substr(0, dot), id.substr(dot + 1)};
  }
  const auto workspace = key.name.empty() ? nullptr : on.workspaces.Get(key);
  if (!workspace)
    return base::MakeError(base::Code::kNotFound, fmt::format("there is no workspace {}", id));
  return server::WorkspaceView{key, workspace->meta.uid, workspace->spec.box.type};
}

base::Result<server::PluginList> ListPlugins(const reconcile::Dependencies& on,
                                             const server::WorkspaceView& view) {
  const auto workspace = on.workspaces.Get(view.key);
  if (!workspace)
    return base::MakeError(base::Code::kNotFound, "there is no workspace " + view.key.Text());
  server::PluginList list;
  list.rows = workspace->status.plugins;
  if (workspace->status.box) {
    list.observed_time = workspace->status.box->observed_time;
    list.stale = workspace->status.box->state != "Running";
    if (list.stale) list.cause = workspace->status.box->cause;
  }
  return list;
}

/// One fixed name for a plugin of a workspace, so that a repeated request finds the same object;
/// no other plugin's of any workspace, and one that the API takes, whatever the two are called.
std::string ObjectName(const std::string& workspace, const std::string& plugin) {
  const std::string name = workspace + "." + plugin;
  const bool plain =
      workspace.find('.') == std::string::npos &&
      plugin.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
  if (plain && name.size() <= 253) return name;
  std::string head = workspace.substr(0, 180);
  while (head.back() == '.' || head.back() == '-') head.pop_back();
  return head + "." + base::Hex(base::Sha256Of(workspace + "\n" + plugin)).substr(0, 32);
}

bool Declares(const api::DeclaredPlugin& object, const server::Declaration& wanted,
              const std::string& plugin) {
  return !object.meta.deletion_time && object.spec.workspace_ref &&
         object.spec.workspace_ref->name == wanted.workspace.key.name &&
         core::PluginNameOf(object) == plugin && object.spec.source == wanted.source;
}

/// An object of that name is there. The same request again finds its own: that is success.
base::Status CheckFound(const reconcile::Dependencies& on, const server::Declaration& wanted,
                        const std::string& plugin, const std::string& name) {
  const auto object = on.plugins.Get({wanted.workspace.key.ns, name});
  if (!object) {
    // Somebody has made it this moment, or it has just gone.
    auto unseen = base::MakeError(base::Code::kUnavailable,
                                  "DeclaredPlugin " + name + " is not in the cache yet");
    unseen.retry_after = base::Seconds{1};
    return unseen;
  }
  if (Declares(*object, wanted, plugin)) return {};
  return base::MakeError(
      base::Code::kConflict,
      fmt::format("DeclaredPlugin {} is there and declares something else: plugin {} from {}", name,
                  core::PluginNameOf(*object), object->spec.source),
      "Conflict");
}

base::Result<server::Declared> Declare(const reconcile::Dependencies& on,
                                       const server::Declaration& wanted) {
  const auto uri = core::ParseSourceUri(wanted.source);
  if (!uri) return uri.error();
  const std::string plugin = wanted.name.empty() ? uri->DefaultPluginName() : wanted.name;
  if (!core::IsPluginName(plugin))
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format("plugin name `{}` must be 1 to 63 letters, digits, `.`, `_` and `-`, with a "
                    "letter or digit at both ends",
                    plugin),
        "InvalidName");
  const auto workspace = on.workspaces.Get(wanted.workspace.key);
  if (!workspace)
    return base::MakeError(base::Code::kNotFound,
                           "there is no workspace " + wanted.workspace.key.Text());
  if (auto entitled =
          core::CheckEntitlement(workspace->spec.kind, plugin, wanted.source, "", *on.policy());
      !entitled)
    return std::move(entitled).error();
  const auto declared = reconcile::DeclaredFor(on, *workspace);
  const core::DeclaredSet desired = [&] {
    std::vector<const api::DeclaredPlugin*> pointers;
    for (const auto& d : declared) pointers.push_back(d.get());
    return core::BuildDeclaredSet(*workspace, pointers, *on.policy());
  }();
  if (const auto* existing = desired.Find(plugin);
      existing != nullptr && existing->source != wanted.source)
    return base::MakeError(base::Code::kConflict,
                           fmt::format("plugin {} is already declared for {} from {}, by {} {}",
                                       plugin, wanted.workspace.key.Text(), existing->source,
                                       existing->owner.kind, existing->owner.name),
                           "Conflict");
  const std::string name = ObjectName(wanted.workspace.key.name, plugin);
  const Json body{{"apiVersion", api::kApiVersion},
                  {"kind", "DeclaredPlugin"},
                  {"metadata", {{"name", name}, {"namespace", wanted.workspace.key.ns}}},
                  {"spec",
                   {{"workspaceRef", {{"name", wanted.workspace.key.name}}},
                    {"pluginName", plugin},
                    {"source", wanted.source}}}};
  auto made =
      on.client.Create({kube::kDeclaredPlugins, wanted.workspace.key.ns}, codec::Dump(body));
  if (!made && made.error().code != base::Code::kAlreadyExists) return std::move(made).error();
  if (made) {
    // The next request finds it, whether or not the watch has told of it.
    if (auto object = codec::DecodeDeclaredPlugin(*made))
      on.plugins.ObserveWrite(*std::move(object));
  } else if (auto own = CheckFound(on, wanted, plugin, name); !own) {
    return std::move(own).error();
  }
  return server::Declared{{wanted.workspace.key.ns, name}};
}

base::Result<server::Declared> Withdraw(const reconcile::Dependencies& on,
                                        const server::Declaration& wanted) {
  const auto workspace = on.workspaces.Get(wanted.workspace.key);
  if (!workspace)
    return base::MakeError(base::Code::kNotFound,
                           "there is no workspace " + wanted.workspace.key.Text());
  bool shared = false;
  std::optional<server::Declared> deleted_one;
  for (const api::InlinePlugin& plugin : workspace->spec.plugins)
    shared = shared || plugin.name == wanted.name;
  for (const auto& plugin : reconcile::DeclaredFor(on, *workspace)) {
    if (core::PluginNameOf(*plugin) != wanted.name) continue;
    if (!plugin->spec.workspace_ref) {
      shared = true;
      continue;
    }
    kube::DeleteOptions options;
    options.uid = plugin->meta.uid;
    auto deleted =
        on.client.Delete({kube::kDeclaredPlugins, plugin->meta.ns, plugin->meta.name}, options);
    if (!deleted && deleted.error().code != base::Code::kNotFound)
      return std::move(deleted).error();
    if (plugin->meta.finalizers.empty())
      on.plugins.ObserveDelete(plugin->meta.Key(), plugin->meta.uid);
    deleted_one = server::Declared{plugin->meta.Key()};
  }
  if (deleted_one) return *deleted_one;
  if (shared)
    return base::MakeError(
        base::Code::kConflict,
        fmt::format("plugin {} of {} is declared inline or by a selector; change that declaration",
                    wanted.name, wanted.workspace.key.Text()),
        "DeclaredElsewhere");
  return base::MakeError(base::Code::kNotFound,
                         fmt::format("no DeclaredPlugin declares {} for {}", wanted.name,
                                     wanted.workspace.key.Text()));
}

base::Result<server::ArtifactFile> OpenArtifact(const reconcile::Dependencies& on,
                                                const server::WorkspaceView& view,
                                                const std::string& plugin) {
  const auto digest = on.downloads.Find(view.uid, plugin);
  if (!digest)
    return base::MakeError(base::Code::kNotFound,
                           fmt::format("plugin {} is not declared for {}, or not fetched yet",
                                       plugin, view.key.Text()));
  auto open = on.artifacts.OpenVerified(*digest);
  if (!open) return std::move(open).error();
  return server::ArtifactFile{open->file.Release(), open->size_bytes, *digest};
}

}  // namespace

void ConnectPluginRoutes(server::ServerPorts& ports, const reconcile::Dependencies& on,
                         Reviews& reviews) {
  ports.authorise = [&reviews](const server::AuthoriseRequest& request) {
    return Authorise(reviews, request);
  };
  ports.find_workspace = [&on](const std::string& id) { return FindWorkspace(on, id); };
  ports.list_plugins = [&on](const server::WorkspaceView& view) { return ListPlugins(on, view); };
  ports.declare_plugin = [&on](const server::Declaration& wanted) { return Declare(on, wanted); };
  ports.withdraw_plugin = [&on](const server::Declaration& wanted) { return Withdraw(on, wanted); };
  ports.open_artifact = [&on](const server::WorkspaceView& view, const std::string& plugin) {
    return OpenArtifact(on, view, plugin);
  };
}

}  // namespace app
