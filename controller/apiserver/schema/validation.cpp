#include "apiserver/schema/validation.hpp"

#include <fmt/format.h>

#include <cmath>
#include <set>

#include "apiserver/schema/data_rules.hpp"
#include "apiserver/schema/value_validation.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr const char* kNotChecked =
    "some validation rules were not checked because the object was invalid; correct the existing "
    "errors to complete validation";

const char* JsonTypeName(const Json& json) {
  switch (json.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "boolean";
    case Json::value_t::string:
      return "string";
    case Json::value_t::object:
      return "object";
    case Json::value_t::array:
      return "array";
    case Json::value_t::number_float:
      return "number";
    default:
      return "integer";
  }
}

bool HasType(const SchemaNode& schema, const Json& json) {
  if (schema.int_or_string) return json.is_string() || json.is_number_integer();
  switch (schema.type) {
    case SchemaType::kAny:
      return true;
    case SchemaType::kObject:
      return json.is_object();
    case SchemaType::kArray:
      return json.is_array();
    case SchemaType::kString:
      return json.is_string();
    case SchemaType::kNumber:
      return json.is_number();
    case SchemaType::kBoolean:
      return json.is_boolean();
    case SchemaType::kInteger:
      return json.is_number_integer() ||
             (json.is_number_float() && std::floor(json.get<double>()) == json.get<double>());
  }
  return false;
}

void WrongType(const SchemaNode& schema, const Json& json, const FieldPath& path,
               FieldErrors& errors) {
  const std::string field = path.Text();
  const char* wanted = schema.int_or_string ? "integer,string" : schema.TypeName();
  const char* found = JsonTypeName(json);
  errors.push_back({FieldErrorType::kTypeInvalid, field.empty() ? "<nil>" : field, found,
                    fmt::format("{} in body must be of type {}: \"{}\"", field, wanted, found)});
}

void ValidateMembers(const SchemaNode& schema, const Json& json, const Json* before,
                     const FieldPath& path, FieldErrors& errors) {
  for (const std::string& name : schema.required) {
    if (json.contains(name)) continue;
    errors.push_back({FieldErrorType::kRequired, path.Member(name).Text(), {}, ""});
  }
  for (auto it = json.begin(); it != json.end() && errors.size() < kMaxFieldErrors; ++it) {
    const SchemaNode* member = schema.Member(it.key());
    if (!member) continue;
    const Json* old_member = nullptr;
    if (before && before->is_object()) {
      const auto found = before->find(it.key());
      if (found != before->end()) old_member = &*found;
    }
    ValidateValue(*member, *it, old_member, path.Member(it.key()), errors);
  }
}

void CheckListType(const SchemaNode& schema, const Json& json, const FieldPath& path,
                   FieldErrors& errors) {
  if (schema.list_type == ListType::kAtomic) return;
  std::set<std::string> seen;
  for (size_t i = 0; i < json.size(); ++i) {
    const bool map = schema.list_type == ListType::kMap;
    const std::string key = map ? ListMapKey(schema, json[i]) : codec::Dump(json[i]);
    if (key.empty() || seen.insert(key).second) continue;
    Json shown = json[i];
    if (map) {
      shown = Json::object();
      for (const std::string& name : schema.list_map_keys)
        shown[name] = codec::GetMember(json[i], name);
    }
    errors.push_back({FieldErrorType::kDuplicate, path.Item(i).Text(), std::move(shown), ""});
  }
}

void ValidateItems(const SchemaNode& schema, const Json& json, const Json* before,
                   const FieldPath& path, FieldErrors& errors) {
  CheckListType(schema, json, path, errors);
  if (!schema.items) return;
  for (size_t i = 0; i < json.size() && errors.size() < kMaxFieldErrors; ++i) {
    ValidateValue(*schema.items, json[i], CorrelatedItem(schema, before, json[i]), path.Item(i),
                  errors);
  }
}

bool Blocks(const FieldErrors& errors) {
  for (const FieldError& error : errors) {
    switch (error.type) {
      case FieldErrorType::kNotSupported:
      case FieldErrorType::kRequired:
      case FieldErrorType::kTooLong:
      case FieldErrorType::kTooMany:
      case FieldErrorType::kTypeInvalid:
        return true;
      default:
        break;
    }
  }
  return false;
}

}  // namespace

const Json* CorrelatedItem(const SchemaNode& list, const Json* before, const Json& item) {
  if (!before || !before->is_array() || list.list_type != ListType::kMap) return nullptr;
  for (const Json& old_item : *before) {
    if (SameListMapKey(list, old_item, item)) return &old_item;
  }
  return nullptr;
}

void ValidateValue(const SchemaNode& schema, const Json& json, const Json* before,
                   const FieldPath& path, FieldErrors& errors) {
  const size_t faults = errors.size();
  if (json.is_null()) {
    if (!schema.nullable && schema.type != SchemaType::kAny) WrongType(schema, json, path, errors);
  } else if (!HasType(schema, json)) {
    WrongType(schema, json, path, errors);
  } else {
    CheckValue(schema, json, path, errors);
    if (json.is_object()) ValidateMembers(schema, json, before, path, errors);
    if (json.is_array()) ValidateItems(schema, json, before, path, errors);
  }
  // The ratchet: what was stored before and has not changed is no new fault.
  if (errors.size() > faults && before && *before == json) errors.resize(faults);
}

FieldErrors Validate(const ResourceDefinition& definition, const Json& object,
                     const Json* old_object) {
  FieldErrors errors = ValidateMetadata(definition, object, old_object);
  ValidateValue(*definition.schema, object, old_object, FieldPath{}, errors);
  if (!definition.custom) ValidateBuiltinData(definition, object, old_object, errors);
  if (definition.schema->rules_below) {
    if (Blocks(errors)) {
      errors.push_back({FieldErrorType::kInvalid, "<nil>", nullptr, kNotChecked});
    } else {
      RuleRun rules(errors);
      rules.Run(*definition.schema, object, old_object, FieldPath{});
      rules.Finish();
    }
  }
  if (errors.size() > kMaxFieldErrors) errors.resize(kMaxFieldErrors);
  return errors;
}

}  // namespace apiserver
