#include "agent/runtime_process.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "agent/runtime_files.hpp"
#include "base/log.hpp"
#include "base/sha256.hpp"

extern char** environ;  // NOLINT: POSIX

namespace agent {
namespace {

constexpr base::Millis kStableAfter{60'000};  ///< A run this long resets the back-off.

std::map<std::string, std::string> Environment(const AgentOptions& options,
                                               const std::string& boot_id) {
  std::map<std::string, std::string> all;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string_view::npos)
      all.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  all["MOLECULE_BOOT_ID"] = boot_id;
  all["MOLECULE_PLUGINS_DIR"] = options.root + "/configs/plugins";
  all["MOLECULE_SETTINGS"] = options.settings_path;
  all["MOLECULE_REPORT"] = options.report_path;
  all["MOLECULE_STATUS"] = options.status_path;
  return all;
}

}  // namespace

RuntimeProcess::RuntimeProcess(const AgentOptions& options, bundle::InstalledPlugins& installed,
                               SharedState& shared)
    : options_(options),
      installed_(installed),
      shared_(shared),
      backoff_(options.back_off_base, options.back_off_limit) {}

RuntimeProcess::~RuntimeProcess() { Stop(); }

void RuntimeProcess::Poll(base::MonoTime now) {
  if (child_) {
    if (const auto exit_code = child_->Poll()) NoticeEnd(*exit_code, now);
  }
  if (child_) return NoticeReport();
  // Without a command somebody else runs the runtime; this agent's life then counts as one boot.
  if (options_.runtime_argv.empty() && !boot_id_.empty()) return NoticeReport();
  if (now >= next_start_) Start(now);
}

void RuntimeProcess::Start(base::MonoTime now) {
  const std::string boot_id = base::RandomUuid();
  // Before the start: what is activated from here on is recorded as not loaded by this boot.
  if (auto status = installed_.RecordBoot(boot_id); !status) {
    base::LogError("boot id cannot be recorded; the runtime is not started",
                   {{"error", status.error().message}});
    next_start_ = now + backoff_.Next();
    return;
  }
  ::unlink(options_.report_path.c_str());
  ::unlink(options_.status_path.c_str());
  started_ = now;
  reported_ = false;
  if (!options_.runtime_argv.empty()) {
    base::Command command;
    command.argv = options_.runtime_argv;
    command.environment = Environment(options_, boot_id);
    command.working_directory = options_.root;
    auto child = base::ChildProcess::Start(command, options_.runtime_log);
    if (!child) {
      base::LogError("the runtime cannot be started", {{"error", child.error().message}});
      next_start_ = now + backoff_.Next();
      return;
    }
    child_ = std::move(*child);
  }
  boot_id_ = boot_id;
  base::LogInfo("runtime started", {{"bootID", boot_id}});
  shared_.Update([&](SharedState::View& view) {
    view.boot_id = boot_id;
    view.runtime_running = true;
  });
}

void RuntimeProcess::NoticeEnd(int exit_code, base::MonoTime now) {
  child_.reset();
  if (now - started_ >= kStableAfter) backoff_.Reset();
  const base::Millis wait = backoff_.Next();
  next_start_ = now + wait;
  base::LogWarning("the runtime ended", {{"exitCode", fmt::format("{}", exit_code)},
                                         {"nextStartMillis", fmt::format("{}", wait.count())}});
  shared_.Update([](SharedState::View& view) { view.runtime_running = false; });
}

void RuntimeProcess::NoticeReport() {
  if (reported_ || !ReadReport(options_.report_path, boot_id_)) return;
  reported_ = true;
  shared_.Update([](SharedState::View&) {});
}

void RuntimeProcess::Restart(base::MonoTime now) {
  if (options_.runtime_argv.empty()) {
    base::LogWarning("a restart was asked for, but this agent runs no runtime process");
    return;
  }
  if (child_) child_->Terminate(options_.stop_grace);
  child_.reset();
  Start(now);
}

void RuntimeProcess::Stop() {
  if (child_) child_->Terminate(options_.stop_grace);
  child_.reset();
}

}  // namespace agent
