#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.hpp"
#include "base/result.hpp"
#include "bundle/canonical_tar.hpp"
#include "bundle/limits.hpp"
#include "bundle/tree_check.hpp"

namespace bundle {

/// An open folder beneath which paths are resolved without ever following a symbolic link or
/// leaving it, whoever changes the tree meanwhile: every segment is opened relative to its parent
/// with O_NOFOLLOW. A link met on the way is kInvalid with reason LinkNotAllowed. Relative paths
/// only ("." is the folder itself); ".." is refused.
class Folder {
 public:
  /// Opens `path`; links in the path of the root itself are the admin's business and are followed.
  static base::Result<Folder> Open(const std::string& path);
  /// Opens `path`, which is `root` or beneath it (both absolute and plain): links on the way to
  /// `root` are followed, those on the way from there are not. An empty root: as Open(path).
  static base::Result<Folder> OpenBeneath(std::string_view root, const std::string& path);
  /// Opens a folder beneath this one; with `make` missing segments are created with 0755 and this
  /// root's owner.
  base::Result<Folder> Sub(std::string_view path, bool make = false) const;
  int Fd() const { return fd_.Get(); }
  /// The path for messages.
  const std::string& Text() const { return text_; }
  Folder(Folder&&) noexcept = default;
  Folder& operator=(Folder&&) noexcept = default;
  /// lstat; kNotFound if it is not there.
  base::Result<struct stat> Stat(std::string_view path) const;
  base::Result<base::UniqueFd> OpenFile(std::string_view path) const;
  /// Reads a regular file of at most `limit` bytes.
  base::Result<std::string> Read(std::string_view path, size_t limit) const;
  /// Temporary file, fsync, rename, fsync of the folder. The parent must exist.
  base::Status WriteAtomic(std::string_view path, std::string_view bytes, mode_t mode) const;
  /// Creates a new file for writing (O_EXCL), making missing parents.
  base::Result<base::UniqueFd> Create(std::string_view path, mode_t mode) const;
  base::Status Rename(std::string_view from, const Folder& target, std::string_view to) const;
  /// Swaps two entries atomically; kInvalid with reason ExchangeUnsupported where the file system
  /// cannot.
  base::Status Exchange(std::string_view path, const Folder& other,
                        std::string_view other_path) const;
  /// Removes a file or link; not there: success.
  base::Status Unlink(std::string_view path) const;
  /// rm -rf without following anything; not there: success. Bounded by depth 256.
  base::Status RemoveTree(std::string_view path) const;
  /// Names of this folder's own entries, sorted, at most `limit` (more is kInvalid TooManyEntries).
  base::Result<std::vector<std::string>> List(size_t limit = 100'000) const;
  base::Status Sync() const;

 private:
  Folder() = default;
  struct Parent;  // Folder and last segment of a path.
  base::Result<Parent> FindParent(std::string_view path, bool make) const;
  base::UniqueFd fd_;
  std::string text_;
  uid_t owner_ = 0;
  gid_t group_ = 0;
};

/// Decides what a walk leaves out: true skips a path (and what is beneath it).
using PathFilter = std::function<bool(std::string_view path, bool is_folder)>;

/// All regular files of a tree, sorted. A link is kInvalid LinkNotAllowed, a device, socket or pipe
/// NameNotAllowed; bounds of `limits`.
base::Result<std::vector<FileEntry>> ListFiles(const Folder& tree, const Limits& limits,
                                               const PathFilter& skip = nullptr);
/// A ContentReader (canonical_tar.hpp) that reads files of `tree`; a file that is no longer of the
/// listed size is kConflict.
ContentReader ContentOf(const Folder& tree);

}  // namespace bundle
