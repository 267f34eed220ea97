#include "bundle/folder.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "base/sha256.hpp"

namespace bundle {
namespace {

constexpr int kFolderFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr int kMaxDepth = 256;

base::Error LinkError(const std::string& what) {
  return base::MakeError(
      base::Code::kInvalid,
      fmt::format("{} is a symbolic link; links are never followed in a box, remove it", what),
      "LinkNotAllowed");
}

bool IsLink(int fd, const char* name) {
  struct stat info {};
  return ::fstatat(fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode);
}

base::Error OpenError(int fd, const std::string& name, int error_number, const std::string& what) {
  if ((error_number == ELOOP || error_number == ENOTDIR) && IsLink(fd, name.c_str()))
    return LinkError(what);
  return base::ErrnoError(error_number, "open " + what);
}

base::Error MoveError(int error_number, const std::string& what) {
  if (error_number == EXDEV)
    return base::MakeError(base::Code::kInvalid,
                           what + ": they are on different file systems; mount `configs` as one",
                           "StagingOnOtherFileSystem");
  return base::ErrnoError(error_number, what);
}

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

base::Result<std::vector<std::string>> ListNames(int fd, const std::string& text, size_t limit) {
  base::UniqueFd copy(::openat(fd, ".", kFolderFlags));
  if (!copy.Valid()) return base::ErrnoError(errno, "list " + text);
  const std::unique_ptr<DIR, CloseDir> dir(::fdopendir(copy.Get()));
  if (!dir) return base::ErrnoError(errno, "list " + text);
  copy.Release();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (names.size() >= limit)
      return base::MakeError(base::Code::kInvalid,
                             fmt::format("{} has more than {} entries", text, limit),
                             "TooManyEntries");
    names.emplace_back(name);
  }
  if (errno != 0) return base::ErrnoError(errno, "list " + text);
  std::sort(names.begin(), names.end());
  return names;
}

/// Empties and removes `name` in `parent`. Only what is really a folder is entered.
base::Status RemoveBeneath(int parent, const std::string& name, const std::string& text,
                           int depth) {
  if (::unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return base::ErrnoError(errno, "remove " + text);
  if (depth > kMaxDepth)
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("remove {}: deeper than {} levels", text, kMaxDepth),
                           "TooDeep");
  base::UniqueFd fd(::openat(parent, name.c_str(), kFolderFlags));
  if (!fd.Valid() && errno == EACCES && ::fchmodat(parent, name.c_str(), 0700, 0) == 0)
    fd = base::UniqueFd(::openat(parent, name.c_str(), kFolderFlags));
  if (!fd.Valid())
    return errno == ENOENT ? base::Status{}
                           : base::Status(base::ErrnoError(errno, "remove " + text));
  auto names = ListNames(fd.Get(), text, 1'000'000);
  if (!names) return names.error();
  for (const std::string& child : *names)
    if (auto ok = RemoveBeneath(fd.Get(), child, text + "/" + child, depth + 1); !ok) return ok;
  if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return base::ErrnoError(errno, "remove " + text);
  return {};
}

}  // namespace

struct Folder::Parent {
  Folder folder;
  std::string name;
};

base::Result<Folder> Folder::Open(const std::string& path) {
  Folder out;
  out.text_ = path;
  out.fd_ = base::UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat info {};
  if (!out.fd_.Valid() || ::fstat(out.Fd(), &info) != 0)
    return base::ErrnoError(errno, "open folder " + path);
  out.owner_ = info.st_uid;
  out.group_ = info.st_gid;
  return out;
}

base::Result<Folder> Folder::OpenBeneath(std::string_view root, const std::string& path) {
  if (root.empty()) return Open(path);
  while (root.size() > 1 && root.back() == '/') root.remove_suffix(1);
  std::string_view rest = path;
  if (!rest.starts_with(root) ||
      (root != "/" && rest.size() > root.size() && rest[root.size()] != '/'))
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("open folder {}: it is not beneath {}", path, root),
                           "NameNotAllowed");
  auto folder = Open(std::string(root));
  rest.remove_prefix(root.size());
  if (rest.starts_with('/')) rest.remove_prefix(1);
  if (!folder) return folder;
  return folder->Sub(rest);
}

base::Result<Folder> Folder::Sub(std::string_view path, bool make) const {
  Folder at;
  at.owner_ = owner_;
  at.group_ = group_;
  at.text_ = text_;
  at.fd_ = base::UniqueFd(::openat(Fd(), ".", kFolderFlags));
  if (!at.fd_.Valid()) return base::ErrnoError(errno, "open folder " + text_);
  while (!path.empty() && path != ".") {
    const size_t slash = path.find('/');
    const std::string name(path.substr(0, slash));
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
    if (name.empty() || name == "." || name == "..")
      return base::MakeError(base::Code::kInvalid,
                             fmt::format("{}: `{}` is no plain path segment", at.text_, name),
                             "NameNotAllowed");
    at.text_ += "/" + name;
    const bool made = make && ::mkdirat(at.Fd(), name.c_str(), 0755) == 0;
    if (make && !made && errno != EEXIST) return base::ErrnoError(errno, "make folder " + at.text_);
    base::UniqueFd next(::openat(at.Fd(), name.c_str(), kFolderFlags));
    if (!next.Valid()) return OpenError(at.Fd(), name, errno, at.text_);
    if (made && ::geteuid() == 0 && owner_ != 0 && ::fchown(next.Get(), owner_, group_) != 0)
      return base::ErrnoError(errno, "give " + at.text_ + " to the box's owner");
    at.fd_ = std::move(next);
  }
  return at;
}

