#include "agent/agent.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <algorithm>
#include <thread>

#include "agent/operator_link.hpp"
#include "agent/plugin_installer.hpp"
#include "agent/reporter.hpp"
#include "agent/runtime_process.hpp"
#include "agent/shared_state.hpp"
#include "base/log.hpp"
#include "base/sha256.hpp"
#include "base/thread_name.hpp"

namespace agent {
namespace {

constexpr int kBadOptions = 2;
constexpr int kAlreadyRunning = 3;
constexpr int kBoxUnusable = 4;
constexpr base::Millis kPoll{100};  ///< How often the runtime process is looked at.

base::MonoTime MonoNow() { return base::SystemClock::Get().Read().mono; }

int Complain(int exit_code, const std::string& what) {
  base::LogError("the agent cannot run", {{"cause", what}});
  return exit_code;
}

/// Fills in the defaults; what is wrong with the options, or nothing.
std::string Complete(AgentOptions& options) {
  if (!options.root.starts_with('/')) return "--root must be an absolute path";
  while (options.root.ends_with('/')) options.root.pop_back();  // "/" becomes "": all is below it.
  if (options.workspace.empty())
    return "--workspace must name the workspace (UID or namespace.name)";
  if (!options.operator_url.starts_with("http://") &&
      !options.operator_url.starts_with("https://")) {
    return "--operator-url must start with http:// or https://";
  }
  const std::string configs = options.root + "/configs";
  const auto fill = [&](std::string& path, const char* file) {
    if (path.empty()) path = configs + file;
  };
  fill(options.token_file, "/.molecule/token");
  fill(options.settings_path, "/settings.json");
  fill(options.report_path, "/.molecule/runtime-report.json");
  fill(options.status_path, "/.molecule/runtime-status.json");
  if (!options.settings_path.starts_with(configs + "/")) {
    return fmt::format("--settings-file must be beneath {}", configs);
  }
  return {};
}

/// Everything of one agent; the calling thread supervises, a second one reports.
class Agent {
 public:
  Agent(const AgentOptions& options, OperatorLink& link)
      : options_(options),
        installed_(Layout(options), std::make_shared<bundle::DigestCache>(1024)),
        installer_(link, installed_, options.root + "/configs/.molecule/incoming",
                   [this](const protocol::PluginToFetch& plugin) { return IsWanted(plugin); }),
        runtime_(options, installed_, shared_),
        reporter_(options, link, installed_, shared_) {}

  base::Status Prepare() {
    if (!options_.boot_install) return {};
    const std::string preparing = base::RandomUuid();
    if (auto status = installed_.RecordBoot(preparing); !status) return status;
    shared_.Update([&](SharedState::View& view) {
      view.boot_id = preparing;
      view.boot_install = protocol::BootInstall{};
    });
    return {};
  }

  void Run(std::stop_token stop) {
    std::jthread reporting([this](std::stop_token own) {
      base::NameThread("heartbeats");
      reporter_.Run(own);
    });
    if (options_.boot_install) BootInstall(stop);
    uint64_t heeded = 0;
    while (!stop.stop_requested()) {
      runtime_.Poll(MonoNow());
      HeedSignal();
      shared_.AwaitAnswer(heeded, kPoll, stop);
      const auto answered = shared_.LastAnswer();
      if (answered.number == heeded) continue;
      heeded = answered.number;
      Heed(answered.answer, stop);
    }
    reporting.request_stop();
    runtime_.Stop();
  }

 private:
  static bundle::InstalledPlugins::Options Layout(const AgentOptions& options) {
    bundle::InstalledPlugins::Options layout;
    layout.configs_path = options.root + "/configs";
    layout.boot_install = true;
    layout.settings_file = options.settings_path.substr(layout.configs_path.size() + 1);
    return layout;
  }

  /// By the newest answer, which may be another one than is being heeded. One that is not decided
  /// yet takes nothing back.
  bool IsWanted(const protocol::PluginToFetch& plugin) const {
    const auto newest = shared_.LastAnswer().answer;
    return !newest.plugins_known ||
           std::any_of(newest.plugins.begin(), newest.plugins.end(), [&](const auto& other) {
             return other.name == plugin.name && other.digest == plugin.digest;
           });
  }

  void HeedSignal() {
    if (options_.restart_signal == nullptr || !options_.restart_signal->exchange(false)) return;
    base::LogInfo("restart asked for by a signal");
    runtime_.Restart(MonoNow());
  }

