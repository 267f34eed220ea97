#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "base/file.hpp"
#include "base/result.hpp"

namespace http {

/// Something with a file descriptor that lives on a loop. All its members run on the loop's thread.
class Watched {
 public:
  virtual ~Watched() = default;
  virtual void OnReady(uint32_t epoll_events) = 0;
  virtual void OnDeadline() = 0;
};

/// All deadlines of a kind are equally long, so that a list in order of arming is in order of
/// expiry: arming is a splice.
enum class Deadline { kHead, kBody, kIdle, kWrite, kLinger, kCount };

/// A loop's thread: epoll, a mailbox and deadlines. Not a general reactor: exactly what the server
/// needs, without an allocation or a timer system call per request.
class IoLoop {
 public:
  using Durations = std::array<base::Millis, static_cast<size_t>(Deadline::kCount)>;
  struct Timer {
    Watched* owner = nullptr;
    base::MonoTime expiry{};
  };
  using TimerList = std::list<Timer>;
  /// A place in one of the lists. Owned by the connection.
  struct TimerHandle {
    TimerList::iterator position;
    Deadline kind = Deadline::kCount;  ///< kCount: not armed.
  };

  static base::Result<std::unique_ptr<IoLoop>> Start(const Durations& durations);
  ~IoLoop();

  /// Runs `task` on the loop's thread. Any thread. After Stop it is destroyed unrun.
  template <typename F>
  void Post(F task) {
    PostTask(std::make_unique<TaskOf<F>>(std::move(task)));
  }
  bool OnThread() const { return std::this_thread::get_id() == thread_id_.load(); }
  /// Ends the thread after the tasks that are already posted. Idempotent; not from the loop's
  /// thread.
  void Stop();

  // The rest is for the loop's thread only.
  base::Status Add(int fd, uint32_t events, Watched* watched);
  void Modify(int fd, uint32_t events, Watched* watched);
  void Remove(int fd);
  void Arm(TimerHandle& handle, Deadline kind, Watched* owner);
  void Disarm(TimerHandle& handle);
  /// Ends the wait that would end first of that kind, as if its time were over; false: nobody
  /// waits.
  bool ExpireFirst(Deadline kind);
  base::MonoTime NowCoarse() const { return now_; }
  /// Keeps `owner` alive until the events at hand are worked off.
  void Bury(std::shared_ptr<void> owner) { graveyard_.push_back(std::move(owner)); }
  /// For reads: shared by all connections of the loop.
  std::array<char, 64 << 10>& Scratch() { return *scratch_; }
  /// The Date header's value; refreshed once a second.
  const std::string& Date();

 private:
  struct Task {
    virtual ~Task() = default;
    virtual void Run() = 0;
  };
  template <typename F>
  struct TaskOf final : Task {
    explicit TaskOf(F f) : function(std::move(f)) {}
    void Run() override { function(); }
    F function;
  };

  explicit IoLoop(const Durations& durations);
  void PostTask(std::unique_ptr<Task> task);  ///< Null: only wakes.
  void Run();
  void RunTasks();
  void ExpireDeadlines();
  int WaitMillis() const;

  Durations durations_;
  base::UniqueFd epoll_;
  base::UniqueFd wake_;
  std::array<TimerList, static_cast<size_t>(Deadline::kCount)> timers_;
  TimerList free_timers_;
  base::MonoTime now_{};
  std::vector<std::shared_ptr<void>> graveyard_;
  std::unique_ptr<std::array<char, 64 << 10>> scratch_;
  std::string date_;
  base::MonoTime date_at_{};
  std::mutex mutex_;
  std::vector<std::unique_ptr<Task>> tasks_;  ///< By mutex_.
  bool woken_ = false;                        ///< By mutex_: the eventfd is already set.
  bool closed_ = false;                       ///< By mutex_.
  std::atomic<bool> stopping_{false};
  std::atomic<std::thread::id> thread_id_{};
  std::thread thread_;
};

}  // namespace http
