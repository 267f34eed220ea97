#pragma once

#include <time.h>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace base {

/// A kernel timer that ends this process by SIGKILL unless it is put off in time. It runs on
/// CLOCK_BOOTTIME and needs no thread of ours: a process that is stopped (SIGSTOP) dies where it
/// stands and never goes on. Process 1 of a PID namespace is immune: see app/first_process.hpp.
/// Not inherited by children. Calls are thread safe.
class DeadManTimer {
 public:
  DeadManTimer() = default;
  ~DeadManTimer();
  DeadManTimer(const DeadManTimer&) = delete;
  DeadManTimer& operator=(const DeadManTimer&) = delete;

  /// kInternal: the kernel gives no timer.
  Status Open();
  /// From now on the process ends at `at`, a time point of BootClock. Earlier calls are forgotten.
  void PutOff(MonoTime at);
  void Disarm();

 private:
  void Set(MonoTime at);
  bool open_ = false;
  timer_t timer_{};
};

}  // namespace base
