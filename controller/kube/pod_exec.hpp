#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/byte_source.hpp"
#include "base/clock.hpp"
#include "base/effect.hpp"
#include "base/result.hpp"
#include "kube/kubeconfig.hpp"

namespace kube {

struct ExecRequest {
  std::string ns = {};
  std::string pod = {};
  std::string container = {};          ///< Empty: the Pod's default.
  std::vector<std::string> argv = {};  ///< No shell is involved.
  base::ByteSource input = nullptr;    ///< Standard input; null: none.
  size_t output_limit = 8 << 20;  ///< Bytes of standard output; more is kInvalid OutputTooLarge.
  size_t error_limit = 64 << 10;  ///< Bytes of standard error kept; the rest is dropped.
  base::Millis deadline{30'000};  ///< Of the whole call.
  base::Effect effect = base::Effect::kChanges;
  std::stop_token stop = {};
};

struct ExecResult {
  int exit_code = 0;
  std::string output;
  std::string error;
};

/// Runs programs in Pods: the `pods/exec` subresource over WebSocket, `v5.channel.k8s.io` (v4 where
/// the server has no v5: there standard input cannot be closed, so the program must know from the
/// input where it ends). Thread safe; a connection a call.
class PodExec {
 public:
  /// `may_run` (may be null) is asked right before each attempt: the fence of a process that may
  /// have lost its lease, see ClientOptions::may_write. `run_lost` (may be null) is told of each
  /// session that was begun and whose end was not heard: its program may still change something.
  /// Not of those that only read.
  static base::Result<std::unique_ptr<PodExec>> Create(
      ClientConfig config, std::function<base::Status()> may_run = nullptr,
      std::function<void()> run_lost = nullptr);
  virtual ~PodExec() = default;

  /// A value means that the exit code is known. Errors: kNotFound (no such Pod or container, or
  /// reason ProgramNotFound: the container has no such program), kForbidden (pods/exec is not
  /// allowed), kUnavailable with reason ExitStatusLost (it may have run), kUnavailable with reason
  /// ExecFailed (the container's runtime could not start it), kTimeout, kCancelled, kInvalid with
  /// reason OutputTooLarge, the input's own error, and those of kube::Client.
  virtual base::Result<ExecResult> Run(const ExecRequest& request) = 0;
};

}  // namespace kube
