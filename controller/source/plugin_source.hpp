#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "base/result.hpp"
#include "core/source_uri.hpp"

namespace source {

/// Credentials for one host, from a Secret of the declaring namespace. Never logged.
struct Credentials {
  std::string username;
  std::string password;
};

struct Resolution {
  std::string requested_ref;
  std::string ref_kind;  ///< Tag, Branch, Commit, Digest, Content.
  std::string commit;    ///< Full commit or content id: the key of the fetch.
};

/// A canonical tar in the artifact store.
struct Artifact {
  std::string digest;  ///< sha256:... of the tar.
  std::string path;    ///< Local file.
  uint64_t size_bytes = 0;
  std::string plugin_name;   ///< From its manifest (or its folder, for a SKILL.md).
  bool reload_none = false;  ///< Its manifest says `reload: none`.
};

/// Where plugins come from. Thread safe. Errors carry a stable reason: SourceUnavailable,
/// SourceUnauthorized, RefNotFound, RefAmbiguous, RefNotPinned, HostNotAllowed, PathNotFound,
/// TooLarge, TooManyEntries, TooDeep, NameNotAllowed, SymlinkNotAllowed, SubmoduleNotAllowed,
/// ManifestInvalid, ManifestMissing, SourceTimeout; of our own: GitMissing, GitHelperMissing.
class PluginSource {
 public:
  virtual ~PluginSource() = default;
  /// ref to commit.
  virtual base::Result<Resolution> Resolve(const core::SourceUri& uri,
                                           const std::optional<Credentials>& credentials,
                                           std::stop_token stop) = 0;
  /// The bytes of one commit as a canonical tar file at `tar_path` (made by bundle/).
  virtual base::Result<Artifact> Fetch(const core::SourceUri& uri, const Resolution& resolution,
                                       const std::optional<Credentials>& credentials,
                                       const std::string& tar_path, std::stop_token stop) = 0;
};

}  // namespace source
