#pragma once

#include <atomic>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"

/// The in-box agent: installs the declared plugins at boot, supervises the runtime process,
/// reports.
///
///   start -> lock -> wait for the token -> register -> boot-install (Running) -> Done | Failed
///         -> runtime process, each start a new boot id -> heartbeats until stopped
///            ^                                         |
///            '--- it ended (back-off), or a restart ---'
namespace agent {

struct AgentOptions {
  std::string root;          ///< The box: plugins are in <root>/configs/plugins, our files in
                             ///< <root>/configs/.molecule.
  std::string box_identity;  ///< Told in every report; default: at the registration, device and
                             ///< inode of the root.
  std::string operator_url;  ///< http(s)://host:port
  std::string ca_file;       ///< PEM; empty: the system's roots.
  std::string workspace;     ///< UID or namespace.name.
  std::string token_file;    ///< Waited for at start; read again after a 401. Default:
                             ///< <root>/configs/.molecule/token
  std::vector<std::string>
      runtime_argv;           ///< Program and arguments of the runtime process; empty: none is run.
  std::string runtime_name;   ///< Heartbeat field `runtime`, e.g. claude-code.
  std::string settings_path;  ///< Of the runtime's settings; default <root>/configs/settings.json.
  std::string report_path;    ///< Written by the runtime; default
                              ///< <root>/configs/.molecule/runtime-report.json
  std::string status_path;    ///< Kept by the runtime, optional; default
                              ///< <root>/configs/.molecule/runtime-status.json
  std::string runtime_log;    ///< Receives its stdout and stderr; empty: the agent's own.
  std::string version;        ///< Heartbeat field `agentVersion`.
  std::string management_plugin;  ///< Its name; managementPresent says whether the runtime loaded
                                  ///< it. Empty: the one that answers mark, if any.
  bool boot_install = true;
  bool pull = false;  ///< Install and remove what answers name after boot too (boxes that the
                      ///< operator cannot reach).
  base::Millis period{
      30'000};  ///< Until an answer says otherwise (never more often than `min_period`).
  base::Millis min_period{200};
  bool follow_period = true;  ///< Take nextPeriodSeconds of the answers.
  base::Millis request_deadline{10'000};
  base::Millis download_deadline{300'000};
  base::Millis back_off_base{500};  ///< While the operator is away, and between starts of a failing
                                    ///< runtime: doubled, full jitter,
  base::Millis back_off_limit{60'000};  ///< up to this; reports: up to their period.
  base::Millis stable_after{60'000};    ///< A run of the runtime this long resets the back-off, and
                                        ///< how earlier ones ended is told no more.
  base::Millis boot_install_deadline{
      300'000};  ///< Then Failed is reported and the runtime is started with what is there.
  base::Millis stop_grace{5'000};  ///< From SIGTERM to SIGKILL of the runtime.
  std::atomic<bool>* restart_signal =
      nullptr;  ///< Set by SIGHUP's handler: restart the runtime once.
};

/// Runs until `stop`; returns the exit code: 0 stopped, 2 bad options, 3 another agent holds the
/// box's lock, 4 the box cannot be written.
int Run(const AgentOptions& options, std::stop_token stop);

/// Ends with the value of Run; installs SIGTERM and SIGINT (stop) and SIGHUP (restart) handling for
/// the whole process first.
int RunUntilSignalled(AgentOptions options);

}  // namespace agent
