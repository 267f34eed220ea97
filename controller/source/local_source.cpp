#include "source/local_source.hpp"

#include <fmt/format.h>

#include "base/failpoint.hpp"
#include "bundle/canonical_tar.hpp"
#include "bundle/folder.hpp"
#include "bundle/manifest.hpp"

namespace source {
namespace {

class LocalSource final : public PluginSource {
 public:
  explicit LocalSource(SourceSettings settings) : settings_(std::move(settings)) {}

  base::Result<Resolution> Resolve(const core::SourceUri& uri, const std::optional<Credentials>&,
                                   std::stop_token) override {
    const base::FailpointScope point("source.resolve");
    auto tree = OpenTree(uri);
    if (!tree) return tree.error();
    auto files = List(*tree);
    if (!files) return files.error();
    auto digest = bundle::TarDigest(*std::move(files), settings_.limits, bundle::ContentOf(*tree));
    if (!digest) return digest.error();
    return Resolution{uri.ref, "Content", *std::move(digest)};
  }

  base::Result<Artifact> Fetch(const core::SourceUri& uri, const Resolution& resolution,
                               const std::optional<Credentials>&, const std::string& tar_path,
                               std::stop_token) override {
    const base::FailpointScope point("source.fetch");
    auto tree = OpenTree(uri);
    if (!tree) return tree.error();
    auto manifest = ReadManifest(*tree, uri);
    if (!manifest) return manifest.error();
    auto files = List(*tree);
    if (!files) return files.error();
    auto packed = bundle::WriteTarFile(*std::move(files), settings_.limits,
                                       bundle::ContentOf(*tree), tar_path);
    if (!packed) return packed.error();
    if (packed->digest != resolution.commit)
      return base::MakeError(
          base::Code::kUnavailable,
          fmt::format("source `{}` changed while it was read; trying again", uri.text),
          "SourceUnavailable");
    return Artifact{packed->digest, tar_path, packed->size_bytes, manifest->name,
                    manifest->reload_none};
  }

 private:
  base::Result<bundle::Folder> OpenTree(const core::SourceUri& uri) const {
    if (settings_.local_root.empty())
      return base::MakeError(
          base::Code::kInvalid,
          fmt::format("source `{}`: this operator has no local root; the admin can mount one",
                      uri.text),
          "SourceSchemeUnavailable");
    auto root = bundle::Folder::Open(settings_.local_root);
    if (!root)
      return base::MakeError(base::Code::kUnavailable, root.error().message, "SourceUnavailable");
    const std::string path =
        uri.subpath.empty() ? uri.repository : uri.repository + "/" + uri.subpath;
    if (auto ok = bundle::CheckPath(path, settings_.limits); !ok) return ok.error();
    auto tree = root->Sub(path);
    if (tree) return tree;
    if (tree.error().code == base::Code::kNotFound)
      return base::MakeError(base::Code::kNotFound,
                             fmt::format("source `{}`: there is no such folder", uri.text),
                             "PathNotFound");
    return Refused(tree.error());
  }

  /// A link is a link, wherever it is found.
  static base::Error Refused(base::Error error) {
    if (error.reason == "LinkNotAllowed") error.reason = "SymlinkNotAllowed";
    if (error.reason.empty()) error.reason = "SourceUnavailable";
    return error;
  }

  base::Result<std::vector<bundle::FileEntry>> List(const bundle::Folder& tree) const {
    // A working copy's .git is not part of the plugin.
    auto files = bundle::ListFiles(
        tree, settings_.limits,
        [](std::string_view path, bool is_folder) { return is_folder && path == ".git"; });
    if (!files) return Refused(files.error());
    return files;
  }

  base::Result<bundle::Manifest> ReadManifest(const bundle::Folder& tree,
                                              const core::SourceUri& uri) const {
    const auto yaml = tree.Read(bundle::kManifestFile, settings_.limits.manifest_bytes);
    const auto skill = tree.Read(bundle::kSkillFile, settings_.limits.manifest_bytes);
    for (const auto* file : {&yaml, &skill})
      if (!*file && file->error().code != base::Code::kNotFound) return Refused(file->error());
    return bundle::SelectManifest(yaml ? &*yaml : nullptr, skill ? &*skill : nullptr,
                                  uri.DefaultPluginName());
  }

  SourceSettings settings_;
};

}  // namespace

std::unique_ptr<PluginSource> MakeLocalSource(const SourceSettings& settings) {
  return std::make_unique<LocalSource>(settings);
}

}  // namespace source
