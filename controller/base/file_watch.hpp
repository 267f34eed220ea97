#pragma once

#include <stop_token>
#include <string>

#include "base/clock.hpp"
#include "base/file.hpp"

namespace base {

/// Waits for changes of one file (inotify on its folder), whichever way it is replaced: written and
/// closed, renamed over, or by the symlink that a mounted ConfigMap swaps. One thread.
class FileWatch {
 public:
  explicit FileWatch(const std::string& path);
  /// Until something in the folder may have changed, `longest` is over (then the file should be
  /// looked at all the same: a link's target may lie elsewhere), or a stop: then false. Without
  /// inotify, because the kernel's limits are reached, every wait ends after two seconds.
  bool Wait(Millis longest, const std::stop_token& stop);

 private:
  UniqueFd notify_;
  UniqueFd stopped_;
};

}  // namespace base
