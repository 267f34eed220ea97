#include "box/agent_log.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "bundle/folder.hpp"

namespace box {
namespace {

struct Place {
  bundle::Folder folder;
  std::string name;
};

base::Result<Place> PlaceOf(const std::string& path, const std::string& links_end_at) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos)
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("log of an agent `{}` is no absolute path", path));
  auto folder = bundle::Folder::OpenBeneath(links_end_at, path.substr(0, slash));
  if (!folder) return folder.error();
  return Place{*std::move(folder), path.substr(slash + 1)};
}

base::Result<base::UniqueFd> OpenRegular(const Place& place, int flags, const std::string& path) {
  // O_NONBLOCK: a pipe planted under this name must not hold us up.
  base::UniqueFd fd(::openat(place.folder.Fd(), place.name.c_str(),
                             flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0640));
  if (!fd.Valid() && errno == ELOOP)
    return base::MakeError(base::Code::kInvalid,
                           path + " is a symbolic link; an agent's log must be a file, remove it",
                           "LinkNotAllowed");
  struct stat info {};
  if (!fd.Valid() || ::fstat(fd.Get(), &info) != 0) return base::ErrnoError(errno, "open " + path);
  if (!S_ISREG(info.st_mode))
    return base::MakeError(base::Code::kInvalid,
                           path + " is no regular file; an agent's log must be one, remove it",
                           "NameNotAllowed");
  return fd;
}

/// The last `limit` bytes, from the first line that is whole.
base::Result<std::string> ReadEnd(const base::UniqueFd& fd, off_t size, size_t limit) {
  std::string out(limit, '\0');
  size_t have = 0;
  while (have < limit) {
    const ssize_t n = ::pread(fd.Get(), out.data() + have, limit - have,
                              size - static_cast<off_t>(limit) + static_cast<off_t>(have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::ErrnoError(errno, "read the log of an agent");
    if (n == 0) break;
    have += static_cast<size_t>(n);
  }
  out.resize(have);
  if (const size_t end = out.find('\n'); end != std::string::npos) out.erase(0, end + 1);
  return out;
}

}  // namespace

base::Result<base::UniqueFd> OpenAgentLog(const std::string& path,
                                          const std::string& links_end_at) {
  const auto place = PlaceOf(path, links_end_at);
  if (!place) return place.error();
  return OpenRegular(*place, O_WRONLY | O_CREAT | O_APPEND, path);
}

base::Status BoundAgentLog(const std::string& path, const std::string& links_end_at, size_t limit) {
  const auto place = PlaceOf(path, links_end_at);
  if (!place)
    return place.error().code == base::Code::kNotFound ? base::Status{}
                                                       : base::Status(place.error());
  const auto fd = OpenRegular(*place, O_RDWR, path);
  if (!fd)
    return fd.error().code == base::Code::kNotFound ? base::Status{} : base::Status(fd.error());
  struct stat info {};
  if (::fstat(fd->Get(), &info) != 0) return base::ErrnoError(errno, "look at " + path);
  if (info.st_size <= static_cast<off_t>(limit)) return {};
  const auto end = ReadEnd(*fd, info.st_size, limit);
  const base::Status kept =
      end ? place->folder.WriteAtomic(place->name + ".1", *end, 0640) : base::Status(end.error());
  if (::ftruncate(fd->Get(), 0) != 0) return base::ErrnoError(errno, "empty " + path);
  return kept;
}

}  // namespace box
