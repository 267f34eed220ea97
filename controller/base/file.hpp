#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace base {

/// An owned file descriptor.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd() { Reset(); }
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      Reset();
      fd_ = other.Release();
    }
    return *this;
  }
  int Get() const { return fd_; }
  bool Valid() const { return fd_ >= 0; }
  int Release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void Reset();

 private:
  int fd_ = -1;
};

/// The error of a failed system call, with the remedy-bearing reasons NoSpace (ENOSPC, EDQUOT) and
/// ReadOnly (EROFS); `what` says what was attempted on which path. Code: not_found, forbidden,
/// already_exists, unavailable or internal by errno.
Error ErrnoError(int error_number, std::string_view what);

/// Reads a whole file; more than `limit` bytes is kInvalid.
Result<std::string> ReadFile(const std::string& path, size_t limit);
/// Writes `bytes` to `path` atomically: temporary file beside it, fsync, rename, fsync of the
/// folder. `mode` e.g. 0600.
Status WriteFileAtomic(const std::string& path, std::string_view bytes, unsigned mode);
/// mkdir -p with `mode` for what is made.
Status MakeDirectories(const std::string& path, unsigned mode);
Status SyncDirectory(const std::string& path);

}  // namespace base
