#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/sha256.hpp"
#include "bundle/canonical_tar.hpp"
#include "bundle/installed/install_session.hpp"
#include "bundle/installed/installed_plugins.hpp"
#include "bundle/installed/mcp_settings.hpp"

namespace bundle {
namespace {

constexpr size_t kMaxInstalled = 4096;

/// What one probe knows about the box while it goes through the names.
struct ProbeContext {
  const Folder& configs;
  const std::optional<Folder>& plugins;
  const std::optional<Folder>& own;
  const base::Result<std::string>& settings;
  const Limits& limits;
  DigestCache* cache;
  const base::Clock& clock;
};

std::string StatText(std::string_view path, const struct stat& info) {
  return fmt::format("{}\n{} {} {} {} {}.{} {}.{}\n", path, info.st_dev, info.st_ino, info.st_size,
                     info.st_mode, info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ctim.tv_sec,
                     info.st_ctim.tv_nsec);
}

/// The identity of everything the digest depends on; empty if something is too fresh to tell a
/// later change by its times.
std::string Fingerprint(const Folder& tree, const std::vector<std::string>& paths,
                        const base::Clock& clock) {
  const auto now =
      std::chrono::duration_cast<base::Seconds>(clock.Read().wall.time_since_epoch()).count();
  base::Sha256 hash;
  for (const std::string& path : paths) {
    const auto info = tree.Stat(path);
    if (!info) {
      hash.Update(path + "\n-\n");
      continue;
    }
    if (info->st_ctim.tv_sec >= now - 1 || info->st_mtim.tv_sec >= now - 1) return "";
    hash.Update(StatText(path, *info));
  }
  return base::DigestText(hash.Finish());
}

base::Result<std::string> Cached(const ProbeContext& context, const Folder& tree,
                                 const std::string& name, std::string_view kind,
                                 const std::vector<std::string>& paths,
                                 const std::function<base::Result<std::string>()>& compute) {
  const std::string print = context.cache == nullptr ? "" : Fingerprint(tree, paths, context.clock);
  if (print.empty()) return compute();
  struct stat info {};
  if (::fstat(context.configs.Fd(), &info) != 0) return compute();
  const std::string key = fmt::format("{}:{}/{}", info.st_dev, info.st_ino, name);
  const std::string full = fmt::format("{} {}", kind, print);
  if (auto known = context.cache->Find(key, full)) return *std::move(known);
  auto digest = compute();
  // Hashing took time; only if nothing has moved meanwhile does the digest belong to the
  // fingerprint.
  if (digest && Fingerprint(tree, paths, context.clock) == print)
    context.cache->Store(key, full, *digest);
  return digest;
}

base::Result<std::string> TreeDigest(const ProbeContext& context, const Folder& tree,
                                     const std::string& name, const Manifest& manifest) {
  auto files = CountedFiles(tree, manifest, context.limits);
  if (!files) return files.error();
  std::vector<std::string> paths;
  for (const FileEntry& file : *files) paths.push_back(file.path);
  return Cached(context, tree, name, "tree", paths,
                [&] { return TarDigest(*files, context.limits, ContentOf(tree)); });
}

base::Result<std::string> DigestOf(const ProbeContext& context, const Folder& tree,
                                   const InstalledPlugin& plugin, const Manifest& manifest) {
  if (!plugin.receipt) return TreeDigest(context, tree, plugin.name, manifest);
  std::vector<std::string> paths;
  for (const ReceiptFile& file : plugin.receipt->files) paths.push_back(file.path);
  return Cached(context, tree, plugin.name, plugin.receipt->digest, paths,
                [&] { return ListedDigest(tree, *plugin.receipt, context.limits); });
}

void SetAbsent(InstalledPlugin& plugin, std::string cause) {
  plugin.found = Found::kAbsent;
  plugin.cause = std::move(cause);
}

bool IsTransient(const base::Error& error) {
  return error.code != base::Code::kNotFound && error.code != base::Code::kInvalid &&
         error.code != base::Code::kForbidden;
}

void ProbeTree(const ProbeContext& context, const Folder& tree, InstalledPlugin& plugin) {
  const auto manifest = LoadManifest(tree, plugin.name);
  if (!manifest) {
    if (!IsTransient(manifest.error())) return SetAbsent(plugin, manifest.error().message);
    plugin.cause = manifest.error().message;
    return;
  }
  const auto digest = DigestOf(context, tree, plugin, *manifest);
  // A tree that cannot be one of ours (links, too large) is there all the same; it is only not
  // known to be equal to anything.
  if (!digest && digest.error().code != base::Code::kInvalid) {
    plugin.cause = digest.error().message;
    return;
  }
  plugin.found = Found::kPresent;
  if (digest)
    plugin.digest = *digest;
  else
    plugin.cause = digest.error().message;
  plugin.manifest_version = manifest->version;
  plugin.reload_none = manifest->reload_none;
  plugin.mcp_merged = manifest->mcp_servers.empty() ||
                      (context.settings && HasMcpServers(*context.settings, manifest->mcp_servers));
}

InstalledPlugin ProbeOne(const ProbeContext& context, const std::string& name) {
  InstalledPlugin plugin;
  plugin.name = name;
  if (!IsPluginName(name)) {
    SetAbsent(plugin, "is no plugin name");
    return plugin;
  }
  if (!context.plugins) {
    SetAbsent(plugin, "there is no plugins folder");
    return plugin;
  }
  if (context.own) plugin.receipt = CurrentReceipt(*context.own, *context.plugins, name);
  const auto tree = context.plugins->Sub(name);
  if (tree) {
    ProbeTree(context, *tree, plugin);
  } else if (tree.error().code == base::Code::kNotFound) {
    SetAbsent(plugin, "its folder is not there");
  } else {
    plugin.cause = tree.error().message;  // A link or a file in its place, or no permission: not
                                          // ours to judge as absent.
  }
  return plugin;
}

/// Names in a folder of ours that have the form NAME.json.
std::vector<std::string> JsonNames(const Folder& own, const char* folder) {
  std::vector<std::string> out;
  const auto sub = own.Sub(folder);
  if (!sub) return out;
  const auto names = sub->List(kMaxInstalled);
  if (!names) return out;
  for (const std::string& name : *names)
    if (name.size() > 5 && name.ends_with(".json") && IsPluginName(name.substr(0, name.size() - 5)))
      out.push_back(name.substr(0, name.size() - 5));
  return out;
}

std::vector<Tombstone> ListRemovals(const Folder& own, const std::optional<Folder>& plugins) {
  std::vector<Tombstone> out;
  for (const std::string& name : JsonNames(own, "removals")) {
    const auto text = own.Read(TombstonePath(name), 64 << 10);
    if (!text) continue;
    auto tombstone = ParseTombstone(*text);
    if (!tombstone || tombstone->name != name) continue;
    const bool still_there =
        plugins && tombstone->tree_inode != 0 && TreeInode(*plugins, name) == tombstone->tree_inode;
    if (!still_there) out.push_back(*std::move(tombstone));
  }
  return out;
}

/// A folder that may be missing: nothing. Anything else that fails is an Error.
base::Result<std::optional<Folder>> OpenIfThere(const Folder& parent, const char* name) {
  auto folder = parent.Sub(name);
  if (folder) return std::optional<Folder>(*std::move(folder));
  if (folder.error().code == base::Code::kNotFound) return std::optional<Folder>();
  return folder.error();
}

Inventory NothingThere(const std::vector<std::string>& names) {
  Inventory out;
  for (const std::string& name : names) {
    out.plugins.emplace_back();
    out.plugins.back().name = name;
    SetAbsent(out.plugins.back(), "there is no configs folder");
  }
  return out;
}

}  // namespace

base::Result<Inventory> InstalledPlugins::Probe(const std::vector<std::string>& names,
                                                std::stop_token stop) const {
  auto configs = OpenConfigs(options_.configs_path, false, options_.links_end_at);
  if (!configs && configs.error().code == base::Code::kNotFound) return NothingThere(names);
  if (!configs) return configs.error();
  auto plugins = OpenIfThere(*configs, kPluginsFolder);
  if (!plugins) return plugins.error();
  auto own = OpenIfThere(*configs, kOwnFolder);
  if (!own) return own.error();
  const auto settings = LoadSettings(*configs, options_.settings_file);
  const ProbeContext context{*configs,        *plugins,     *own,  settings,
                             options_.limits, cache_.get(), clock_};
  std::vector<std::string> all = names;
  if (*own) {
    std::set<std::string> ours;
    for (const char* folder : {"receipts", "activating"})
      for (std::string& name : JsonNames(**own, folder)) ours.insert(std::move(name));
    for (const std::string& name : names) ours.erase(name);
    all.insert(all.end(), ours.begin(), ours.end());
  }
  Inventory out;
  for (size_t i = 0; i < all.size(); ++i) {
    if (stop.stop_requested())
      return base::MakeError(base::Code::kCancelled,
                             "probe of " + options_.configs_path + ": stopped");
    InstalledPlugin plugin = ProbeOne(context, all[i]);
    if (i < names.size() || plugin.receipt) out.plugins.push_back(std::move(plugin));
  }
  if (*own) out.removals = ListRemovals(**own, *plugins);
  return out;
}

}  // namespace bundle
