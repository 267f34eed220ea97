#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "http/server/connection.hpp"
#include "http/server/server.hpp"

namespace http {

/// What a streaming handler and its connection share.
class StreamState {
 public:
  StreamState(std::shared_ptr<Connection> connection, size_t limit, bool chunked)
      : connection_(std::move(connection)), limit_(limit), chunked_(chunked) {}

  // The handler's side.
  bool Write(std::string_view bytes);
  bool AwaitRoom(size_t bytes, base::MonoTime until);
  void Finish();
  void Abort();
  bool Open() const;
  void OnClosed(std::function<void()> callback);

  // The connection's side, on its loop.
  /// Moves what is queued behind `out`; true if nothing will come after it (the body's end is
  /// included).
  bool Pull(std::string& out);
  void Sent(size_t bytes);
  void HeadQueued(size_t bytes);
  void Closed();

 private:
  void Schedule(std::unique_lock<std::mutex>& lock);

  mutable std::mutex mutex_;
  std::condition_variable changed_;         ///< Bytes have left, or the stream is over.
  std::shared_ptr<Connection> connection_;  ///< Null when closed.
  const size_t limit_;
  const bool chunked_;
  std::string queued_;
  size_t unsent_ = 0;
  bool open_ = true;
  bool finished_ = false;
  bool scheduled_ = false;
  bool closed_ = false;
  std::function<void()> callback_;
};

/// The handle that a handler holds: dropping it unfinished cuts the connection.
class StreamHandle final : public ResponseStream {
 public:
  explicit StreamHandle(std::shared_ptr<StreamState> state) : state_(std::move(state)) {}
  ~StreamHandle() override { state_->Abort(); }
  bool Write(std::string bytes) override { return state_->Write(bytes); }
  bool AwaitRoom(size_t bytes, base::MonoTime until) override {
    return state_->AwaitRoom(bytes, until);
  }
  bool Open() const override { return state_->Open(); }
  void Finish() override { state_->Finish(); }
  void OnClosed(std::function<void()> callback) override { state_->OnClosed(std::move(callback)); }

 private:
  std::shared_ptr<StreamState> state_;
};

}  // namespace http
