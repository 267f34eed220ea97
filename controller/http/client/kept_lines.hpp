#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "http/client/answer_reader.hpp"
#include "http/client/line.hpp"

/// Inside this folder only.
namespace http {

/// Connections to one server whose last answer has ended and that may carry another request. Thread
/// safe.
class KeptLines {
 public:
  /// More than `most` are not kept: what comes then is closed.
  KeptLines(DirectServer server, size_t most) : server_(std::move(server)), most_(most) {}

  const DirectServer& Server() const { return server_; }

  /// The one that was used last and that its peer has not closed in the meantime, or a new one; the
  /// errors are Line::Dial()'s.
  base::Result<std::unique_ptr<Line>> TakeOrDial(const std::string& what, Line::Until until,
                                                 const std::stop_token& stop) {
    if (auto line = Take()) return line;
    return Line::Dial(server_, what, until, stop);
  }
  /// Keeps a line whose call was not stopped, if its answer ended in order; else it is closed.
  void PutBack(std::unique_ptr<Line> line, const AnswerReader& reader,
               const std::stop_token& stop) {
    if (!reader.MayGoOn() || stop.stop_requested()) return;
    const std::lock_guard lock(mutex_);
    if (lines_.size() < most_) lines_.push_back(std::move(line));
  }

 private:
  std::unique_ptr<Line> Take() {
    const std::lock_guard lock(mutex_);
    while (!lines_.empty()) {
      auto line = std::move(lines_.back());
      lines_.pop_back();
      if (line->Quiet()) return line;
    }
    return nullptr;
  }

  const DirectServer server_;
  const size_t most_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Line>> lines_;
};

}  // namespace http
