#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "base/file.hpp"
#include "support/temp_folder.hpp"

namespace support {

/// What the process writes to stderr while it lives.
class CapturedLog {
 public:
  CapturedLog()
      : before_(::dup(STDERR_FILENO)),
        file_(::open((folder_ / "log").c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600)) {
    REQUIRE(::dup2(file_, STDERR_FILENO) >= 0);
  }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;
  ~CapturedLog() {
    ::dup2(before_, STDERR_FILENO);
    ::close(before_);
    ::close(file_);
  }
  std::string Text() const { return base::ReadFile(folder_ / "log", 1 << 16).value_or(""); }

 private:
  TempFolder folder_;
  int before_;
  int file_;
};

}  // namespace support
