#include "agent/runtime_files.hpp"

#include <algorithm>

#include "base/file.hpp"
#include "codec/json.hpp"
#include "protocol/heartbeat.hpp"

namespace agent {
namespace {

constexpr size_t kFileBytes = 256 << 10;
constexpr size_t kListItems = 1024;

std::optional<codec::Json> ReadObject(const std::string& path, const std::string& boot_id) {
  const auto text = base::ReadFile(path, kFileBytes);
  if (!text) return std::nullopt;
  auto json = codec::ParseJson(*text, {.bytes = kFileBytes, .depth = 16});
  if (!json || !json->is_object()) return std::nullopt;
  if (codec::GetString(*json, "bootID") != boot_id) return std::nullopt;
  return std::move(*json);
}

std::optional<double> Number(const codec::Json& json, const char* name, double limit) {
  const codec::Json& value = codec::GetMember(json, name);
  if (!value.is_number()) return std::nullopt;
  return std::clamp(value.get<double>(), 0.0, limit);
}

}  // namespace

std::optional<RuntimeReport> ReadReport(const std::string& path, const std::string& boot_id) {
  const auto json = ReadObject(path, boot_id);
  if (!json) return std::nullopt;
  RuntimeReport report;
  report.boot_id = boot_id;
  report.error = codec::GetString(*json, "error");
  const codec::Json& plugins = codec::GetMember(*json, "plugins");
  for (size_t i = 0; plugins.is_array() && i < std::min(plugins.size(), kListItems); ++i) {
    const std::string name = codec::GetString(plugins[i], "name");
    if (!name.empty()) report.plugins.insert(name);
  }
  const codec::Json& tools = codec::GetMember(*json, "tools");
  for (size_t i = 0; tools.is_array() && i < std::min(tools.size(), kListItems); ++i) {
    if (tools[i].is_string()) report.tools.push_back(tools[i].get<std::string>().substr(0, 256));
  }
  const codec::Json& model = codec::GetMember(*json, "model");
  if (model.is_boolean()) report.model = model.get<bool>();
  return report;
}

RuntimeStatus ReadStatus(const std::string& path, const std::string& boot_id) {
  RuntimeStatus status;
  const auto json = ReadObject(path, boot_id);
  if (!json) return status;
  const codec::Json& tasks = codec::GetMember(*json, "activeTasks");
  if (tasks.is_number_integer()) {
    status.active_tasks =
        static_cast<int32_t>(std::clamp<int64_t>(tasks.get<int64_t>(), 0, 1'000'000));
  }
  status.current_task = codec::GetString(*json, "currentTask");
  status.error_rate = Number(*json, "errorRate", 1);
  status.sample_error = codec::GetString(*json, "sampleError");
  status.monthly_spend = Number(*json, "monthlySpend", 1e12);
  return status;
}

}  // namespace agent
