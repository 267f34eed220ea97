#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "bundle/limits.hpp"

namespace bundle {

/// One regular file of a plugin. Folders are implied by paths: an empty folder does not exist for
/// us.
struct FileEntry {
  std::string path;         ///< Relative, '/' between segments, UTF-8.
  uint64_t size = 0;        ///< Bytes.
  bool executable = false;  ///< Mode 0755 instead of 0644.
  bool operator==(const FileEntry&) const = default;
};

/// Judges one path without looking at any disk. Errors: kInvalid with reason NameNotAllowed (empty,
/// "..", ".", absolute, control and invisible characters, backslash, invalid UTF-8, decomposed
/// Unicode, ".git", a segment over 255 bytes) or TooDeep.
base::Status CheckPath(std::string_view path, const Limits& limits);

/// Judges a whole tree: every path, counts and sizes, one path twice, a file where another path
/// needs a folder, and names that collide on a file system that ignores case. Errors: kInvalid with
/// reason NameNotAllowed, TooDeep, TooManyEntries or TooLarge.
base::Status CheckTree(const std::vector<FileEntry>& files, const Limits& limits);

/// True for a name that may be a folder of /configs/plugins: 1 to 63 of A-Z a-z 0-9 . _ -, first
/// and last a letter or digit.
bool IsPluginName(std::string_view name);

/// `text` fit for a message: control and invalid bytes as \xNN, cut at 120 bytes.
std::string Printable(std::string_view text);

}  // namespace bundle
