#include "agent/runtime_process.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "agent/runtime_files.hpp"
#include "base/log.hpp"
#include "base/sha256.hpp"

extern char** environ;  // NOLINT: POSIX

namespace agent {
namespace {

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
  if (child_) {
    NoticeReport();
    return NoticeWell(now);
  }
  // Without a command somebody else runs the runtime; this agent's life then counts as one boot.
  if (options_.runtime_argv.empty() && !boot_id_.empty()) return NoticeReport();
  if (now >= next_start_) Start(now);
}

void RuntimeProcess::Start(base::MonoTime now) {
  const std::string boot_id = base::RandomUuid();
  // Before the start: what is activated from here on is recorded as not loaded by this boot.
  if (auto status = installed_.RecordBoot(boot_id); !status)
    return Postpone(boot_id, "its boot id cannot be recorded: " + status.error().message, now);
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
    if (!child) return Postpone(boot_id, child.error().message, now);
    child_ = std::move(*child);
  }
  boot_id_ = boot_id;
  base::LogInfo("runtime started", {{"bootID", boot_id}});
  shared_.Update([&](SharedState::View& view) {
    view.boot_id = boot_id;
    view.runtime_running = true;
  });
}

void RuntimeProcess::Postpone(const std::string& boot_id, std::string why, base::MonoTime now) {
  base::LogError("the runtime cannot be started", {{"error", why}});
  next_start_ = now + backoff_.Next();
  why.insert(0, "the runtime cannot be started: ");
  const auto view = shared_.Get();
  if (view.runtime_trouble == why && !view.runtime_running) return;
  shared_.Update([&](SharedState::View& changed) {
    // Without any boot id nothing could be reported at all.
    if (changed.boot_id.empty()) changed.boot_id = boot_id;
    changed.runtime_running = false;
    changed.runtime_trouble = std::move(why);
  });
}

void RuntimeProcess::NoticeEnd(int exit_code, base::MonoTime now) {
  child_.reset();
  if (now - started_ >= options_.stable_after) {
    backoff_.Reset();
    short_runs_ = 0;
  }
  ++short_runs_;
  const base::Millis wait = backoff_.Next();
  next_start_ = now + wait;
  base::LogWarning("the runtime ended", {{"exitCode", fmt::format("{}", exit_code)},
                                         {"nextStartMillis", fmt::format("{}", wait.count())}});
  shared_.Update([&](SharedState::View& view) {
    view.runtime_running = false;
    view.runtime_trouble = fmt::format("the runtime {} ended with exit code {}; look at its log",
                                       options_.runtime_argv.front(), exit_code);
  });
}

/// A first end is past once the next run has reported. One that ends again and again may report
/// each time: then only a stable run counts.
void RuntimeProcess::NoticeWell(base::MonoTime now) {
  const bool stable = now - started_ >= options_.stable_after;
  if (stable) short_runs_ = 0;
  if (shared_.Get().runtime_trouble.empty()) return;
  if (stable || (reported_ && short_runs_ <= 1))
    shared_.Update([](SharedState::View& view) { view.runtime_trouble.clear(); });
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
  short_runs_ = 0;  // What is new on the box may have mended it.
  Start(now);
}

void RuntimeProcess::Stop() {
  if (child_) child_->Terminate(options_.stop_grace);
  child_.reset();
}

}  // namespace agent
