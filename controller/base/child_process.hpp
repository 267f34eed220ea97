#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_source.hpp"
#include "base/clock.hpp"
#include "base/file.hpp"
#include "base/result.hpp"

namespace base {

/// What to run. No shell is involved; the environment is exactly `environment`.
struct Command {
  std::vector<std::string>
      argv;  ///< argv[0] is looked up in PATH of `environment` if it has no slash.
  std::map<std::string, std::string> environment;
  std::string working_directory;      ///< Empty: the parent's.
  std::string input;                  ///< Written to standard input, then closed.
  ByteSource input_source = nullptr;  ///< If set, instead of `input`. Its error ends the run.
  Millis deadline = Millis{60'000};   ///< Total time; then the process group is killed (kTimeout).
  size_t output_limit =
      1 << 20;  ///< Bytes of stdout kept in the result; more is kInvalid and kills it.
  size_t error_limit = 64 << 10;   ///< Bytes of stderr kept; the rest is dropped.
  uint64_t memory_limit = 0;       ///< RLIMIT_AS in bytes; 0: none.
  uint64_t file_size_limit = 0;    ///< RLIMIT_FSIZE in bytes; 0: none.
  uint64_t cpu_seconds_limit = 0;  ///< RLIMIT_CPU; 0: none.
  /// If set, stdout goes here in pieces instead of into the result; returning false kills the
  /// process (kCancelled).
  std::function<bool(std::string_view)> output_sink = nullptr;
};

struct CommandResult {
  int exit_code = 0;  ///< 128 + signal if it was ended by one.
  std::string output;
  std::string error;  ///< Raw stderr: sanitise and redact before anyone sees it.
};

/// Runs to the end. Errors: kNotFound (no such program), kTimeout, kCancelled (stop requested),
/// kInvalid (output over the limit). A non-zero exit is not an Error. The whole process group is
/// killed on every early end.
Result<CommandResult> RunCommand(const Command& command, std::stop_token stop = {});

/// A supervised long-running child in its own process group, with the parent's stdout and stderr
/// (or `log_path`).
class ChildProcess {
 public:
  /// Starts it. `environment` as in Command; `log_path` (may be empty) receives stdout and stderr,
  /// appended.
  static Result<std::unique_ptr<ChildProcess>> Start(const Command& command,
                                                     const std::string& log_path);
  /// The same with stdout and stderr to an open file; none (not Valid): the parent's.
  static Result<std::unique_ptr<ChildProcess>> Start(const Command& command,
                                                     const UniqueFd& output);
  ~ChildProcess();  ///< Kills the group if it still runs, and reaps.
  pid_t Pid() const { return pid_; }
  /// The exit code if it has ended (128 + signal), without waiting.
  std::optional<int> Poll();
  /// Whether it has ended, without reaping it: Terminate() then still finds what it left behind.
  bool HasEnded() const;
  /// SIGTERM to the group, then SIGKILL after `grace`; waits until it is gone; returns the exit
  /// code.
  int Terminate(Millis grace);
  void Signal(int signal_number);

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  pid_t pid_;
  std::optional<int> exit_code_;
};

}  // namespace base
