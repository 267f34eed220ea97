#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "bundle/limits.hpp"

namespace bundle {

inline constexpr char kManifestFile[] = "plugin.yaml";
inline constexpr char kSkillFile[] = "SKILL.md";

/// plugin.yaml, or what stands for it when a plugin has only SKILL.md.
struct Manifest {
  std::string name;
  std::string version;
  std::string description;
  std::vector<std::string> runtimes;               ///< Empty: any.
  std::vector<std::string> required;               ///< Wire name `requires`: plugin names.
  std::map<std::string, std::string> mcp_servers;  ///< Wire name mcpServers: server name to its
                                                   ///< settings, compact JSON object text.
  std::vector<std::string> state;  ///< Paths (files or folders) carried over by a replacement.
  bool reload_none =
      false;  ///< `reload: none`: the runtime needs no restart. Else `reload: restart`.
  bool from_skill = false;  ///< Made from SKILL.md.
};

/// Parses plugin.yaml. Errors: kInvalid, reason ManifestInvalid; the message names the field and
/// the remedy. Unknown fields are refused only where they shadow ours (wrong type); others are
/// ignored, so that newer plugins work with an older operator.
base::Result<Manifest> ParseManifest(std::string_view yaml);
/// The manifest of a folder that has only SKILL.md: its name is the folder's; the description is
/// the front matter's if there is one.
base::Result<Manifest> ParseSkill(std::string_view markdown, std::string_view folder_name);
/// The one rule for both: `plugin_yaml` if it is there, else `skill_md`. Null: no such file.
/// Errors: ManifestMissing, ManifestInvalid. An empty file is ManifestMissing: a file cut off by a
/// crash must never count as a plugin.
base::Result<Manifest> SelectManifest(const std::string* plugin_yaml, const std::string* skill_md,
                                      std::string_view folder_name);

}  // namespace bundle
