#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "base/clock.hpp"
#include "protocol/answer.hpp"
#include "protocol/heartbeat.hpp"

/// Private to agent/: what its two threads (supervisor and reporter) tell each other.
namespace agent {

class SharedState {
 public:
  struct View {
    std::string boot_id;
    bool runtime_running = false;
    std::string runtime_trouble;  ///< Why it does not run, or ended last; empty: all is well.
    std::optional<protocol::BootInstall> boot_install;
    uint64_t news = 0;  ///< Grows with each change that is worth a heartbeat at once.
  };
  struct Answered {
    protocol::HeartbeatAnswer answer;
    uint64_t number = 0;  ///< Grows with each answer; 0: none yet.
  };

  View Get() const {
    const std::lock_guard lock(mutex_);
    return view_;
  }
  Answered LastAnswer() const {
    const std::lock_guard lock(mutex_);
    return answered_;
  }
  /// Changes the view and has it reported at once.
  template <typename Edit>
  void Update(const Edit& edit) {
    const std::lock_guard lock(mutex_);
    edit(view_);
    ++view_.news;
    changed_.notify_all();
  }
  void PutAnswer(protocol::HeartbeatAnswer answer) {
    const std::lock_guard lock(mutex_);
    answered_.answer = std::move(answer);
    ++answered_.number;
    changed_.notify_all();
  }
  /// Waits until there is news beyond `seen`, the time is over, or a stop.
  void AwaitNews(uint64_t seen, base::Millis time, std::stop_token stop) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, time, [&] { return view_.news > seen; });
  }
  /// Waits until there is an answer beyond `seen`, the time is over, or a stop.
  void AwaitAnswer(uint64_t seen, base::Millis time, std::stop_token stop) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, time, [&] { return answered_.number > seen; });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  View view_;
  Answered answered_;
};

}  // namespace agent
