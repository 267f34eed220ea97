#include "base/file_watch.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/log.hpp"

namespace base {
namespace {

constexpr Millis kWithoutNotice{2'000};

void Drain(int fd) {
  char bytes[4096];
  while (::read(fd, bytes, sizeof bytes) > 0) {
  }
}

}  // namespace

FileWatch::FileWatch(const std::string& path)
    : notify_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)),
      stopped_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  std::string folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  // Not IN_CREATE and IN_MODIFY: a file that is still being written says half of what it will.
  constexpr uint32_t kChanges = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE;
  if (notify_.Valid() && ::inotify_add_watch(notify_.Get(), folder.c_str(), kChanges) < 0)
    notify_.Reset();
  if (!notify_.Valid())
    LogWarning("changes of a file are looked for every two seconds: no inotify", {{"file", path}});
}

bool FileWatch::Wait(Millis longest, const std::stop_token& stop) {
  if (!notify_.Valid()) longest = std::min(longest, kWithoutNotice);
  const std::stop_callback wake(stop, [this] {
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(stopped_.Get(), &one, sizeof one);
  });
  pollfd waited[] = {{stopped_.Get(), POLLIN, 0}, {notify_.Get(), POLLIN, 0}};
  const int most = static_cast<int>(std::clamp<int64_t>(longest.count(), 0, 3'600'000));
  // A file descriptor below 0 is skipped.
  if (!stop.stop_requested() && ::poll(waited, 2, most) < 0 && errno != EINTR) return false;
  if (notify_.Valid()) Drain(notify_.Get());
  return !stop.stop_requested();
}

}  // namespace base
