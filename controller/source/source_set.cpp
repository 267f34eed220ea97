#include "source/source_set.hpp"

#include <fmt/format.h>

#include "source/git_source.hpp"
#include "source/local_source.hpp"

namespace source {
namespace {

class SourceSet final : public PluginSource {
 public:
  explicit SourceSet(std::map<core::SourceScheme, std::shared_ptr<PluginSource>> sources)
      : sources_(std::move(sources)) {}

  base::Result<Resolution> Resolve(const core::SourceUri& uri,
                                   const std::optional<Credentials>& credentials,
                                   std::stop_token stop) override {
    const auto found = sources_.find(uri.scheme);
    if (found == sources_.end()) return Unavailable(uri);
    return found->second->Resolve(uri, credentials, stop);
  }
  base::Result<Artifact> Fetch(const core::SourceUri& uri, const Resolution& resolution,
                               const std::optional<Credentials>& credentials,
                               const std::string& tar_path, std::stop_token stop) override {
    const auto found = sources_.find(uri.scheme);
    if (found == sources_.end()) return Unavailable(uri);
    return found->second->Fetch(uri, resolution, credentials, tar_path, stop);
  }

 private:
  static base::Error Unavailable(const core::SourceUri& uri) {
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("source `{}`: this operator does not serve that scheme yet; "
                                       "use git+https, gitea, github or local",
                                       uri.text),
                           "SourceSchemeUnavailable");
  }
  std::map<core::SourceScheme, std::shared_ptr<PluginSource>> sources_;
};

}  // namespace

base::Result<std::unique_ptr<PluginSource>> MakeSources(const SourceSettings& settings) {
  auto made = MakeGitSource(settings);
  if (!made) return made.error();
  const std::shared_ptr<PluginSource> git = *std::move(made);
  return std::unique_ptr<PluginSource>(
      std::make_unique<SourceSet>(std::map<core::SourceScheme, std::shared_ptr<PluginSource>>{
          {core::SourceScheme::kGitHttp, git},
          {core::SourceScheme::kGitHttps, git},
          {core::SourceScheme::kGitea, git},
          {core::SourceScheme::kGithub, git},
          {core::SourceScheme::kLocal, MakeLocalSource(settings)},
      }));
}

}  // namespace source
