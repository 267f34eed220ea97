#include "bundle/installed/mcp_settings.hpp"

#include <fmt/format.h>

#include "bundle/tree_check.hpp"
#include "codec/json.hpp"

namespace bundle {
namespace {

using codec::Json;

base::Error Invalid(std::string why, std::string reason) {
  return base::MakeError(base::Code::kInvalid, std::move(why), std::move(reason));
}

base::Result<Json> ParseSettings(std::string_view text) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return Json::object();
  auto parsed = codec::ParseJson(text);
  if (!parsed)
    return Invalid(
        "runtime settings are no valid JSON, nothing was changed: " + parsed.error().message,
        "SettingsInvalid");
  if (!parsed->is_object())
    return Invalid("runtime settings are no JSON object, nothing was changed", "SettingsInvalid");
  if (parsed->contains("mcpServers") && !(*parsed)["mcpServers"].is_object())
    return Invalid("runtime settings: `mcpServers` is no object, nothing was changed",
                   "SettingsInvalid");
  return parsed;
}

base::Result<Json> ParseServer(const std::string& name, const std::string& text) {
  auto parsed = codec::ParseJson(text);
  if (!parsed)
    return Invalid(fmt::format("MCP server `{}`: {}", Printable(name), parsed.error().message),
                   "ManifestInvalid");
  return parsed;
}

}  // namespace

base::Result<std::string> MergeMcpServers(std::string_view settings, const McpServers& before,
                                          const McpServers& after) {
  if (before.empty() && after.empty()) return std::string(settings);
  auto merged = ParseSettings(settings);
  if (!merged) return merged.error();
  Json servers = merged->contains("mcpServers") ? (*merged)["mcpServers"] : Json::object();
  const Json unchanged = servers;
  for (const auto& [name, text] : before)
    if (!after.contains(name)) servers.erase(name);
  for (const auto& [name, text] : after) {
    auto server = ParseServer(name, text);
    if (!server) return server.error();
    if (servers.contains(name) && !before.contains(name) && servers[name] != *server)
      return Invalid(fmt::format("runtime settings have an MCP server `{}` already, and it is not "
                                 "ours; rename or remove it",
                                 Printable(name)),
                     "McpServerConflict");
    servers[name] = std::move(*server);
  }
  if (servers == unchanged) return std::string(settings);
  if (servers.empty())
    merged->erase("mcpServers");
  else
    (*merged)["mcpServers"] = std::move(servers);
  return merged->dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

bool HasMcpServers(std::string_view settings, const McpServers& wanted) {
  if (wanted.empty()) return true;
  const auto parsed = ParseSettings(settings);
  if (!parsed) return false;
  const Json& servers = codec::GetMember(*parsed, "mcpServers");
  for (const auto& [name, text] : wanted) {
    const auto server = codec::ParseJson(text);
    if (!server || !servers.is_object() || !servers.contains(name) || servers[name] != *server)
      return false;
  }
  return true;
}

}  // namespace bundle
