#include "base/child_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/file.hpp"

namespace base {
namespace {

struct Pipe {
  UniqueFd read, write;
};

Result<Pipe> MakePipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return ErrnoError(errno, "make a pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

std::string FindProgram(const Command& command) {
  const std::string& name = command.argv[0];
  if (name.find('/') != std::string::npos) return name;
  const auto path = command.environment.find("PATH");
  std::string_view rest = path == command.environment.end() ? "/usr/local/bin:/usr/bin:/bin"
                                                            : std::string_view(path->second);
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    const std::string candidate = std::string(rest.substr(0, colon)) + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    rest = colon == std::string_view::npos ? "" : rest.substr(colon + 1);
  }
  return "";
}

void Limit(int resource, uint64_t value) {
  if (value == 0) return;
  const rlimit limit{value, value};
  ::setrlimit(static_cast<__rlimit_resource>(resource), &limit);
}

/// Everything the child needs, prepared before fork: only async-signal-safe calls follow it.
struct Prepared {
  std::string program;
  std::vector<char*> argv, envp;
  std::vector<std::string> env_text;
};

Result<Prepared> Prepare(const Command& command) {
  if (command.argv.empty())
    return MakeError(Code::kInvalid, "run a program: empty argument vector");
  Prepared out;
  out.program = FindProgram(command);
  if (out.program.empty() || ::access(out.program.c_str(), X_OK) != 0)
    return MakeError(Code::kNotFound, fmt::format("run {}: no such program", command.argv[0]),
                     "ProgramNotFound");
  for (const std::string& a : command.argv) out.argv.push_back(const_cast<char*>(a.c_str()));
  out.argv.push_back(nullptr);
  for (const auto& [key, value] : command.environment) out.env_text.push_back(key + "=" + value);
  for (std::string& e : out.env_text) out.envp.push_back(e.data());
  out.envp.push_back(nullptr);
  return out;
}

/// fork with all signals blocked in the child until it has dropped our handlers: a signal that
/// arrives before exec must not run them there (a handler that writes to a shared pipe would stop
/// the parent).
pid_t ForkQuiet() {
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  const int problem = errno;
  if (pid != 0) ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = problem;
  return pid;
}

[[noreturn]] void ExecChild(const Command& command, const Prepared& prepared, int in, int out,
                            int err) {
  ::setpgid(0, 0);
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (in >= 0) ::dup2(in, 0);
  if (out >= 0) ::dup2(out, 1);
  if (err >= 0) ::dup2(err, 2);
  Limit(RLIMIT_AS, command.memory_limit);
  Limit(RLIMIT_FSIZE, command.file_size_limit);
  Limit(RLIMIT_CPU, command.cpu_seconds_limit);
  if (!command.working_directory.empty() && ::chdir(command.working_directory.c_str()) != 0)
    ::_exit(126);
  ::execve(prepared.program.c_str(), prepared.argv.data(), prepared.envp.data());
  ::_exit(127);
}

int ExitCode(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void CloseAt(pollfd& slot, UniqueFd& fd) {
  fd.Reset();
  slot.fd = -1;
}

/// What is still to be written to the child's standard input.
class InputFeed {
 public:
  explicit InputFeed(const Command& command)
      : source_(command.input_source), piece_(source_ ? "" : command.input) {}

  /// Fetches the next piece when the last one is written. False: there is nothing more.
  Result<bool> More() {
    if (sent_ < piece_.size()) return true;
    if (!source_) return false;
    auto next = source_();
    if (!next) return next.error();
    piece_ = *std::move(next);
    sent_ = 0;
    return !piece_.empty();
  }
  /// False: the child does not read any more.
  bool WriteTo(int fd) {
    const ssize_t n = ::write(fd, piece_.data() + sent_, piece_.size() - sent_);
    if (n > 0) sent_ += static_cast<size_t>(n);
    return n >= 0 || errno == EAGAIN || errno == EINTR;
  }

 private:
  const ByteSource& source_;
  std::string piece_;
  size_t sent_ = 0;
};

/// Moves bytes between us and the child until both outputs are closed. Returns the error that ended
/// it early, if any.
Status Pump(const Command& command, std::stop_token stop, UniqueFd in, UniqueFd out, UniqueFd err,
            CommandResult* result) {
  const auto end = std::chrono::steady_clock::now() + command.deadline;
  InputFeed feed(command);
  ::fcntl(in.Get(), F_SETFL, O_NONBLOCK);
  char buffer[65536];
  while (out.Valid() || err.Valid()) {
    if (stop.stop_requested())
      return MakeError(Code::kCancelled, fmt::format("run {}: stopped", command.argv[0]));
    const auto left =
        std::chrono::duration_cast<Millis>(end - std::chrono::steady_clock::now()).count();
    if (left <= 0)
      return MakeError(
          Code::kTimeout,
          fmt::format("run {}: no end after {} ms", command.argv[0], command.deadline.count()),
          "Timeout");
    if (in.Valid()) {
      auto more = feed.More();
      if (!more) return more.error();
      if (!*more) in.Reset();
    }
    pollfd fds[3] = {{out.Get(), POLLIN, 0}, {err.Get(), POLLIN, 0}, {in.Get(), POLLOUT, 0}};
    if (::poll(fds, 3, static_cast<int>(std::min<int64_t>(left, 50))) < 0 && errno != EINTR)
      return ErrnoError(errno, "poll a child's pipes");
    if (fds[0].revents != 0) {
      const ssize_t n = ::read(out.Get(), buffer, sizeof buffer);
      if (n <= 0)
        CloseAt(fds[0], out);
      else if (command.output_sink) {
        if (!command.output_sink({buffer, static_cast<size_t>(n)}))
          return MakeError(Code::kCancelled,
                           fmt::format("run {}: output refused", command.argv[0]));
      } else if (result->output.size() + static_cast<size_t>(n) > command.output_limit) {
        return MakeError(Code::kInvalid,
                         fmt::format("run {}: more than {} bytes of output", command.argv[0],
                                     command.output_limit),
                         "OutputTooLarge");
      } else {
        result->output.append(buffer, static_cast<size_t>(n));
      }
    }
    if (fds[1].revents != 0) {
      const ssize_t n = ::read(err.Get(), buffer, sizeof buffer);
      if (n <= 0)
        CloseAt(fds[1], err);
      else
        result->error.append(
            buffer,
            std::min(static_cast<size_t>(n),
                     command.error_limit - std::min(command.error_limit, result->error.size())));
    }
    if (fds[2].revents != 0 && !feed.WriteTo(in.Get())) CloseAt(fds[2], in);
  }
  return {};
}

/// Waits, without reaping, until the child has ended or `end` has come.
void AwaitExit(pid_t pid, std::chrono::steady_clock::time_point end) {
  siginfo_t info{};
  while (std::chrono::steady_clock::now() < end) {
    if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid == pid)
      return;
    ::poll(nullptr, 0, 1);
  }
}

}  // namespace

Result<CommandResult> RunCommand(const Command& command, std::stop_token stop) {
  auto prepared = Prepare(command);
  if (!prepared) return prepared.error();
  auto in = MakePipe(), out = MakePipe(), err = MakePipe();
  for (auto* p : {&in, &out, &err})
    if (!*p) return p->error();
  const auto started = std::chrono::steady_clock::now();
  const pid_t pid = ForkQuiet();
  if (pid < 0) return ErrnoError(errno, "fork for " + command.argv[0]);
  if (pid == 0) ExecChild(command, *prepared, in->read.Get(), out->write.Get(), err->write.Get());
  ::setpgid(pid, pid);
  in->read.Reset();
  out->write.Reset();
  err->write.Reset();
  CommandResult result;
  const Status pumped = Pump(command, stop, std::move(in->write), std::move(out->read),
                             std::move(err->read), &result);
  if (pumped) AwaitExit(pid, started + command.deadline);
  ::kill(-pid, SIGKILL);  // Also what the child left behind; the child itself, if it has ended,
                          // keeps its exit status.
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!pumped) return pumped.error();
  result.exit_code = ExitCode(status);
  return result;
}

