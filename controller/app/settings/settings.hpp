#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "base/result.hpp"
#include "core/policy.hpp"
#include "source/source_settings.hpp"

namespace app {

/// The operator's settings file (docs/reference/settings.md). Only an admin can write it; it alone
/// decides what is privileged.
struct Settings {
  source::SourceSettings sources;
  core::Policy policy;
  std::vector<std::string> directory_roots;  ///< Folders below which Directory boxes may be.
  std::map<std::string, std::string>
      settings_file_by_runtime;  ///< Relative to the box's configs folder.
  std::map<std::string, std::vector<std::string>>
      command_by_runtime;   ///< For Directory boxes with run: Operator, and managed Pods.
  std::string agent_image;  ///< Of the init container of managed Pods.
  std::string agent_url;    ///< Where agents in Pods report.
  std::optional<base::LogLevel> log_level;  ///< Instead of the flag's.
  std::string agent_ca_file;                ///< PEM of the CA that they trust there.
};

/// Reads YAML text. Unknown keys, wrong types and out-of-range values are kInvalid and name the key
/// by its path and what would be right. `defaults` holds what the mode sets (e.g. directory_roots
/// of embedded mode).
base::Result<Settings> ParseSettings(std::string_view yaml, const Settings& defaults);
base::Result<Settings> LoadSettings(const std::string& path, const Settings& defaults);

}  // namespace app
