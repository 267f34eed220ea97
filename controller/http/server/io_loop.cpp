#include "http/server/io_loop.hpp"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/thread_name.hpp"

namespace http {
namespace {

base::MonoTime MonoNow() { return std::chrono::steady_clock::now(); }

}  // namespace

IoLoop::IoLoop(const Durations& durations)
    : durations_(durations),
      now_(MonoNow()),
      scratch_(std::make_unique<std::array<char, 64 << 10>>()) {}

base::Result<std::unique_ptr<IoLoop>> IoLoop::Start(const Durations& durations) {
  std::unique_ptr<IoLoop> loop(new IoLoop(durations));
  loop->epoll_ = base::UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  loop->wake_ = base::UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!loop->epoll_.Valid() || !loop->wake_.Valid())
    return base::ErrnoError(errno, "making the event loop of the HTTP server");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;
  if (::epoll_ctl(loop->epoll_.Get(), EPOLL_CTL_ADD, loop->wake_.Get(), &event) != 0)
    return base::ErrnoError(errno, "making the event loop of the HTTP server");
  loop->thread_ = std::thread([raw = loop.get()] { raw->Run(); });
  return loop;
}

IoLoop::~IoLoop() { Stop(); }

void IoLoop::Stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  PostTask(nullptr);
  thread_.join();
  std::vector<std::unique_ptr<Task>> left;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(tasks_);
  }
}

void IoLoop::PostTask(std::unique_ptr<Task> task) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    if (task) tasks_.push_back(std::move(task));
    wake = !woken_;
    woken_ = true;
  }
  if (!wake) return;
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_.Get(), &one, sizeof one);
}

base::Status IoLoop::Add(int fd, uint32_t events, Watched* watched) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = watched;
  if (::epoll_ctl(epoll_.Get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return base::ErrnoError(errno, "watching a connection");
  return {};
}

void IoLoop::Modify(int fd, uint32_t events, Watched* watched) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = watched;
  ::epoll_ctl(epoll_.Get(), EPOLL_CTL_MOD, fd, &event);
}

void IoLoop::Remove(int fd) { ::epoll_ctl(epoll_.Get(), EPOLL_CTL_DEL, fd, nullptr); }

void IoLoop::Arm(TimerHandle& handle, Deadline kind, Watched* owner) {
  TimerList& to = timers_[static_cast<size_t>(kind)];
  if (handle.kind != Deadline::kCount) {
    to.splice(to.end(), timers_[static_cast<size_t>(handle.kind)], handle.position);
  } else if (!free_timers_.empty()) {
    handle.position = free_timers_.begin();
    to.splice(to.end(), free_timers_, handle.position);
  } else {
    handle.position = to.insert(to.end(), Timer{});
  }
  handle.kind = kind;
  *handle.position = {owner, now_ + durations_[static_cast<size_t>(kind)]};
}

void IoLoop::Disarm(TimerHandle& handle) {
  if (handle.kind == Deadline::kCount) return;
  free_timers_.splice(free_timers_.end(), timers_[static_cast<size_t>(handle.kind)],
                      handle.position);
  handle.kind = Deadline::kCount;
}

int IoLoop::WaitMillis() const {
  base::MonoTime first = base::MonoTime::max();
  for (const TimerList& list : timers_)
    if (!list.empty()) first = std::min(first, list.front().expiry);
  if (first == base::MonoTime::max()) return -1;
  const auto wait = std::chrono::ceil<base::Millis>(first - now_).count();
  return static_cast<int>(std::clamp<int64_t>(wait, 0, 60'000));
}

void IoLoop::ExpireDeadlines() {
  for (TimerList& list : timers_) {
    while (!list.empty() && list.front().expiry <= now_) {
      // To the end first: an owner that neither closes nor re-arms is then asked again one period
      // later, not for ever.
      const size_t kind = static_cast<size_t>(&list - timers_.data());
      list.front().expiry = now_ + durations_[kind] + base::Millis{1};
      list.splice(list.end(), list, list.begin());
      list.back().owner->OnDeadline();
    }
  }
}

bool IoLoop::ExpireFirst(Deadline kind) {
  const TimerList& list = timers_[static_cast<size_t>(kind)];
  if (list.empty()) return false;
  list.front().owner->OnDeadline();
  return true;
}

void IoLoop::RunTasks() {
  uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(wake_.Get(), &count, sizeof count);
  std::vector<std::unique_ptr<Task>> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
    woken_ = false;
  }
  for (auto& task : tasks) {
    task->Run();
    task.reset();
  }
}

void IoLoop::Run() {
  thread_id_ = std::this_thread::get_id();
  sigset_t blocked;
  ::sigfillset(&blocked);  // No signal handler of the program runs here, and no SIGPIPE ends it.
  ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  base::NameThread("http-io");
  std::array<epoll_event, 128> events;
  while (true) {
    const int count = ::epoll_wait(epoll_.Get(), events.data(), events.size(), WaitMillis());
    now_ = MonoNow();
    bool tasks = false;
    for (int i = 0; i < count; ++i) {
      if (events[i].data.ptr == nullptr)
        tasks = true;
      else
        static_cast<Watched*>(events[i].data.ptr)->OnReady(events[i].events);
    }
    if (tasks) RunTasks();
    ExpireDeadlines();
    graveyard_.clear();
    if (stopping_ && tasks) break;
  }
  RunTasks();
  graveyard_.clear();
}

const std::string& IoLoop::Date() {
  if (!date_.empty() && now_ - date_at_ < std::chrono::milliseconds(500)) return date_;
  date_at_ = now_;
  const time_t seconds = ::time(nullptr);
  tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[64];
  // Day and month names of the C locale: strftime would follow the program's locale.
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const int length = ::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT",
                                kDays[parts.tm_wday], parts.tm_mday, kMonths[parts.tm_mon],
                                parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
  date_.assign(text, static_cast<size_t>(length));
  return date_;
}

}  // namespace http
