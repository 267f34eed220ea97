#include <fmt/format.h>

#include "apiserver/schema/validation.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr size_t kMaxAnnotations = 256 << 10;
constexpr size_t kMaxName = 253;
constexpr size_t kMaxLabel = 63;

constexpr const char* kSubdomainText =
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an "
    "alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
constexpr const char* kLabelText =
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
constexpr const char* kQualifiedText =
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. "
    "'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
constexpr const char* kLabelValueText =
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an "
    "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
    "validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

bool IsLowerAlnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool IsAlnum(char c) { return IsLowerAlnum(c) || (c >= 'A' && c <= 'Z'); }

/// One label of a subdomain, of any length.
bool IsLabelShape(std::string_view text) {
  if (text.empty() || !IsLowerAlnum(text.front()) || !IsLowerAlnum(text.back())) return false;
  for (const char c : text) {
    if (!IsLowerAlnum(c) && c != '-') return false;
  }
  return true;
}

bool IsNamePart(std::string_view text) {
  if (text.empty() || !IsAlnum(text.front()) || !IsAlnum(text.back())) return false;
  for (const char c : text) {
    if (!IsAlnum(c) && c != '-' && c != '_' && c != '.') return false;
  }
  return true;
}

void CheckName(const ResourceDefinition& definition, std::string_view name,
               const std::string& field, FieldErrors& errors) {
  const bool label = definition.group.empty() && definition.kind == "Namespace";
  const size_t limit = label ? kMaxLabel : kMaxName;
  if (name.size() > limit) {
    errors.push_back({FieldErrorType::kInvalid, field, name,
                      fmt::format("must be no more than {} bytes", limit)});
  }
  std::string shape(name);
  if (field == "metadata.generateName" && shape.ends_with('-')) shape += 'a';
  if (label ? IsLabelShape(shape) : shape.size() > kMaxName || IsDnsSubdomain(shape)) return;
  errors.push_back({FieldErrorType::kInvalid, field, name, label ? kLabelText : kSubdomainText});
}

void CheckNames(const ResourceDefinition& definition, const Json& metadata, FieldErrors& errors) {
  const std::string name = codec::GetString(metadata, "name");
  const std::string generate = codec::GetString(metadata, "generateName");
  if (!generate.empty()) CheckName(definition, generate, "metadata.generateName", errors);
  if (!name.empty()) return CheckName(definition, name, "metadata.name", errors);
  if (generate.empty())
    errors.push_back(
        {FieldErrorType::kRequired, "metadata.name", {}, "name or generateName is required"});
}

void CheckLabels(const Json& labels, FieldErrors& errors) {
  if (!labels.is_object()) return;
  for (auto it = labels.begin(); it != labels.end(); ++it) {
    if (std::string why = CheckQualifiedName(it.key()); !why.empty()) {
      errors.push_back({FieldErrorType::kInvalid, "metadata.labels", it.key(), std::move(why)});
    }
    if (!it->is_string()) continue;
    if (std::string why = CheckLabelValue(it->get_ref<const std::string&>()); !why.empty()) {
      errors.push_back({FieldErrorType::kInvalid, "metadata.labels", *it, std::move(why)});
    }
  }
}

void CheckAnnotations(const Json& annotations, FieldErrors& errors) {
  if (!annotations.is_object()) return;
  size_t total = 0;
  for (auto it = annotations.begin(); it != annotations.end(); ++it) {
    std::string lower = it.key();
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (std::string why = CheckQualifiedName(lower); !why.empty()) {
      errors.push_back(
          {FieldErrorType::kInvalid, "metadata.annotations", it.key(), std::move(why)});
    }
    total += it.key().size() + (it->is_string() ? it->get_ref<const std::string&>().size() : 0);
  }
  if (total > kMaxAnnotations) {
    errors.push_back({FieldErrorType::kTooLong,
                      "metadata.annotations",
                      {},
                      fmt::format("may not be more than {} bytes", kMaxAnnotations)});
  }
}

