#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "http/client/line.hpp"

/// Inside this folder only.
namespace http {

/// Connections whose last answer has ended and that may carry another request. Thread safe.
class KeptLines {
 public:
  /// More than `most` are not kept: what comes then is closed.
  explicit KeptLines(size_t most) : most_(most) {}

  /// The one that was used last and that its peer has not closed in the meantime, or null.
  std::unique_ptr<Line> Take() {
    const std::lock_guard lock(mutex_);
    while (!lines_.empty()) {
      auto line = std::move(lines_.back());
      lines_.pop_back();
      if (line->Quiet()) return line;
    }
    return nullptr;
  }
  void Put(std::unique_ptr<Line> line) {
    const std::lock_guard lock(mutex_);
    if (lines_.size() < most_) lines_.push_back(std::move(line));
  }

 private:
  const size_t most_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Line>> lines_;
};

}  // namespace http
