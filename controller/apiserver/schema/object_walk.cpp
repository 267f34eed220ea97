#include "apiserver/schema/object_walk.hpp"

namespace apiserver {

using codec::Json;

std::string FieldPath::Text() const {
  if (!parent) return std::string(name);
  std::string text = parent->Text();
  if (name.empty()) return text + "[" + std::to_string(index) + "]";
  if (!text.empty()) text += '.';
  return text.append(name);
}

std::string ListMapKey(const SchemaNode& list, const Json& item) {
  if (!item.is_object()) return {};
  Json key = Json::object();
  for (const std::string& name : list.list_map_keys) {
    const auto it = item.find(name);
    if (it != item.end() && it->is_primitive() && !it->is_null()) {
      key[name] = *it;
      continue;
    }
    const SchemaNode* member = list.items ? list.items->Member(name) : nullptr;
    if (!member || !member->default_value) return {};
    key[name] = *member->default_value;
  }
  return codec::Dump(key);
}

const Json* FindByListMapKey(const SchemaNode& schema, const Json& list, std::string_view key) {
  if (!list.is_array() || key.empty()) return nullptr;
  for (const Json& item : list) {
    if (ListMapKey(schema, item) == key) return &item;
  }
  return nullptr;
}

}  // namespace apiserver
