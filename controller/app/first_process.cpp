#include "app/first_process.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace app {
namespace {

constexpr int kPassedOn[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

/// Reaps all that has ended; ends this process with the worker.
void Reap(pid_t worker) {
  int status = 0;
  for (pid_t ended; (ended = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (ended != worker) continue;
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  }
}

}  // namespace

void LeaveFirstProcess() {
  if (::getpid() != 1) return;
  sigset_t watched, before;
  sigemptyset(&watched);
  sigaddset(&watched, SIGCHLD);
  for (const int number : kPassedOn) sigaddset(&watched, number);
  ::sigprocmask(SIG_BLOCK, &watched, &before);
  const pid_t worker = ::fork();
  if (worker <= 0) {
    // The worker, or a machine without room for one: then this process does the work.
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    if (worker == 0) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    return;
  }
  while (true) {
    const int number = ::sigwaitinfo(&watched, nullptr);
    if (number == SIGCHLD || (number < 0 && errno == EINTR)) {
      Reap(worker);
    } else if (number > 0) {
      ::kill(worker, number);
    }
  }
}

}  // namespace app