base::Result<Folder::Parent> Folder::FindParent(std::string_view path, bool make) const {
  const size_t slash = path.rfind('/');
  auto folder = Sub(slash == std::string_view::npos ? "." : path.substr(0, slash), make);
  if (!folder) return folder.error();
  std::string name(slash == std::string_view::npos ? path : path.substr(slash + 1));
  if (name.empty() || name == "." || name == "..")
    return base::MakeError(base::Code::kInvalid, fmt::format("{}/{}: no plain name", text_, path),
                           "NameNotAllowed");
  return Parent{*std::move(folder), std::move(name)};
}

base::Result<struct stat> Folder::Stat(std::string_view path) const {
  auto parent = FindParent(path, false);
  if (!parent) return parent.error();
  struct stat info {};
  if (::fstatat(parent->folder.Fd(), parent->name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
    return base::ErrnoError(errno, fmt::format("look at {}/{}", text_, path));
  return info;
}

base::Result<base::UniqueFd> Folder::OpenFile(std::string_view path) const {
  auto parent = FindParent(path, false);
  if (!parent) return parent.error();
  const std::string what = fmt::format("{}/{}", text_, path);
  // O_NONBLOCK: a pipe planted under this name must not hold us up.
  base::UniqueFd fd(::openat(parent->folder.Fd(), parent->name.c_str(),
                             O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.Valid()) return OpenError(parent->folder.Fd(), parent->name, errno, what);
  struct stat info {};
  if (::fstat(fd.Get(), &info) != 0) return base::ErrnoError(errno, "look at " + what);
  if (!S_ISREG(info.st_mode))
    return base::MakeError(base::Code::kInvalid, what + " is no regular file", "NameNotAllowed");
  return fd;
}

base::Result<std::string> Folder::Read(std::string_view path, size_t limit) const {
  auto fd = OpenFile(path);
  if (!fd) return fd.error();
  std::string out;
  char buffer[16384];
  for (;;) {
    const ssize_t n = ::read(fd->Get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::ErrnoError(errno, fmt::format("read {}/{}", text_, path));
    if (n == 0) return out;
    if (out.size() + static_cast<size_t>(n) > limit)
      return base::MakeError(base::Code::kInvalid,
                             fmt::format("{}/{} has more than {} bytes", text_, path, limit),
                             "TooLarge");
    out.append(buffer, static_cast<size_t>(n));
  }
}

base::Result<base::UniqueFd> Folder::Create(std::string_view path, mode_t mode) const {
  auto parent = FindParent(path, true);
  if (!parent) return parent.error();
  const std::string what = fmt::format("create {}/{}", text_, path);
  base::UniqueFd fd(::openat(parent->folder.Fd(), parent->name.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.Valid()) return base::ErrnoError(errno, what);
  if (::fchmod(fd.Get(), mode) != 0) return base::ErrnoError(errno, what);
  if (::geteuid() == 0 && owner_ != 0 && ::fchown(fd.Get(), owner_, group_) != 0)
    return base::ErrnoError(errno, what);
  return fd;
}

base::Status Folder::WriteAtomic(std::string_view path, std::string_view bytes, mode_t mode) const {
  auto parent = FindParent(path, false);
  if (!parent) return parent.error();
  const Folder& folder = parent->folder;
  const std::string temporary =
      fmt::format(".{}.{}.tmp", parent->name.substr(0, 200), base::RandomUuid().substr(0, 8));
  auto fd = folder.Create(temporary, mode);
  if (!fd) return fd.error();
  const auto fail = [&](int error_number) -> base::Status {
    ::unlinkat(folder.Fd(), temporary.c_str(), 0);
    return base::ErrnoError(error_number, fmt::format("write {}/{}", text_, path));
  };
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd->Get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(errno);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  if (::fsync(fd->Get()) != 0) return fail(errno);
  if (::renameat(folder.Fd(), temporary.c_str(), folder.Fd(), parent->name.c_str()) != 0)
    return fail(errno);
  return folder.Sync();
}

base::Status Folder::Rename(std::string_view from, const Folder& target,
                            std::string_view to) const {
  auto source = FindParent(from, false);
  if (!source) return source.error();
  auto sink = target.FindParent(to, false);
  if (!sink) return sink.error();
  const long done = ::syscall(SYS_renameat2, source->folder.Fd(), source->name.c_str(),
                              sink->folder.Fd(), sink->name.c_str(), 0);
  if (done != 0)
    return MoveError(errno, fmt::format("rename {}/{} to {}/{}", text_, from, target.text_, to));
  if (auto ok = source->folder.Sync(); !ok) return ok;
  return sink->folder.Sync();
}

base::Status Folder::Exchange(std::string_view path, const Folder& other,
                              std::string_view other_path) const {
  auto a = FindParent(path, false);
  if (!a) return a.error();
  auto b = other.FindParent(other_path, false);
  if (!b) return b.error();
  if (::syscall(SYS_renameat2, a->folder.Fd(), a->name.c_str(), b->folder.Fd(), b->name.c_str(),
                RENAME_EXCHANGE) != 0) {
    const std::string what =
        fmt::format("swap {}/{} and {}/{}", text_, path, other.text_, other_path);
    if (errno == EINVAL || errno == ENOSYS)
      return base::MakeError(base::Code::kInvalid, what + ": this file system cannot",
                             "ExchangeUnsupported");
    return MoveError(errno, what);
  }
  if (auto ok = a->folder.Sync(); !ok) return ok;
  return b->folder.Sync();
}

base::Status Folder::Unlink(std::string_view path) const {
  auto parent = FindParent(path, false);
  if (!parent)
    return parent.error().code == base::Code::kNotFound ? base::Status{}
                                                        : base::Status(parent.error());
  if (::unlinkat(parent->folder.Fd(), parent->name.c_str(), 0) != 0) {
    if (errno == ENOENT) return {};
    return base::ErrnoError(errno, fmt::format("remove {}/{}", text_, path));
  }
  return parent->folder.Sync();
}

base::Status Folder::RemoveTree(std::string_view path) const {
  auto parent = FindParent(path, false);
  if (!parent)
    return parent.error().code == base::Code::kNotFound ? base::Status{}
                                                        : base::Status(parent.error());
  return RemoveBeneath(parent->folder.Fd(), parent->name, fmt::format("{}/{}", text_, path), 0);
}

base::Result<std::vector<std::string>> Folder::List(size_t limit) const {
  return ListNames(Fd(), text_, limit);
}

base::Status Folder::Sync() const {
  if (::fsync(Fd()) != 0) return base::ErrnoError(errno, "fsync " + text_);
  return {};
}

namespace {

base::Status Walk(const Folder& folder, const std::string& prefix, size_t depth,
                  const Limits& limits, const PathFilter& skip, std::vector<FileEntry>* out) {
  if (depth > limits.depth)
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("{}: deeper than {} levels", folder.Text(), limits.depth),
                           "TooDeep");
  auto names = folder.List(limits.entries);
  if (!names) return names.error();
  for (const std::string& name : *names) {
    struct stat info {};
    if (::fstatat(folder.Fd(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return base::ErrnoError(errno, fmt::format("look at {}/{}", folder.Text(), name));
    }
    const std::string path = prefix + name;
    if (skip && skip(path, S_ISDIR(info.st_mode))) continue;
    const std::string what = fmt::format("{}/{}", folder.Text(), Printable(name));
    if (S_ISLNK(info.st_mode)) return LinkError(what);
    if (S_ISDIR(info.st_mode)) {
      auto sub = folder.Sub(name);
      if (!sub) return sub.error();
      if (auto ok = Walk(*sub, path + "/", depth + 1, limits, skip, out); !ok) return ok;
      continue;
    }
    if (!S_ISREG(info.st_mode))
      return base::MakeError(base::Code::kInvalid, what + " is a device, pipe or socket",
                             "NameNotAllowed");
    if (out->size() >= limits.entries)
      return base::MakeError(base::Code::kInvalid,
                             fmt::format("{}: more than {} files", folder.Text(), limits.entries),
                             "TooManyEntries");
    out->push_back({path, static_cast<uint64_t>(info.st_size), (info.st_mode & 0100) != 0});
  }
  return {};
}

}  // namespace

base::Result<std::vector<FileEntry>> ListFiles(const Folder& tree, const Limits& limits,
                                               const PathFilter& skip) {
  std::vector<FileEntry> out;
  if (auto ok = Walk(tree, "", 1, limits, skip, &out); !ok) return ok.error();
  std::sort(out.begin(), out.end(),
            [](const FileEntry& a, const FileEntry& b) { return a.path < b.path; });
  return out;
}

ContentReader ContentOf(const Folder& tree) {
  return [&tree](const FileEntry& file, const ByteSink& sink) -> base::Status {
    auto fd = tree.OpenFile(file.path);
    if (!fd) return fd.error();
    char buffer[65536];
    for (uint64_t left = file.size;;) {
      const ssize_t n = ::read(fd->Get(), buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return base::ErrnoError(errno, fmt::format("read {}/{}", tree.Text(), file.path));
      if (static_cast<uint64_t>(n) > left || (n == 0 && left != 0))
        return base::MakeError(
            base::Code::kConflict,
            fmt::format("{}/{} changed while it was read", tree.Text(), file.path),
            "ContentChanged");
      if (n == 0) return {};
      left -= static_cast<uint64_t>(n);
      if (auto ok = sink({buffer, static_cast<size_t>(n)}); !ok) return ok;
    }
  };
}

}  // namespace bundle
