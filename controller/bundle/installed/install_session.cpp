#include "bundle/installed/install_session.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/sha256.hpp"
#include "bundle/canonical_tar.hpp"

namespace bundle {

base::Result<Folder> OpenConfigs(const std::string& configs_path, bool make,
                                 const std::string& links_end_at) {
  const size_t slash = configs_path.rfind('/');
  if (configs_path.empty() || configs_path[0] != '/' || slash + 1 == configs_path.size())
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format("configs folder `{}` must be an absolute path without a trailing slash",
                    configs_path),
        "SpecInvalid");
  auto parent = Folder::OpenBeneath(links_end_at, slash == 0 ? "/" : configs_path.substr(0, slash));
  if (!parent) {
    base::Error error = parent.error();
    if (error.code == base::Code::kNotFound)
      error = base::MakeError(base::Code::kUnavailable, error.message, "BoxRootMissing");
    return error;
  }
  return parent->Sub(configs_path.substr(slash + 1), make);
}

base::Result<BoxFolders> BoxFolders::Make(const std::string& configs_path,
                                          const std::string& links_end_at) {
  auto configs = OpenConfigs(configs_path, true, links_end_at);
  if (!configs) return configs.error();
  auto plugins = configs->Sub(kPluginsFolder, true);
  if (!plugins) return plugins.error();
  auto own = configs->Sub(kOwnFolder, true);
  if (!own) return own.error();
  for (const char* folder : {"receipts", "staging", "activating", "previous", "removals"})
    if (auto made = own->Sub(folder, true); !made) return made.error();
  return BoxFolders{*std::move(configs), *std::move(plugins), *std::move(own)};
}

std::string ReceiptPath(const std::string& name) { return "receipts/" + name + ".json"; }
std::string JournalPath(const std::string& name) { return "activating/" + name + ".json"; }
std::string StagedPath(const std::string& name) { return "staging/" + name + ".json"; }
// Plugin names end in a letter or digit, so this is nobody's StagedPath.
std::string StagingTree(const std::string& name) { return "staging/" + name + "_"; }
std::string PreviousTree(const std::string& name) { return "previous/" + name; }
std::string TombstonePath(const std::string& name) { return "removals/" + name + ".json"; }

uint64_t TreeInode(const Folder& folder, const std::string& path) {
  const auto info = folder.Stat(path);
  return info && S_ISDIR(info->st_mode) ? info->st_ino : 0;
}

std::optional<Receipt> LoadReceipt(const Folder& own, const std::string& path,
                                   const std::string& name) {
  const auto text = own.Read(path, 16 << 20);
  if (!text) return std::nullopt;
  auto receipt = ParseReceipt(*text);
  if (!receipt || receipt->name != name) return std::nullopt;
  return *std::move(receipt);
}

std::optional<Receipt> CurrentReceipt(const Folder& own, const Folder& plugins,
                                      const std::string& name) {
  auto journal = LoadReceipt(own, JournalPath(name), name);
  if (journal && journal->tree_inode != 0 && journal->tree_inode == TreeInode(plugins, name))
    return journal;
  return LoadReceipt(own, ReceiptPath(name), name);
}

base::Result<Manifest> LoadManifest(const Folder& tree, const std::string& name) {
  const auto yaml = tree.Read(kManifestFile, Limits{}.manifest_bytes);
  if (!yaml && yaml.error().code != base::Code::kNotFound) return yaml.error();
  if (yaml) return SelectManifest(&*yaml, nullptr, name);
  const auto skill = tree.Read(kSkillFile, Limits{}.manifest_bytes);
  if (!skill && skill.error().code != base::Code::kNotFound) return skill.error();
  return SelectManifest(nullptr, skill ? &*skill : nullptr, name);
}

base::Result<std::string> LoadSettings(const Folder& configs, const std::string& settings_file) {
  auto text = configs.Read(settings_file, 3 << 20);
  if (!text && text.error().code == base::Code::kNotFound) return std::string();
  return text;
}

base::Result<std::string> ListedDigest(const Folder& tree, const Receipt& receipt,
                                       const Limits& limits) {
  std::vector<FileEntry> files;
  std::string differences;
  for (const ReceiptFile& listed : receipt.files) {
    const auto info = tree.Stat(listed.path);
    if (!info && info.error().code != base::Code::kNotFound &&
        info.error().code != base::Code::kInvalid)
      return info.error();
    const bool regular = info && S_ISREG(info->st_mode);
    const FileEntry now{listed.path, regular ? static_cast<uint64_t>(info->st_size) : 0,
                        regular && (info->st_mode & 0100) != 0};
    if (!regular || now.size != listed.size || now.executable != listed.executable)
      differences += fmt::format("{}\n{} {} {}\n", listed.path, regular, now.size, now.executable);
    files.push_back(now);
  }
  if (!differences.empty())
    return base::DigestText(base::Sha256Of("changed\n" + receipt.digest + "\n" + differences));
  return TarDigest(std::move(files), limits, ContentOf(tree));
}

base::Result<std::vector<FileEntry>> CountedFiles(const Folder& tree, const Manifest& manifest,
                                                  const Limits& limits) {
  return ListFiles(tree, limits, [&manifest](std::string_view path, bool is_folder) {
    const std::string_view last =
        path.substr(path.rfind('/') == std::string_view::npos ? 0 : path.rfind('/') + 1);
    return (is_folder && last == "__pycache__") ||
           std::find(manifest.state.begin(), manifest.state.end(), path) != manifest.state.end();
  });
}

}  // namespace bundle
