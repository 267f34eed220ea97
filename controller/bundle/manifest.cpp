#include "bundle/manifest.hpp"

#include <fmt/format.h>

#include "bundle/tree_check.hpp"
#include "codec/json.hpp"

namespace bundle {
namespace {

using codec::Json;

constexpr size_t kMaxServers = 64;
constexpr size_t kMaxList = 128;
constexpr size_t kMaxServerBytes = 64 << 10;

base::Error Invalid(std::string_view file, std::string why) {
  return base::MakeError(base::Code::kInvalid, fmt::format("{}: {}", file, why), "ManifestInvalid");
}

base::Status ReadText(const Json& object, const char* field, size_t most, std::string* out) {
  const auto found = object.find(field);
  if (found == object.end() || found->is_null()) return {};
  // A version written as 1.2 is a YAML number; people mean its text.
  if (found->is_number())
    *out = found->dump();
  else if (found->is_string())
    *out = found->get<std::string>();
  else
    return Invalid(kManifestFile, fmt::format("`{}` must be text", field));
  if (out->size() > most)
    return Invalid(kManifestFile, fmt::format("`{}` has {} bytes, at most {} are allowed", field,
                                              out->size(), most));
  return {};
}

base::Status ReadList(const Json& object, const char* field, std::vector<std::string>* out) {
  const auto found = object.find(field);
  if (found == object.end() || found->is_null()) return {};
  if (!found->is_array() || found->size() > kMaxList)
    return Invalid(kManifestFile,
                   fmt::format("`{}` must be a list of at most {} texts", field, kMaxList));
  for (const Json& item : *found) {
    if (!item.is_string() || item.get_ref<const std::string&>().empty() ||
        item.get_ref<const std::string&>().size() > 253)
      return Invalid(kManifestFile, fmt::format("`{}` must hold texts of 1 to 253 bytes", field));
    out->push_back(item.get<std::string>());
  }
  return {};
}

base::Status ReadServers(const Json& object, std::map<std::string, std::string>* out) {
  const auto found = object.find("mcpServers");
  if (found == object.end() || found->is_null()) return {};
  if (!found->is_object() || found->size() > kMaxServers)
    return Invalid(kManifestFile,
                   fmt::format("`mcpServers` must be a map of at most {} servers", kMaxServers));
  for (const auto& [name, server] : found->items()) {
    if (!IsPluginName(name))
      return Invalid(kManifestFile,
                     fmt::format("`mcpServers` has the name `{}`; use letters, digits, . _ -",
                                 Printable(name)));
    if (!server.is_object() || !(server.contains("command") || server.contains("url")))
      return Invalid(kManifestFile,
                     fmt::format("`mcpServers.{}` must be a map with `command` or `url`", name));
    std::string text = codec::Dump(server);
    if (text.size() > kMaxServerBytes)
      return Invalid(kManifestFile,
                     fmt::format("`mcpServers.{}` is over {} bytes", name, kMaxServerBytes));
    out->emplace(name, std::move(text));
  }
  return {};
}

base::Status ReadState(const Json& object, std::vector<std::string>* out) {
  if (auto ok = ReadList(object, "state", out); !ok) return ok;
  for (std::string& path : *out) {
    if (path.size() > 1 && path.back() == '/') path.pop_back();
    if (auto ok = CheckPath(path, Limits{}); !ok)
      return Invalid(kManifestFile, "`state`: " + ok.error().message);
    if (path == kManifestFile || path == kSkillFile)
      return Invalid(kManifestFile, fmt::format("`state` may not name {}", path));
  }
  return {};
}

base::Status ReadReload(const Json& object, bool* none) {
  std::string text;
  if (auto ok = ReadText(object, "reload", 32, &text); !ok) return ok;
  if (!text.empty() && text != "none" && text != "restart")
    return Invalid(kManifestFile,
                   fmt::format("`reload` is `{}`; allowed: none, restart", Printable(text)));
  *none = text == "none";
  return {};
}

/// The YAML between the first line `---` and the next one; empty if there is none.
std::string_view FrontMatter(std::string_view markdown) {
  if (markdown.substr(0, 4) != "---\n" && markdown.substr(0, 5) != "---\r\n") return {};
  const size_t start = markdown.find('\n') + 1;
  const size_t end = markdown.find("\n---", start);
  return end == std::string_view::npos ? std::string_view{}
                                       : markdown.substr(start, end + 1 - start);
}

}  // namespace

base::Result<Manifest> ParseManifest(std::string_view yaml) {
  if (yaml.size() > Limits{}.manifest_bytes)
    return Invalid(kManifestFile, fmt::format("over {} bytes", Limits{}.manifest_bytes));
  auto documents = codec::ParseYaml(yaml);
  if (!documents) return Invalid(kManifestFile, documents.error().message);
  if (documents->size() != 1 || !documents->front().is_object())
    return Invalid(kManifestFile, "must be one map");
  const Json& object = documents->front();
  Manifest out;
  for (const auto& [field, most, target] :
       {std::tuple{"name", size_t{63}, &out.name}, std::tuple{"version", size_t{64}, &out.version},
        std::tuple{"description", size_t{4096}, &out.description}})
    if (auto ok = ReadText(object, field, most, target); !ok) return ok.error();
  if (!IsPluginName(out.name))
    return Invalid(kManifestFile, fmt::format("`name` is `{}`; it needs 1 to 63 letters, digits, . "
                                              "_ -, and starts and ends with a letter or digit",
                                              Printable(out.name)));
  for (const auto& ok :
       {ReadList(object, "runtimes", &out.runtimes), ReadList(object, "requires", &out.required),
        ReadServers(object, &out.mcp_servers), ReadState(object, &out.state),
        ReadReload(object, &out.reload_none)})
    if (!ok) return ok.error();
  return out;
}

base::Result<Manifest> ParseSkill(std::string_view markdown, std::string_view folder_name) {
  if (markdown.size() > Limits{}.manifest_bytes)
    return Invalid(kSkillFile, fmt::format("over {} bytes", Limits{}.manifest_bytes));
  Manifest out;
  out.from_skill = true;
  out.name = folder_name;
  if (!IsPluginName(folder_name))
    return Invalid(kSkillFile, fmt::format("the folder's name `{}` cannot be a plugin's name",
                                           Printable(folder_name)));
  // Its front matter is other people's format: read what is readable, refuse nothing.
  if (const std::string_view front = FrontMatter(markdown); !front.empty()) {
    const auto documents = codec::ParseYaml(front);
    if (documents && documents->size() == 1 && documents->front().is_object()) {
      out.description = codec::GetString(documents->front(), "description").substr(0, 4096);
      out.version = codec::GetString(documents->front(), "version").substr(0, 64);
    }
  }
  return out;
}

base::Result<Manifest> SelectManifest(const std::string* plugin_yaml, const std::string* skill_md,
                                      std::string_view folder_name) {
  const auto blank = [](const std::string& text) {
    return text.find_first_not_of(std::string_view(" \t\r\n\0", 5)) == std::string::npos;
  };
  if (plugin_yaml != nullptr) {
    if (blank(*plugin_yaml))
      return base::MakeError(base::Code::kInvalid, "plugin.yaml is empty", "ManifestMissing");
    return ParseManifest(*plugin_yaml);
  }
  if (skill_md == nullptr)
    return base::MakeError(base::Code::kInvalid, "neither plugin.yaml nor SKILL.md is there",
                           "ManifestMissing");
  if (blank(*skill_md))
    return base::MakeError(base::Code::kInvalid, "SKILL.md is empty", "ManifestMissing");
  return ParseSkill(*skill_md, folder_name);
}

}  // namespace bundle
