#include "agent/reporter.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "agent/runtime_files.hpp"
#include "base/log.hpp"
#include "http/retry_after.hpp"
#include "protocol/heartbeat.hpp"

namespace agent {
namespace {

constexpr base::Millis kBootInstallPeriod{1'000};  ///< While the answers are waited for.
/// In a row, before they are trouble: with the back-off that is half a minute, and a take-over
/// ends before.
constexpr int kDeferrals = 8;

base::Now ReadNow() { return base::SystemClock::Get().Read(); }

/// The folders beneath configs/plugins; the probe adds what has a receipt.
std::vector<std::string> PluginFolders(const std::string& root) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator folder(root + "/configs/plugins", error);
  for (; !error && folder != std::filesystem::directory_iterator(); folder.increment(error)) {
    const std::string name = folder->path().filename().string();
    std::error_code ignored;
    if (name.starts_with('.') || !folder->is_directory(ignored)) continue;
    names.push_back(name);
    if (names.size() == protocol::kInventoryItems) break;
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string BoxIdentity(const std::string& root) {
  struct stat info {};
  if (::stat(root.c_str(), &info) != 0) return {};
  return fmt::format("{}:{}", info.st_dev, info.st_ino);
}

}  // namespace

Reporter::Reporter(const AgentOptions& options, OperatorLink& link,
                   const bundle::InstalledPlugins& installed, SharedState& shared)
    : options_(options),
      link_(link),
      installed_(installed),
      shared_(shared),
      management_plugin_(options.management_plugin),
      backoff_(options.back_off_base, options.back_off_limit),
      began_(ReadNow().mono) {}

void Reporter::AddInventory(protocol::Heartbeat& heartbeat, const SharedState::View& view,
                            std::stop_token stop) {
  const auto report =
      view.runtime_running ? ReadReport(options_.report_path, view.boot_id) : std::nullopt;
  if (report) {
    // Said once the runtime has loaded, not while it starts: absent counts as not present.
    if (!management_plugin_.empty())
      heartbeat.management_present = report->plugins.contains(management_plugin_);
    heartbeat.loaded_tools = report->tools;
    heartbeat.model_present = report->model;
    if (!report->error.empty() && heartbeat.sample_error.empty()) {
      heartbeat.sample_error = report->error;
    }
  }
  const auto found = installed_.Probe(PluginFolders(options_.root), stop);
  if (!found) return;  // unknown is not empty: neither inventory nor digest is sent
  std::vector<bundle::InventoryItem> items;
  for (const auto& plugin : found->plugins) {
    if (plugin.found != bundle::Found::kPresent || items.size() == protocol::kInventoryItems)
      continue;
    // Bytes that arrived after this start are not what is loaded, whatever the runtime lists.
    const bool newer = plugin.receipt && plugin.receipt->activated_boot_id == view.boot_id;
    const bool loaded = report && report->plugins.contains(plugin.name) && !newer;
    items.push_back({plugin.name, plugin.receipt ? plugin.receipt->revision : "", plugin.digest,
                     loaded, newer});
  }
  heartbeat.inventory_digest = bundle::InventoryDigest(items);
  if (heartbeat.inventory_digest == acknowledged_inventory_) return;
  heartbeat.inventory.emplace();
  for (const auto& item : items) {
    heartbeat.inventory->push_back(
        {item.name, item.revision, item.digest, item.loaded, item.activated_this_boot});
  }
}

protocol::Heartbeat Reporter::Build(const SharedState::View& view, std::stop_token stop) {
  const base::Now now = ReadNow();
  protocol::Heartbeat heartbeat;
  if (sequence_boot_ != view.boot_id) {
    sequence_boot_ = view.boot_id;
    sequence_ = 0;
  }
  heartbeat.workspace = options_.workspace;
  heartbeat.boot_id = view.boot_id;
  heartbeat.sequence = ++sequence_;
  heartbeat.time = now.wall;
  heartbeat.agent_version = options_.version;
  heartbeat.runtime = options_.runtime_name;
  heartbeat.uptime_seconds = std::chrono::duration_cast<base::Seconds>(now.mono - began_).count();
  heartbeat.boot_install = view.boot_install;
  heartbeat.answer_tag = answer_.tag;
  heartbeat.box_identity = options_.box_identity;
  if (view.runtime_running) {
    const RuntimeStatus status = ReadStatus(options_.status_path, view.boot_id);
    heartbeat.active_tasks = status.active_tasks;
    heartbeat.current_task = status.current_task;
    heartbeat.error_rate = status.error_rate;
    heartbeat.sample_error = status.sample_error;
    heartbeat.monthly_spend = status.monthly_spend;
  }
  if (!view.runtime_trouble.empty()) {
    heartbeat.error_rate = 1.0;
    heartbeat.sample_error = view.runtime_trouble;
  }
  AddInventory(heartbeat, view, stop);
  return heartbeat;
}

base::Millis Reporter::Trouble(const std::string& what, base::Millis least) {
  if (what != last_trouble_) {
    last_trouble_ = what;
    base::LogWarning("the operator does not take reports", {{"cause", what}});
  }
  return Later(least);
}

/// Never slower than reports are due: when the operator is back, an agent must be heard before its
/// silence counts.
base::Millis Reporter::Later(base::Millis least) {
  return std::min(std::max(backoff_.Next(), least), std::max(Period(), options_.min_period));
}

/// An answer that takes no report. To be asked to come again is no trouble unless it goes on: a new
/// leader asks it of all agents until it has checked their tokens.
base::Millis Reporter::Refused(const http::Response& response, const std::string& what) {
  const auto asked = http::RetryAfter(response.headers);
  const bool deferred = asked && (response.status == 503 || response.status == 429);
  deferrals_ = deferred ? deferrals_ + 1 : 0;
  if (!deferred || deferrals_ > kDeferrals) return Trouble(what, asked.value_or(base::Millis{0}));
  if (deferrals_ == 1) base::LogInfo("the operator asks to report later", {{"cause", what}});
  return Later(*asked);
}

base::Millis Reporter::Period() const {
  if (options_.follow_period && answer_.next_period_seconds > 0)
    return base::Seconds{answer_.next_period_seconds};
  return options_.period;
}

/// The next wait by what was answered.
base::Millis Reporter::Heed(const http::Response& response) {
  if (response.status != 200) {
    const auto body = protocol::DecodeError(response.body);
    const std::string what =
        fmt::format("{} {}", response.status, body ? body->message : std::string());
    // Recorded all the same: a replay that the library sent twice, or a register while the gate
    // fails.
    if (response.status == 409 && body && body->error == "stale_sequence")
      return options_.min_period;
    return Refused(response, what);
  }
  auto answer = protocol::DecodeHeartbeatAnswer(response.body);
  if (!answer) return Trouble(answer.error().message);
  if (!answer->unchanged) answer_ = *std::move(answer);
  // Not forgotten when an answer leaves it out: a new leader does not know the plugins yet.
  for (const auto& plugin : answer_.plugins)
    if (plugin.management && options_.management_plugin.empty()) management_plugin_ = plugin.name;
  if (!last_trouble_.empty()) base::LogInfo("the operator takes reports again");
  last_trouble_.clear();
  deferrals_ = 0;
  backoff_.Reset();
  acknowledged_inventory_ = answer_.inventory_digest;
  shared_.PutAnswer(answer_);
  return backoff_.Jittered(std::max(Period(), options_.min_period));
}

base::Millis Reporter::ReportOnce(const SharedState::View& view, std::stop_token stop) {
  protocol::Heartbeat heartbeat = Build(view, stop);
  if (registered_) {
    const auto response =
        link_.Post("/registry/heartbeat", protocol::EncodeHeartbeat(heartbeat), stop);
    return response ? Heed(*response) : Trouble(response.error().message);
  }
  if (heartbeat.box_identity.empty()) heartbeat.box_identity = BoxIdentity(options_.root);
  const protocol::Register body{std::move(heartbeat), options_.pull, {}};
  const auto response = link_.Post("/registry/register", protocol::EncodeRegister(body), stop);
  if (!response) return Trouble(response.error().message);
  // Register is optional: whatever else is answered, heartbeats go on. 401 and 5xx were no hearing
  // at all.
  registered_ = response->status == 200 || response->status == 400 || response->status == 404 ||
                response->status == 409;
  if (response->status == 200) return Heed(*response);
  const auto wait = Refused(
      *response, fmt::format("register: {} {}", response->status, response->body.substr(0, 512)));
  return registered_ ? options_.min_period : wait;
}

void Reporter::Run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    const SharedState::View view = shared_.Get();
    if (view.boot_id.empty()) {
      shared_.AwaitNews(view.news, options_.period, stop);
      continue;
    }
    base::Millis wait = ReportOnce(view, stop);
    const bool waiting =
        view.boot_install && view.boot_install->state == protocol::BootInstallState::kRunning;
    const bool heard = last_trouble_.empty() && deferrals_ == 0;
    if (waiting && heard) wait = std::min(wait, kBootInstallPeriod);
    // News is sent at once, but never faster than the smallest period; trouble is waited out.
    const base::Millis pause = heard ? options_.min_period : wait;
    shared_.AwaitNews(UINT64_MAX, std::min(pause, wait), stop);
    if (wait > pause) shared_.AwaitNews(view.news, wait - pause, stop);
  }
}

}  // namespace agent
