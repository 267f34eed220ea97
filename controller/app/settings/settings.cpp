#include "app/settings/settings.hpp"

#include <fmt/format.h>

#include <functional>

#include "base/file.hpp"
#include "codec/json.hpp"

namespace app {
namespace {

using base::Status;
using codec::Json;

Status Bad(const std::string& path, std::string_view wanted) {
  return base::MakeError(base::Code::kInvalid,
                         fmt::format("settings: `{}` must be {}", path, wanted), "SettingsInvalid");
}

/// Reads one value of the file into a member.
using Reader = std::function<Status(const Json& value, const std::string& path)>;

Status ReadObject(const Json& object, const std::string& path,
                  const std::map<std::string, Reader, std::less<>>& readers) {
  if (!object.is_object()) return Bad(path.empty() ? "(file)" : path, "a mapping");
  for (const auto& [key, value] : object.items()) {
    const std::string at = path.empty() ? key : path + "." + key;
    const auto reader = readers.find(key);
    if (reader == readers.end()) {
      std::string known;
      for (const auto& [name, unused] : readers) known += (known.empty() ? "" : ", ") + name;
      return base::MakeError(base::Code::kInvalid,
                             fmt::format("settings: `{}` is not known; known here: {}", at, known),
                             "SettingsInvalid");
    }
    if (auto read = reader->second(value, at); !read) return read;
  }
  return {};
}

Reader Text(std::string& out) {
  return [&out](const Json& value, const std::string& path) -> Status {
    if (!value.is_string()) return Bad(path, "text");
    out = value.get<std::string>();
    return {};
  };
}

Reader Flag(bool& out) {
  return [&out](const Json& value, const std::string& path) -> Status {
    if (!value.is_boolean()) return Bad(path, "true or false");
    out = value.get<bool>();
    return {};
  };
}

Reader Number(double& out, double low, double high) {
  return [&out, low, high](const Json& value, const std::string& path) -> Status {
    if (!value.is_number() || value.get<double>() < low || value.get<double>() > high)
      return Bad(path, fmt::format("a number from {} to {}", low, high));
    out = value.get<double>();
    return {};
  };
}

/// Seconds, fractions allowed; 10 ms to 30 days.
Reader Period(base::Millis& out) {
  return [&out](const Json& value, const std::string& path) -> Status {
    if (!value.is_number() || value.get<double>() < 0.01 || value.get<double>() > 30.0 * 86400)
      return Bad(path, "a number of seconds from 0.01 to 2592000");
    out = base::Millis{static_cast<int64_t>(value.get<double>() * 1000)};
    return {};
  };
}

Reader Count(int& out, int low, int high) {
  return [&out, low, high](const Json& value, const std::string& path) -> Status {
    if (!value.is_number_integer() || value.get<int64_t>() < low || value.get<int64_t>() > high)
      return Bad(path, fmt::format("a whole number from {} to {}", low, high));
    out = value.get<int>();
    return {};
  };
}

Reader Texts(std::vector<std::string>& out) {
  return [&out](const Json& value, const std::string& path) -> Status {
    if (!value.is_array() || value.size() > 1000) return Bad(path, "a list of texts");
    out.clear();
    for (const Json& item : value) {
      if (!item.is_string()) return Bad(path, "a list of texts");
      out.push_back(item.get<std::string>());
    }
    return {};
  };
}

Reader Level(std::optional<base::LogLevel>& out) {
  return [&out](const Json& value, const std::string& path) -> Status {
    out = value.is_string() ? base::ParseLogLevel(value.get<std::string>()) : std::nullopt;
    return out ? Status{} : Bad(path, "debug, info, warning or error");
  };
}

Status ReadPrivileged(const Json& value, const std::string& path,
                      std::vector<core::PrivilegedPlugin>& out) {
  if (!value.is_array() || value.size() > 64)
    return Bad(path, "a list of at most 64 privileged plugins");
  out.clear();
  int managers = 0;
  for (size_t i = 0; i < value.size(); ++i) {
    core::PrivilegedPlugin plugin;
    const std::string at = fmt::format("{}[{}]", path, i);
    auto read = ReadObject(value[i], at,
                           {{"name", Text(plugin.name)},
                            {"source", Text(plugin.source)},
                            {"allowedDigests", Texts(plugin.allowed_digests)},
                            {"management", Flag(plugin.management)},
                            {"tools", Texts(plugin.tools)}});
    if (!read) return read;
    if (plugin.name.empty()) return Bad(at + ".name", "set");
    if (plugin.source.empty()) return Bad(at + ".source", "set");
    if (plugin.management && ++managers > 1)
      return Bad(at + ".management", "true for one plugin only");
    out.push_back(std::move(plugin));
  }
  return {};
}

Status ReadRuntimes(const Json& value, const std::string& path, Settings& out) {
  if (!value.is_object()) return Bad(path, "a mapping of runtime names");
  for (const auto& [name, runtime] : value.items()) {
    std::string file;
    std::vector<std::string> command;
    auto read = ReadObject(runtime, path + "." + name,
                           {{"settingsFile", Text(file)}, {"command", Texts(command)}});
    if (!read) return read;
    if (!file.empty()) out.settings_file_by_runtime[name] = file;
    if (!command.empty()) out.command_by_runtime[name] = command;
  }
  return {};
}

}  // namespace

base::Result<Settings> ParseSettings(std::string_view yaml, const Settings& defaults) {
  auto documents = codec::ParseYaml(yaml);
  if (!documents) return std::move(documents).error();
  if (documents->size() > 1)
    return base::MakeError(base::Code::kInvalid, "settings: one document is expected",
                           "SettingsInvalid");
  Settings out = defaults;
  if (documents->empty() || documents->front().is_null()) return out;
  core::Policy& p = out.policy;
  source::SourceSettings& s = out.sources;
  const auto section = [](std::map<std::string, Reader, std::less<>> readers) -> Reader {
    return [readers = std::move(readers)](const Json& value, const std::string& path) {
      return ReadObject(value, path, readers);
    };
  };
  auto read = ReadObject(
      documents->front(), "",
      {{"sources", section({{"giteaURL", Text(s.gitea_base_url)},
                            {"githubURL", Text(s.github_base_url)},
                            {"allowedHosts", Texts(s.allowed_hosts)},
                            {"plainHTTPHosts", Texts(s.plain_http_hosts)},
                            {"allowUnpinned", Flag(s.allow_unpinned)},
                            {"localRoot", Text(s.local_root)},
                            {"caFile", Text(s.ca_file)},
                            {"resolveDeadlineSeconds", Period(s.git.resolve_deadline)},
                            {"fetchDeadlineSeconds", Period(s.git.fetch_deadline)}})},
       {"privilegedPlugins",
        [&p](const Json& v, const std::string& path) {
          return ReadPrivileged(v, path, p.privileged);
        }},
       {"runtimes",
        [&out](const Json& v, const std::string& path) { return ReadRuntimes(v, path, out); }},
       {"boxes", section({{"directoryRoots", Texts(out.directory_roots)},
                          {"agentImage", Text(out.agent_image)},
                          {"agentURL", Text(out.agent_url)},
                          {"agentCAFile", Text(out.agent_ca_file)}})},
       {"timing", section({{"resyncSeconds", Period(p.resync)},
                           {"recoveryCooldownSeconds", Period(p.recovery_cooldown)},
                           {"backoffBaseSeconds", Period(p.backoff_base)},
                           {"backoffMaxSeconds", Period(p.backoff_max)},
                           {"slowRetrySeconds", Period(p.slow_retry)},
                           {"restartWaitSeconds", Period(p.restart_wait)},
                           {"gatherSeconds", Period(p.gather)},
                           {"gatherLimitSeconds", Period(p.gather_limit)},
                           {"deletionDeadlineSeconds", Period(p.deletion_deadline)},
                           {"deletionDeadlineTerminatingNamespaceSeconds",
                            Period(p.deletion_deadline_terminating_ns)},
                           {"probeEvery", Count(p.probe_every, 1, 1000)},
                           {"unknownLimit", Count(p.unknown_limit, 1, 100)},
                           {"evidenceTimeouts", Count(p.evidence_timeouts, 1, 100)}})},
       {"log", section({{"level", Level(out.log_level)}})},
       {"health", section({{"degradedAtErrorRate", Number(p.degraded_at, 0, 1)},
                           {"recoveredBelowErrorRate", Number(p.recovered_below, 0, 1)}})}});
  if (!read) return std::move(read).error();
  p.allow_unpinned = s.allow_unpinned;
  p.gitea_base_url = s.gitea_base_url;
  p.github_base_url = s.github_base_url;
  return out;
}

base::Result<Settings> LoadSettings(const std::string& path, const Settings& defaults) {
  if (path.empty()) return defaults;
  auto text = base::ReadFile(path, 1 << 20);
  if (!text) return std::move(text).error();
  auto settings = ParseSettings(*text, defaults);
  if (!settings) {
    base::Error error = settings.error();
    error.message = path + ": " + error.message;
    return error;
  }
  return settings;
}

}  // namespace app
