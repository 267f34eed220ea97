#include <fmt/format.h>

#include "apiserver/schema/object_schema.hpp"
#include "apiserver/schema/resource_definition.hpp"
#include "meta/names.hpp"

namespace apiserver {
namespace {

using codec::GetMember;
using codec::GetString;
using codec::Json;

base::Error Bad(const std::string& name, std::string_view path, std::string_view why) {
  return base::MakeError(base::Code::kInvalid,
                         fmt::format("CustomResourceDefinition `{}`: {}: {}", name, path, why));
}

std::vector<std::string> Texts(const Json& list) {
  std::vector<std::string> texts;
  if (!list.is_array()) return texts;
  for (const Json& item : list) {
    if (item.is_string()) texts.push_back(item);
  }
  return texts;
}

base::Status ReadNames(const Json& crd, const std::string& name, ResourceDefinition& definition) {
  const Json& spec = GetMember(crd, "spec");
  const Json& names = GetMember(spec, "names");
  definition.group = GetString(spec, "group");
  definition.kind = GetString(names, "kind");
  definition.plural = GetString(names, "plural");
  definition.list_kind = GetString(names, "listKind", definition.kind + "List");
  std::string lower = definition.kind;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  definition.singular = GetString(names, "singular", lower);
  definition.short_names = Texts(GetMember(names, "shortNames"));
  definition.categories = Texts(GetMember(names, "categories"));
  if (!meta::IsDnsSubdomain(definition.group) || definition.group.find('.') == std::string::npos) {
    return Bad(name, "spec.group", "must be a domain name with at least one dot");
  }
  if (definition.kind.empty()) return Bad(name, "spec.names.kind", "is required");
  if (!meta::IsDnsLabel(definition.plural))
    return Bad(name, "spec.names.plural", "must be a lower-case label");
  if (name != definition.plural + "." + definition.group)
    return Bad(name, "metadata.name", "must be spec.names.plural + \".\" + spec.group");
  const std::string scope = GetString(spec, "scope");
  if (scope != "Namespaced" && scope != "Cluster")
    return Bad(name, "spec.scope", "must be Namespaced or Cluster");
  definition.namespaced = scope == "Namespaced";
  return {};
}

base::Status ReadColumns(const Json& version, const std::string& name,
                         ResourceDefinition& definition) {
  definition.columns.push_back(NameColumn());
  const Json& columns = GetMember(version, "additionalPrinterColumns");
  if (!columns.is_array() || columns.empty()) {
    definition.columns.push_back(AgeColumn());
    return {};
  }
  for (size_t i = 0; i < columns.size(); ++i) {
    const Json& column = columns[i];
    auto path = JsonPath::Compile(GetString(column, "jsonPath"));
    if (!path)
      return Bad(name, fmt::format("spec.versions[0].additionalPrinterColumns[{}]", i),
                 path.error().message);
    definition.columns.push_back({GetString(column, "name"), GetString(column, "type"),
                                  GetString(column, "format"), GetString(column, "description"),
                                  static_cast<int>(codec::GetInt(column, "priority")), *path, ""});
  }
  return {};
}

base::Status ReadSelectableFields(const Json& version, const std::string& name,
                                  ResourceDefinition& definition) {
  const Json& fields = GetMember(version, "selectableFields");
  if (!fields.is_array()) return {};
  for (size_t i = 0; i < fields.size(); ++i) {
    const std::string text = GetString(fields[i], "jsonPath");
    auto path = JsonPath::Compile(text);
    if (!path || !text.starts_with('.'))
      return Bad(name, fmt::format("spec.versions[0].selectableFields[{}]", i),
                 "jsonPath must be a path like .spec.x");
    definition.selectable_fields.push_back({text.substr(1), *path});
  }
  return {};
}

void ListBroken(const SchemaNode& node, const std::string& path, std::vector<std::string>& broken) {
  for (const ValidationRule& rule : node.rules) {
    if (!rule.broken.empty())
      broken.push_back(
          fmt::format("{}: {}: {}", path.empty() ? "<nil>" : path, rule.rule, rule.broken));
  }
  const std::string prefix = path.empty() ? "" : path + ".";
  for (const auto& [name, member] : node.properties) ListBroken(*member, prefix + name, broken);
  if (node.additional) ListBroken(*node.additional, prefix + "*", broken);
  if (node.items) ListBroken(*node.items, path + "[*]", broken);
}

base::Result<ResourceDefinition> Load(const Json& crd) {
  const std::string name = GetString(GetMember(crd, "metadata"), "name");
  if (GetString(crd, "apiVersion") != "apiextensions.k8s.io/v1" ||
      GetString(crd, "kind") != "CustomResourceDefinition") {
    return Bad(name, "apiVersion, kind",
               "must be apiextensions.k8s.io/v1, CustomResourceDefinition");
  }
  ResourceDefinition definition;
  definition.custom = true;
  if (auto read = ReadNames(crd, name, definition); !read) return read.error();
  const Json& versions = GetMember(GetMember(crd, "spec"), "versions");
  if (!versions.is_array() || versions.size() != 1) {
    return Bad(name, "spec.versions", "this server supports exactly one version a definition");
  }
  const Json& version = versions[0];
  if (!codec::GetBool(version, "served") || !codec::GetBool(version, "storage")) {
    return Bad(name, "spec.versions[0]", "the only version must be served and stored");
  }
  definition.version = GetString(version, "name");
  if (!meta::IsDnsLabel(definition.version))
    return Bad(name, "spec.versions[0].name", "must be a lower-case label");
  const Json& subresources = GetMember(version, "subresources");
  definition.has_status_subresource = subresources.is_object() && subresources.contains("status");
  if (subresources.is_object() && subresources.contains("scale")) {
    return Bad(name, "spec.versions[0].subresources.scale", "is not supported");
  }
  definition.generation_counts_all = !definition.has_status_subresource;
  if (auto read = ReadColumns(version, name, definition); !read) return read.error();
  if (auto read = ReadSelectableFields(version, name, definition); !read) return read.error();
  auto set = SetSchema(definition, GetMember(GetMember(version, "schema"), "openAPIV3Schema"));
  if (!set) return Bad(name, "spec.versions[0].schema", set.error().message);
  return definition;
}

}  // namespace

base::Result<ResourceDefinition> LoadCrd(const Json& crd) {
  try {
    return Load(crd);
  } catch (const std::exception& e) {
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("CustomResourceDefinition: {}", e.what()));
  }
}

std::vector<std::string> BrokenRules(const ResourceDefinition& definition) {
  std::vector<std::string> broken;
  if (definition.schema) ListBroken(*definition.schema, "", broken);
  return broken;
}

}  // namespace apiserver
