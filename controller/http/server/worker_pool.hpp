#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "base/clock.hpp"

namespace http {

/// A bounded pool for handlers that may block.
class WorkerPool {
 public:
  using Work = std::function<void()>;
  WorkerPool(int threads, size_t limit);
  ~WorkerPool();
  /// False if `limit` pieces of work are queued or running, or the pool is stopped.
  bool Submit(Work work);
  bool Full() const;
  /// Waits until nothing is queued or running; false at the deadline.
  bool WaitIdle(base::MonoTime deadline);
  /// Drops what is queued and joins the threads; those still in a handler at the deadline are left
  /// behind (false).
  bool Stop(base::MonoTime deadline);

 private:
  /// Shared with the threads, which may outlive the pool.
  struct State {
    mutable std::mutex mutex;
    std::condition_variable work_ready;
    std::condition_variable changed;
    std::deque<Work> queue;
    size_t running = 0;
    size_t threads = 0;
    size_t limit = 0;
    bool stopped = false;
  };
  static void Run(const std::shared_ptr<State>& state);
  std::shared_ptr<State> state_;
};

}  // namespace http