void CheckFinalizers(const Json& metadata, const Json* old_metadata, FieldErrors& errors) {
  const Json& finalizers = codec::GetMember(metadata, "finalizers");
  if (!finalizers.is_array()) return;
  const Json& before = old_metadata ? codec::GetMember(*old_metadata, "finalizers")
                                    : codec::GetMember(Json(), "finalizers");
  const bool deleting = old_metadata && old_metadata->contains("deletionTimestamp") &&
                        !(*old_metadata)["deletionTimestamp"].is_null();
  Json added = Json::array();
  for (const Json& finalizer : finalizers) {
    if (!finalizer.is_string()) continue;
    if (std::string why = CheckQualifiedName(finalizer.get_ref<const std::string&>());
        !why.empty()) {
      errors.push_back(
          {FieldErrorType::kInvalid, "metadata.finalizers", finalizer, std::move(why)});
    }
    const bool known =
        before.is_array() && std::find(before.begin(), before.end(), finalizer) != before.end();
    if (!known) added.push_back(finalizer);
  }
  if (deleting && !added.empty()) {
    errors.push_back({FieldErrorType::kForbidden,
                      "metadata.finalizers",
                      {},
                      fmt::format("no new finalizers can be added if the object is being deleted, "
                                  "found new finalizers {}",
                                  codec::Dump(added))});
  }
}

void CheckOwners(const Json& owners, FieldErrors& errors) {
  if (!owners.is_array()) return;
  int controllers = 0;
  for (size_t i = 0; i < owners.size(); ++i) {
    for (const char* member : {"apiVersion", "kind", "name", "uid"}) {
      if (!codec::GetString(owners[i], member).empty()) continue;
      errors.push_back({FieldErrorType::kInvalid,
                        fmt::format("metadata.ownerReferences[{}].{}", i, member), "",
                        "must not be empty"});
    }
    if (codec::GetBool(owners[i], "controller") && ++controllers == 2) {
      errors.push_back({FieldErrorType::kInvalid, "metadata.ownerReferences", owners,
                        "Only one reference can have Controller set to true"});
    }
  }
}

void CheckImmutable(const Json& metadata, const Json& old_metadata, FieldErrors& errors) {
  for (const char* member : {"name", "namespace", "uid", "creationTimestamp", "deletionTimestamp",
                             "deletionGracePeriodSeconds"}) {
    const Json& now = codec::GetMember(metadata, member);
    const Json& before = codec::GetMember(old_metadata, member);
    if (now == before) continue;
    errors.push_back(
        {FieldErrorType::kInvalid, fmt::format("metadata.{}", member), now, "field is immutable"});
  }
}

}  // namespace

bool IsDnsLabel(std::string_view name) { return name.size() <= kMaxLabel && IsLabelShape(name); }

bool IsDnsSubdomain(std::string_view name) {
  if (name.empty() || name.size() > kMaxName) return false;
  while (true) {
    const size_t dot = name.find('.');
    if (!IsLabelShape(name.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    name.remove_prefix(dot + 1);
  }
}

std::string CheckLabelValue(std::string_view value) {
  if (value.size() > kMaxLabel) return fmt::format("must be no more than {} bytes", kMaxLabel);
  return value.empty() || IsNamePart(value) ? "" : kLabelValueText;
}

std::string CheckQualifiedName(std::string_view name) {
  const size_t slash = name.find('/');
  if (slash != std::string_view::npos) {
    const std::string_view prefix = name.substr(0, slash);
    if (prefix.empty()) return "prefix part must be non-empty";
    if (!IsDnsSubdomain(prefix)) return fmt::format("prefix part {}", kSubdomainText);
    name.remove_prefix(slash + 1);
  }
  if (name.empty()) return "name part must be non-empty";
  if (name.size() > kMaxLabel)
    return fmt::format("name part must be no more than {} bytes", kMaxLabel);
  return IsNamePart(name) ? "" : kQualifiedText;
}

FieldErrors ValidateMetadata(const ResourceDefinition& definition, const Json& object,
                             const Json* old_object) {
  FieldErrors errors;
  const Json& metadata = codec::GetMember(object, "metadata");
  if (!metadata.is_object()) {
    errors.push_back({FieldErrorType::kRequired, "metadata", {}, ""});
    return errors;
  }
  const Json* before = old_object ? &codec::GetMember(*old_object, "metadata") : nullptr;
  CheckNames(definition, metadata, errors);
  CheckLabels(codec::GetMember(metadata, "labels"), errors);
  CheckAnnotations(codec::GetMember(metadata, "annotations"), errors);
  CheckFinalizers(metadata, before, errors);
  CheckOwners(codec::GetMember(metadata, "ownerReferences"), errors);
  if (before) CheckImmutable(metadata, *before, errors);
  return errors;
}

}  // namespace apiserver
