#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <cerrno>
#include <thread>

#include "agent/agent.hpp"
#include "base/log.hpp"
#include "base/thread_name.hpp"

namespace agent {

int RunUntilSignalled(AgentOptions options) {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  // Blocked before any thread begins, so that only the thread below takes them.
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);  // NOLINT: a write to a closed connection is an error value
  std::atomic<bool> restart{false};
  options.restart_signal = &restart;
  std::stop_source stop;
  std::jthread listener([&](std::stop_token own) {
    base::NameThread("signals");
    const timespec turn{0, 100'000'000};
    while (!own.stop_requested()) {
      const int number = ::sigtimedwait(&set, nullptr, &turn);
      if (number == SIGHUP) restart = true;
      if (number == SIGTERM || number == SIGINT) stop.request_stop();
    }
  });
  return Run(options, stop.get_token());
}

}  // namespace agent
