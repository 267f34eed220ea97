#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

/// Private to agent/: what the runtime process tells the agent through files.
namespace agent {

/// What the runtime has loaded, written by itself once a start: {bootID, plugins: [{name}], tools:
/// [..], model, error}.
struct RuntimeReport {
  std::string boot_id;
  std::set<std::string> plugins;
  std::vector<std::string> tools;
  std::optional<bool> model;
  std::string error;
  bool operator==(const RuntimeReport&) const = default;
};

/// What it is doing, kept up to date by itself: {bootID, activeTasks, currentTask, errorRate,
/// sampleError, monthlySpend}.
struct RuntimeStatus {
  std::optional<int32_t> active_tasks;
  std::string current_task;
  std::optional<double> error_rate;
  std::string sample_error;
  std::optional<double> monthly_spend;
};

/// The report of that very boot; nothing if the file is not there, unreadable, or of another boot:
/// loaded is never assumed.
std::optional<RuntimeReport> ReadReport(const std::string& path, const std::string& boot_id);
/// The status of that boot; empty fields where it says nothing usable.
RuntimeStatus ReadStatus(const std::string& path, const std::string& boot_id);

}  // namespace agent
