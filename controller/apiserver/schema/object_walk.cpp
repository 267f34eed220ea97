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

namespace {

/// One key of an item, its default if it is absent, or null.
const Json* KeyValue(const SchemaNode& list, const Json& item, const std::string& name) {
  if (!item.is_object()) return nullptr;
  const auto it = item.find(name);
  if (it != item.end() && it->is_primitive() && !it->is_null()) return &*it;
  const SchemaNode* member = list.items ? list.items->Member(name) : nullptr;
  return member && member->default_value ? &*member->default_value : nullptr;
}

}  // namespace

std::string ListMapKey(const SchemaNode& list, const Json& item) {
  Json key = Json::object();
  for (const std::string& name : list.list_map_keys) {
    const Json* value = KeyValue(list, item, name);
    if (!value) return {};
    key[name] = *value;
  }
  return key.empty() ? std::string() : codec::Dump(key);
}

bool SameListMapKey(const SchemaNode& list, const Json& a, const Json& b) {
  for (const std::string& name : list.list_map_keys) {
    const Json* left = KeyValue(list, a, name);
    const Json* right = KeyValue(list, b, name);
    if (!left || !right || *left != *right) return false;
  }
  return true;
}

}  // namespace apiserver