  void Heed(const protocol::HeartbeatAnswer& answer, std::stop_token stop) {
    const std::string boot_id = shared_.Get().boot_id;
    if (options_.pull && answer.plugins_known) {
      InstallAll(answer, boot_id, stop);
      RemoveAll(answer, boot_id);
    }
    if (!answer.restart_expected_boot_id || *answer.restart_expected_boot_id != boot_id) return;
    base::LogInfo("restart asked for by the operator", {{"bootID", boot_id}});
    runtime_.Restart(MonoNow());
  }

  void RemoveAll(const protocol::HeartbeatAnswer& answer, const std::string& boot_id) {
    for (const auto& name : answer.remove) {
      if (const auto status = installed_.Remove(name, boot_id); !status)
        base::LogWarning("plugin not removed",
                         {{"plugin", name}, {"error", status.error().message}});
      else
        base::LogInfo("plugin removed", {{"plugin", name}});
    }
    // Nobody else comes by to forget those that the runtime has been started since.
    if (const auto status = installed_.ClearRemovals(boot_id); !status)
      base::LogWarning("old removals not forgotten", {{"error", status.error().message}});
  }

  /// Tries each plugin; the failures as one text, empty if there is none.
  std::string InstallAll(const protocol::HeartbeatAnswer& answer, const std::string& boot_id,
                         std::stop_token stop) {
    std::string failures;
    for (const auto& plugin : answer.plugins) {
      if (stop.stop_requested()) break;
      const auto status = installer_.Ensure(plugin, boot_id, stop);
      if (status) continue;
      base::LogWarning("plugin not installed",
                       {{"plugin", plugin.name}, {"error", status.error().message}});
      failures += fmt::format("{}{}: {}", failures.empty() ? "" : "; ", plugin.name,
                              status.error().message);
    }
    return failures;
  }

  /// Until everything declared is there or the deadline; retries on every answer.
  void BootInstall(std::stop_token stop) {
    const base::MonoTime end = MonoNow() + options_.boot_install_deadline;
    const std::string boot_id = shared_.Get().boot_id;
    Backoff backoff(options_.back_off_base, options_.back_off_limit);
    std::string failure = "the operator has not named the declared plugins in time";
    uint64_t heeded = 0;
    for (int attempts = 0; MonoNow() < end && !stop.stop_requested();) {
      shared_.AwaitAnswer(heeded, std::chrono::duration_cast<base::Millis>(end - MonoNow()), stop);
      const auto answered = shared_.LastAnswer();
      if (answered.number == heeded || !answered.answer.plugins_known) {
        heeded = answered.number;
        continue;
      }
      heeded = answered.number;
      failure = InstallAll(answered.answer, boot_id, stop);
      if (failure.empty() || ++attempts == kBootAttempts) break;
      shared_.AwaitAnswer(UINT64_MAX, backoff.Next(), stop);
    }
    if (stop.stop_requested()) return;
    shared_.Update([&](SharedState::View& view) {
      view.boot_install->state =
          failure.empty() ? protocol::BootInstallState::kDone : protocol::BootInstallState::kFailed;
      view.boot_install->error = failure;
    });
    base::LogInfo("boot install ended", {{"failure", failure}});
  }

  static constexpr int kBootAttempts = 5;  ///< Then the operator is the safety net.

  const AgentOptions& options_;
  SharedState shared_;
  bundle::InstalledPlugins installed_;
  PluginInstaller installer_;
  RuntimeProcess runtime_;
  Reporter reporter_;
};

}  // namespace

int Run(const AgentOptions& given, std::stop_token stop) {
  AgentOptions options = given;
  if (const auto wrong = Complete(options); !wrong.empty()) return Complain(kBadOptions, wrong);
  auto lock = bundle::AgentLock::Acquire(options.root + "/configs");
  if (!lock) {
    const bool held = lock.error().code == base::Code::kAlreadyExists;
    return Complain(held ? kAlreadyRunning : kBoxUnusable, lock.error().message);
  }
  auto link = OperatorLink::Open(options);
  if (!link) return Complain(kBadOptions, link.error().message);
  Agent agent(options, **link);
  if (auto status = agent.Prepare(); !status) return Complain(kBoxUnusable, status.error().message);
  agent.Run(stop);
  base::LogInfo("agent stopped");
  return 0;
}

}  // namespace agent
