#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/file.hpp"
#include "base/result.hpp"
#include "base/sha256.hpp"
#include "bundle/limits.hpp"
#include "bundle/tree_check.hpp"

namespace bundle {

/// Where the bytes of a tar go; an Error ends the writing.
using ByteSink = std::function<base::Status(std::string_view)>;

/// Writes *the* tar of a tree: equal trees give equal bytes on every machine and with every
/// version.
///
/// POSIX ustar headers, files only (folders are implied), sorted by path as bytes, mtime 0, uid and
/// gid 0, no user names, modes 0644 and 0755; a path over 100 bytes is preceded by one pax header
/// that holds just `path`; two zero blocks at the end, no further padding. The bytes are encoded
/// here, not by a library, because their digest is compared across machines for years.
class TarWriter {
 public:
  explicit TarWriter(ByteSink sink) : sink_(std::move(sink)) {}
  /// Starts the next file; paths must rise. kInternal if they do not or if the last file is not
  /// complete.
  base::Status Begin(const FileEntry& file);
  /// Content of the current file, in pieces of any size.
  base::Status Write(std::string_view bytes);
  /// Ends the archive; returns the digest of all bytes written.
  base::Result<base::Sha256Digest> Finish();
  uint64_t BytesWritten() const { return written_; }

 private:
  base::Status Emit(std::string_view bytes);
  base::Status EndFile();

  ByteSink sink_;
  base::Sha256 hash_;
  std::string last_path_;
  uint64_t left_ = 0;
  uint64_t padding_ = 0;
  uint64_t written_ = 0;
  bool open_ = false;
};

/// How many bytes TarWriter makes of these files.
uint64_t TarBytes(const std::vector<FileEntry>& files);

/// Receives what a tar holds, in its order. An Error from either ends the reading with that Error.
class TarVisitor {
 public:
  virtual ~TarVisitor() = default;
  virtual base::Status OnFile(const FileEntry& file) = 0;
  virtual base::Status OnBytes(std::string_view bytes) = 0;
};

/// Reads a tar that TarWriter could have written, and nothing else: each header is encoded again
/// and compared byte for byte, so links, devices, odd modes, extensions, base-256 sizes, duplicate
/// and unsorted names need no rule of their own. Push interface: bytes come in pieces of any size.
/// Errors: kInvalid with reason NotCanonical, or CheckTree's. Nothing is reported of a file whose
/// header is refused.
class TarReader {
 public:
  TarReader(TarVisitor& visitor, Limits limits);
  ~TarReader();
  base::Status Push(std::string_view bytes);
  /// The archive must be complete. Returns the digest of all bytes pushed.
  base::Result<base::Sha256Digest> Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Where the content of one file comes from: calls `sink` with pieces that add up to `file.size`
/// bytes.
using ContentReader = std::function<base::Status(const FileEntry& file, const ByteSink& sink)>;

/// What WriteTarFile made.
struct PackedTar {
  std::string digest;       ///< sha256:...
  uint64_t size_bytes = 0;  ///< Of the tar.
};

/// A TarWriter into a file, for content that comes in pushes. The file is removed unless Finish
/// succeeded.
class TarFileWriter {
 public:
  /// Creates or replaces `path`, mode 0600.
  static base::Result<std::unique_ptr<TarFileWriter>> Create(const std::string& path);
  ~TarFileWriter();
  base::Status Begin(const FileEntry& file) { return writer_.Begin(file); }
  base::Status Write(std::string_view bytes) { return writer_.Write(bytes); }
  /// Ends the archive and fsyncs the file.
  base::Result<PackedTar> Finish();

 private:
  TarFileWriter(std::string path, base::UniqueFd fd);
  base::Status Flush();
  std::string path_;
  base::UniqueFd fd_;
  std::string buffer_;
  TarWriter writer_;
  bool finished_ = false;
};

/// Checks and sorts `files`, writes their canonical tar to `path` (created or replaced, fsynced,
/// mode 0600).
base::Result<PackedTar> WriteTarFile(std::vector<FileEntry> files, const Limits& limits,
                                     const ContentReader& content, const std::string& path);
/// The digest alone.
base::Result<std::string> TarDigest(std::vector<FileEntry> files, const Limits& limits,
                                    const ContentReader& content);

}  // namespace bundle
