#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/file.hpp"
#include "base/sha256.hpp"
#include "reconcile/simulation/weather.hpp"
#include "source/plugin_source.hpp"

namespace simulation {

/// Repositories of which each holds one plugin of its own name; a revision is a letter.
class Repositories final : public source::PluginSource {
 public:
  Repositories(Weather& weather, Trace& trace) : weather_(weather), trace_(trace) {}

  void Publish(const std::string& plugin, char revision) { revisions_[plugin] = revision; }
  char Revision(const std::string& plugin) const {
    const auto found = revisions_.find(plugin);
    return found == revisions_.end() ? 'a' : found->second;
  }
  /// Of what a source names now. A tag never moves.
  char RevisionOf(const core::SourceUri& uri) const {
    if (uri.ref_kind == core::RefKind::kCommit) return uri.ref.front();
    return uri.ref_kind == core::RefKind::kTag ? kTagged : Revision(uri.DefaultPluginName());
  }
  static constexpr char kTagged = 'f';

  static std::string Uri(const std::string& plugin) {
    return "gitea://o/" + plugin + "#branch:main";
  }
  static std::string TaggedUri(const std::string& plugin) {
    return "gitea://o/" + plugin + "#tag:v1";
  }
  static std::string Commit(char revision) { return std::string(40, revision); }
  static std::string Bytes(const std::string& plugin, char revision) {
    return fmt::format("the bytes of {} at {}", plugin, revision);
  }
  static std::string Digest(const std::string& plugin, char revision) {
    return base::DigestText(base::Sha256Of(Bytes(plugin, revision)));
  }
  /// One repository is private: who has not its password of now gets nothing.
  static bool Private(const std::string& plugin) { return plugin == "beta"; }
  const std::string& Password() const { return password_; }
  void SetPassword(std::string password) { password_ = std::move(password); }
  /// One plugin is loaded without a restart.
  static bool ReloadNone(const std::string& plugin) { return plugin == "skill"; }

  base::Result<source::Resolution> Resolve(const core::SourceUri& uri,
                                           const std::optional<source::Credentials>& credentials,
                                           std::stop_token) override {
    if (auto lost = weather_.Before("resolve " + uri.text)) return *lost;
    if (auto allowed = Admit(uri, credentials); !allowed) return allowed.error();
    const std::string commit = Commit(RevisionOf(uri));
    trace_.Note(fmt::format("resolve {} -> {}", uri.text, commit.substr(0, 4)));
    return source::Resolution{uri.ref, "Branch", commit};
  }
  base::Result<source::Artifact> Fetch(const core::SourceUri& uri, const source::Resolution& at,
                                       const std::optional<source::Credentials>& credentials,
                                       const std::string& tar_path, std::stop_token) override {
    if (auto lost = weather_.Before("fetch " + uri.text)) return *lost;
    if (auto allowed = Admit(uri, credentials); !allowed) return allowed.error();
    const std::string name = uri.DefaultPluginName();
    const std::string bytes = Bytes(name, at.commit.front());
    if (auto wrote = base::WriteFileAtomic(tar_path, bytes, 0600); !wrote) return wrote.error();
    const std::string digest = Digest(name, at.commit.front());
    trace_.Note(
        fmt::format("fetch {} {} -> {}", name, at.commit.substr(0, 4), digest.substr(0, 15)));
    return source::Artifact{digest, tar_path, bytes.size(), name, ReloadNone(name)};
  }

 private:
  base::Status Admit(const core::SourceUri& uri,
                     const std::optional<source::Credentials>& credentials) {
    if (!Private(uri.DefaultPluginName())) return {};
    if (credentials && credentials->password == password_) return {};
    trace_.Note("refused: " + uri.text);
    return base::MakeError(base::Code::kUnauthorized, uri.text + ": authentication failed",
                           "SourceUnauthorized");
  }

  Weather& weather_;
  Trace& trace_;
  std::string password_ = "first";
  std::map<std::string, char> revisions_;
};

}  // namespace simulation
