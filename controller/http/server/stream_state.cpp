#include "http/server/stream_state.hpp"

#include <fmt/format.h>

namespace http {

bool StreamState::Write(std::string_view bytes) {
  std::unique_lock lock(mutex_);
  if (!open_) return false;
  if (bytes.empty()) return true;  // An empty chunk would end the body.
  if (unsent_ + bytes.size() > limit_) {
    open_ = false;
    const auto connection = connection_;
    lock.unlock();
    if (connection) connection->AbortStream();
    return false;
  }
  const size_t before = queued_.size();
  if (chunked_) fmt::format_to(std::back_inserter(queued_), "{:x}\r\n", bytes.size());
  queued_.append(bytes);
  if (chunked_) queued_ += "\r\n";
  unsent_ += queued_.size() - before;
  Schedule(lock);
  return true;
}

bool StreamState::AwaitRoom(size_t bytes, base::MonoTime until) {
  std::unique_lock lock(mutex_);
  const bool settled = changed_.wait_until(
      lock, until, [&] { return !open_ || unsent_ == 0 || unsent_ + bytes <= limit_; });
  return settled && open_;
}

void StreamState::Finish() {
  std::unique_lock lock(mutex_);
  if (!open_) return;
  open_ = false;
  finished_ = true;
  changed_.notify_all();
  if (chunked_) queued_ += "0\r\n\r\n";
  Schedule(lock);
}

void StreamState::Abort() {
  std::unique_lock lock(mutex_);
  if (finished_ || closed_) return;
  open_ = false;
  changed_.notify_all();
  const auto connection = connection_;
  lock.unlock();
  if (connection) connection->AbortStream();
}

bool StreamState::Open() const {
  const std::lock_guard lock(mutex_);
  return open_;
}

void StreamState::OnClosed(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) {
      callback_ = std::move(callback);
      return;
    }
  }
  if (callback) callback();
}

void StreamState::Schedule(std::unique_lock<std::mutex>& lock) {
  if (scheduled_ || !connection_) return;
  scheduled_ = true;
  const auto connection = connection_;
  lock.unlock();
  connection->PumpStream();
}

bool StreamState::Pull(std::string& out) {
  const std::lock_guard lock(mutex_);
  scheduled_ = false;
  if (out.empty())
    out.swap(queued_);
  else
    out.append(queued_);
  queued_.clear();
  return finished_;
}

void StreamState::HeadQueued(size_t bytes) {
  const std::lock_guard lock(mutex_);
  unsent_ += bytes;
}

void StreamState::Sent(size_t bytes) {
  const std::lock_guard lock(mutex_);
  unsent_ -= std::min(bytes, unsent_);
  changed_.notify_all();
}

void StreamState::Closed() {
  std::function<void()> callback;
  std::shared_ptr<Connection> connection;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    open_ = false;
    changed_.notify_all();
    callback.swap(callback_);
    connection.swap(connection_);
  }
  if (callback) callback();
}

}  // namespace http
