#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "bundle/canonical_tar.hpp"
#include "bundle/tree_check.hpp"

namespace source {

struct GitBlob {
  bundle::FileEntry file;
  std::string id;
};

/// Reads `git ls-tree -r -z -l` as it arrives and judges every entry. Stops early (false) at the
/// first refusal.
class GitTreeReader {
 public:
  explicit GitTreeReader(const bundle::Limits& limits) : limits_(limits) {}
  bool Push(std::string_view bytes);
  /// The blobs, sorted by path; or why the tree is refused: SymlinkNotAllowed, SubmoduleNotAllowed,
  /// NameNotAllowed, TooDeep, TooManyEntries, TooLarge.
  base::Result<std::vector<GitBlob>> Finish();
  bool Refused() const { return problem_.has_value(); }

 private:
  base::Status TakeEntry(std::string_view entry);

  const bundle::Limits& limits_;
  std::string rest_;
  std::vector<GitBlob> blobs_;
  std::optional<base::Error> problem_;
};

/// Reads `git cat-file --batch` as it arrives and writes the blobs, in the order asked, into a tar.
/// Keeps the manifest files' text.
class GitBlobReader {
 public:
  GitBlobReader(const std::vector<GitBlob>& blobs, bundle::TarFileWriter& tar)
      : blobs_(blobs), tar_(tar) {}
  bool Push(std::string_view bytes);
  /// All blobs must have come.
  base::Status Finish() const;
  const std::optional<std::string>& PluginYaml() const { return yaml_; }
  const std::optional<std::string>& SkillMd() const { return skill_; }

 private:
  base::Status Take(std::string_view& bytes);
  base::Status StartBlob();

  const std::vector<GitBlob>& blobs_;
  bundle::TarFileWriter& tar_;
  std::optional<std::string> yaml_, skill_;
  std::optional<std::string>* kept_ = nullptr;
  size_t next_ = 0;  ///< Index of the blob whose header comes next.
  std::string header_;
  uint64_t left_ = 0;
  bool in_content_ = false;
  std::optional<base::Error> problem_;
};

}  // namespace source
