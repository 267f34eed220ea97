#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "base/byte_source.hpp"
#include "base/clock.hpp"
#include "base/effect.hpp"
#include "base/result.hpp"

namespace box {

/// One program to run inside a box. No shell is involved.
struct ExecCall {
  std::vector<std::string> argv = {};
  base::ByteSource input = {};    ///< Standard input; null: empty.
  size_t output_limit = 8 << 20;  ///< Bytes of standard output; more is kInvalid OutputTooLarge.
  base::Millis deadline{30'000};  ///< Of the whole call.
  base::Effect effect = base::Effect::kChanges;
  std::stop_token stop = {};
};

struct ExecOutcome {
  int exit_code = 0;
  std::string output;
  std::string error;  ///< Standard error, at most 64 KiB: text of the box, to be sanitised.
};

/// Port: how programs are run in one box (pods/exec, the Docker API, ssh).
///
/// A value means that the program ended and that its exit code is known; a lost exit code is never
/// success. Errors: kNotFound with reason ProgramNotFound (there is no such program in the box),
/// kNotFound (the box or its container is gone), kTimeout, kCancelled, kInvalid with reason
/// OutputTooLarge, kUnavailable (everything transient; reason ExitStatusLost when it may have run,
/// ExecRefused when our own credentials or rights are refused).
class ExecChannel {
 public:
  virtual ~ExecChannel() = default;
  virtual base::Result<ExecOutcome> Run(const ExecCall& call) = 0;
};

}  // namespace box
