#include <fmt/format.h>

#include "apiserver/schema/object_walk.hpp"
#include "apiserver/schema/validation.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr size_t kMaxUnknown = 100;

struct Pruning {
  std::vector<std::string> unknown;
  bool drop = true;
};

bool IsEmbeddedMember(std::string_view name) {
  return name == "apiVersion" || name == "kind" || name == "metadata";
}

void PruneNode(const SchemaNode& schema, Json& json, const FieldPath& path, Pruning& pruning);

void PruneObject(const SchemaNode& schema, Json& json, const FieldPath& path, Pruning& pruning) {
  const bool closed = schema.type == SchemaType::kObject && !schema.preserve_unknown;
  for (auto it = json.begin(); it != json.end();) {
    const FieldPath below = path.Member(it.key());
    if (const SchemaNode* member = schema.Member(it.key())) {
      PruneNode(*member, *it, below, pruning);
    } else if (closed && !(schema.embedded_resource && IsEmbeddedMember(it.key()))) {
      if (pruning.unknown.size() < kMaxUnknown) pruning.unknown.push_back(below.Text());
      if (pruning.drop) {
        it = json.erase(it);
        continue;
      }
    }
    ++it;
  }
}

void PruneNode(const SchemaNode& schema, Json& json, const FieldPath& path, Pruning& pruning) {
  if (json.is_object()) return PruneObject(schema, json, path, pruning);
  if (!json.is_array() || !schema.items) return;
  for (size_t i = 0; i < json.size(); ++i) PruneNode(*schema.items, json[i], path.Item(i), pruning);
}

void DefaultNode(const SchemaNode& schema, Json& json);

void DefaultObject(const SchemaNode& schema, Json& json) {
  if (schema.defaults_below) {
    for (const auto& [name, member] : schema.properties) {
      if (!member->default_value) continue;
      const auto it = json.find(name);
      if (it == json.end() || (it->is_null() && !member->nullable))
        json[name] = *member->default_value;
    }
  }
  for (auto it = json.begin(); it != json.end();) {
    const SchemaNode* member = schema.Member(it.key());
    if (member && it->is_null() && !member->nullable && !member->int_or_string &&
        member->type != SchemaType::kAny) {
      it = json.erase(it);
      continue;
    }
    if (member) DefaultNode(*member, *it);
    ++it;
  }
}

void DefaultNode(const SchemaNode& schema, Json& json) {
  if (json.is_object()) return DefaultObject(schema, json);
  if (!json.is_array() || !schema.items) return;
  for (Json& item : json) DefaultNode(*schema.items, item);
}

}  // namespace

std::vector<std::string> Prune(const ResourceDefinition& definition, Json& object, bool drop) {
  Pruning pruning;
  pruning.drop = drop;
  PruneNode(*definition.schema, object, FieldPath{}, pruning);
  return std::move(pruning.unknown);
}

std::vector<std::string> UnknownFieldWarnings(const std::vector<std::string>& paths) {
  std::vector<std::string> warnings;
  for (const std::string& path : paths)
    warnings.push_back(fmt::format("unknown field \"{}\"", path));
  return warnings;
}

std::string StrictDecodingMessage(const ResourceDefinition& definition,
                                  const std::vector<std::string>& paths) {
  return fmt::format("{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
                     definition.kind, definition.version, definition.kind,
                     fmt::join(UnknownFieldWarnings(paths), ", "));
}

void ApplyDefaults(const ResourceDefinition& definition, Json& object) {
  if (!object.is_object()) return;
  DefaultNode(*definition.schema, object);
}

}  // namespace apiserver
