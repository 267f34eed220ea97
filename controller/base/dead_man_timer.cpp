#include "base/dead_man_timer.hpp"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace base {

DeadManTimer::~DeadManTimer() {
  if (open_) ::timer_delete(timer_);
}

Status DeadManTimer::Open() {
  if (open_) return {};
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGKILL;
  if (::timer_create(CLOCK_BOOTTIME, &event, &timer_) != 0)
    return MakeError(Code::kInternal,
                     std::string("make a timer on CLOCK_BOOTTIME: ") + std::strerror(errno));
  open_ = true;
  return {};
}

void DeadManTimer::Set(MonoTime at) {
  if (!open_) return;
  const auto since = at.time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
  itimerspec when{};
  when.it_value.tv_sec = seconds.count();
  when.it_value.tv_nsec = (since - seconds).count();
  ::timer_settime(timer_, TIMER_ABSTIME, &when, nullptr);
}

void DeadManTimer::PutOff(MonoTime at) {
  // Zero would disarm it.
  Set(std::max(at, MonoTime{std::chrono::nanoseconds{1}}));
}

void DeadManTimer::Disarm() { Set(MonoTime{}); }

}  // namespace base
