#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace bundle {

/// MCP servers by name; each value is a compact JSON object.
using McpServers = std::map<std::string, std::string>;

/// The runtime's settings text with our servers in its `mcpServers` object: those of `before` that
/// are not in `after` are withdrawn, those of `after` set, everything else kept. `settings` may be
/// empty (no file yet). Unchanged content returns the very same text. Errors: kInvalid
/// SettingsInvalid (not a JSON object), McpServerConflict (a server of that name is there and is
/// not ours).
base::Result<std::string> MergeMcpServers(std::string_view settings, const McpServers& before,
                                          const McpServers& after);
/// True if every server of `wanted` is in the settings with just this content.
bool HasMcpServers(std::string_view settings, const McpServers& wanted);

}  // namespace bundle
