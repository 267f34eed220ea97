#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace core {

enum class SourceScheme { kGitea, kGithub, kGitHttp, kGitHttps, kGitSsh, kOci, kLocal };
enum class RefKind { kNone, kBare, kTag, kCommit, kBranch, kDigest };

/// A parsed plugin source (behaviour.md section 5). `text` is kept as written: two declarations
/// conflict when any character differs.
struct SourceUri {
  SourceScheme scheme = SourceScheme::kLocal;
  std::string text;
  std::string host;  ///< git+https, git+http, git+ssh, oci: host or host:port. Empty for gitea and
                     ///< github (an operator setting) and local.
  std::string repository;  ///< owner/repo, path/to/repo.git, or the name of a local source.
  std::string subpath;     ///< Folder of the plugin inside the repository; empty: its root. Never
                           ///< absolute, never holds "..".
  RefKind ref_kind = RefKind::kNone;
  std::string ref;
  bool operator==(const SourceUri&) const = default;
  /// The plugin's name unless the declaration gives one: the last segment of subpath, else of
  /// repository without ".git".
  std::string DefaultPluginName() const;
};

/// Errors: kInvalid with reason InvalidSource; the message names what is wrong and shows a right
/// form. User information in the URL, control characters, "..", options ("-x" as a name) and over
/// 2048 bytes are refused.
base::Result<SourceUri> ParseSourceUri(std::string_view text);

/// The same source at that commit. Errors: kNotFound with reason RevisionGone for what keeps no
/// history (local), or where `commit` is no full commit id.
base::Result<SourceUri> AtCommit(const SourceUri& uri, const std::string& commit);

}  // namespace core