Result<std::unique_ptr<ChildProcess>> ChildProcess::Start(const Command& command,
                                                          const std::string& log_path) {
  UniqueFd log;
  if (!log_path.empty()) {
    log = UniqueFd(::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
    if (!log.Valid()) return ErrnoError(errno, "open " + log_path);
  }
  return Start(command, log);
}

Result<std::unique_ptr<ChildProcess>> ChildProcess::Start(const Command& command,
                                                          const UniqueFd& output) {
  auto prepared = Prepare(command);
  if (!prepared) return prepared.error();
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const pid_t pid = ForkQuiet();
  if (pid < 0) return ErrnoError(errno, "fork for " + command.argv[0]);
  if (pid == 0) ExecChild(command, *prepared, null.Get(), output.Get(), output.Get());
  ::setpgid(pid, pid);
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid));
}

ChildProcess::~ChildProcess() {
  if (!exit_code_) Terminate(Millis{0});
}

std::optional<int> ChildProcess::Poll() {
  if (exit_code_) return exit_code_;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) == pid_) exit_code_ = ExitCode(status);
  return exit_code_;
}

bool ChildProcess::HasEnded() const {
  siginfo_t info{};
  return exit_code_ ||
         ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
         info.si_pid == pid_;
}

void ChildProcess::Signal(int signal_number) {
  if (!exit_code_) ::kill(-pid_, signal_number);
}

int ChildProcess::Terminate(Millis grace) {
  if (exit_code_) return *exit_code_;
  const auto end = std::chrono::steady_clock::now() + grace;
  Signal(SIGTERM);
  while (!Poll() && std::chrono::steady_clock::now() < end) ::poll(nullptr, 0, 10);
  ::kill(-pid_, SIGKILL);
  int status = 0;
  if (!exit_code_ && ::waitpid(pid_, &status, 0) == pid_) exit_code_ = ExitCode(status);
  return exit_code_.value_or(128 + SIGKILL);
}

}  // namespace base
