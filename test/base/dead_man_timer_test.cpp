#include "base/dead_man_timer.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

/// Forks, runs `child`, and returns how it ended.
template <typename F>
int Ending(F child) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    child();
    ::_exit(7);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

base::MonoTime In(int milliseconds) {
  return base::BootClock::Get().Read().mono + base::Millis{milliseconds};
}

}  // namespace

TEST_CASE("a process that is stopped ends where it stands and is never resumed") {
  CHECK(Ending([] {
          base::DeadManTimer timer;
          if (!timer.Open()) ::_exit(1);
          timer.PutOff(In(60'000));
          timer.PutOff(In(50));  // The last word counts.
          ::raise(SIGSTOP);
        }) == -SIGKILL);
}

TEST_CASE("a moment that has passed ends the process at once") {
  CHECK(Ending([] {
          base::DeadManTimer timer;
          if (!timer.Open()) ::_exit(1);
          timer.PutOff(In(-1'000));
          while (true) ::pause();
        }) == -SIGKILL);
}

TEST_CASE("whoever puts it off or disarms it lives") {
  CHECK(Ending([] {
          base::DeadManTimer timer;
          if (!timer.Open()) ::_exit(1);
          timer.PutOff(In(30));
          timer.PutOff(In(60'000));
          ::usleep(60'000);
          timer.PutOff(In(30));
          timer.Disarm();
          ::usleep(60'000);
        }) == 7);
}
