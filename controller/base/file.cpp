#include "base/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/sha256.hpp"

namespace base {

void UniqueFd::Reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Error ErrnoError(int error_number, std::string_view what) {
  Code code = Code::kInternal;
  std::string reason;
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      code = Code::kNotFound;
      break;
    case EACCES:
    case EPERM:
      code = Code::kForbidden;
      break;
    case EEXIST:
    case ENOTEMPTY:
      code = Code::kAlreadyExists;
      break;
    case ENOSPC:
    case EDQUOT:
      code = Code::kUnavailable;
      reason = "NoSpace";
      break;
    case EROFS:
      code = Code::kUnavailable;
      reason = "ReadOnly";
      break;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
    case EIO:
      code = Code::kUnavailable;
      break;
    default:
      break;
  }
  return MakeError(code, fmt::format("{}: {}", what, std::strerror(error_number)),
                   std::move(reason));
}

Result<std::string> ReadFile(const std::string& path, size_t limit) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.Valid()) return ErrnoError(errno, "read " + path);
  std::string out;
  char buffer[16384];
  for (;;) {
    const ssize_t n = ::read(fd.Get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(errno, "read " + path);
    if (n == 0) return out;
    if (out.size() + static_cast<size_t>(n) > limit)
      return MakeError(Code::kInvalid, fmt::format("read {}: more than {} bytes", path, limit),
                       "TooLarge");
    out.append(buffer, static_cast<size_t>(n));
  }
}

Status WriteFileAtomic(const std::string& path, std::string_view bytes, unsigned mode) {
  const std::string temporary = fmt::format("{}.{}.tmp", path, RandomUuid().substr(0, 8));
  UniqueFd fd(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd.Valid()) return ErrnoError(errno, "create " + temporary);
  const auto fail = [&](std::string_view what) -> Status {
    const Error error = ErrnoError(errno, fmt::format("{} {}", what, temporary));
    ::unlink(temporary.c_str());
    return error;
  };
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::write(fd.Get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail("write");
    done += static_cast<size_t>(n);
  }
  if (::fchmod(fd.Get(), mode) != 0) return fail("chmod");
  if (::fsync(fd.Get()) != 0) return fail("fsync");
  if (::rename(temporary.c_str(), path.c_str()) != 0) return fail("rename");
  const size_t slash = path.rfind('/');
  return SyncDirectory(slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash));
}

Status MakeDirectories(const std::string& path, unsigned mode) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (!part.empty() && ::mkdir(part.c_str(), mode) != 0 && errno != EEXIST)
      return ErrnoError(errno, "make folder " + part);
    if (slash == std::string::npos) break;
  }
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return ErrnoError(errno, "make folder " + path);
  if (!S_ISDIR(info.st_mode)) return ErrnoError(ENOTDIR, "make folder " + path);
  return {};
}

Status SyncDirectory(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.Valid()) return ErrnoError(errno, "open folder " + path);
  if (::fsync(fd.Get()) != 0) return ErrnoError(errno, "fsync folder " + path);
  return {};
}

}  // namespace base
