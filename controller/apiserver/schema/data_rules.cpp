#include "apiserver/schema/data_rules.hpp"

#include <fmt/format.h>

#include <string_view>

namespace apiserver {
namespace {

using codec::Json;

constexpr size_t kMaxData = 1 << 20;

bool IsConfigKey(std::string_view key) {
  if (key.empty() || key.size() > 253 || key == "." || key == "..") return false;
  for (const char c : key) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.')
      return false;
  }
  return true;
}

bool IsSecretish(const ResourceDefinition& definition) {
  return definition.group.empty() &&
         (definition.kind == "Secret" || definition.kind == "ConfigMap");
}

/// Keys and size of one map; returns its bytes.
size_t ValidateData(const Json& object, const char* member, bool encoded, FieldErrors& errors) {
  const Json& data = codec::GetMember(object, member);
  size_t total = 0;
  if (!data.is_object()) return 0;
  for (auto it = data.begin(); it != data.end(); ++it) {
    const std::string field = fmt::format("{}[{}]", member, it.key());
    if (!IsConfigKey(it.key())) {
      errors.push_back(
          {FieldErrorType::kInvalid, field, it.key(),
           "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
           "'key.name',  or "
           "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"});
    }
    if (!it->is_string()) continue;  // The schema says so.
    const std::string& text = it->get_ref<const std::string&>();
    total += encoded ? text.size() / 4 * 3 : text.size();
  }
  return total;
}

void ValidateImmutable(const Json& object, const Json& old_object, FieldErrors& errors) {
  if (codec::GetBool(old_object, "immutable")) {
    if (!codec::GetBool(object, "immutable")) {
      errors.push_back({FieldErrorType::kForbidden,
                        "immutable",
                        {},
                        "field is immutable when `immutable` is set"});
    }
    for (const char* member : {"data", "binaryData"}) {
      if (codec::GetMember(object, member) == codec::GetMember(old_object, member)) continue;
      errors.push_back(
          {FieldErrorType::kForbidden, member, {}, "field is immutable when `immutable` is set"});
    }
  }
  if (codec::GetMember(object, "type") != codec::GetMember(old_object, "type")) {
    errors.push_back(
        {FieldErrorType::kInvalid, "type", codec::GetMember(object, "type"), "field is immutable"});
  }
}

}  // namespace

void ValidateBuiltinData(const ResourceDefinition& definition, const Json& object,
                         const Json* old_object, FieldErrors& errors) {
  if (!IsSecretish(definition)) return;
  const bool secret = definition.kind == "Secret";
  size_t total = ValidateData(object, "data", secret, errors);
  if (!secret) total += ValidateData(object, "binaryData", true, errors);
  if (total > kMaxData) {
    errors.push_back({FieldErrorType::kTooLong,
                      secret ? "data" : "",
                      {},
                      fmt::format("may not be more than {} bytes", kMaxData)});
  }
  if (old_object) ValidateImmutable(object, *old_object, errors);
}

}  // namespace apiserver
