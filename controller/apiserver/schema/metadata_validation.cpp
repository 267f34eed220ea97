#include <fmt/format.h>

#include "apiserver/schema/validation.hpp"
#include "meta/names.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr size_t kMaxAnnotations = 256 << 10;

void CheckName(const ResourceDefinition& definition, std::string_view name,
               const std::string& field, FieldErrors& errors) {
  const bool label = definition.group.empty() && definition.kind == "Namespace";
  const size_t limit = label ? meta::kMaxLabelBytes : meta::kMaxNameBytes;
  if (name.size() > limit) {
    errors.push_back({FieldErrorType::kInvalid, field, name,
                      fmt::format("must be no more than {} bytes", limit)});
  }
  std::string shape(name);
  if (field == "metadata.generateName" && shape.ends_with('-')) shape += 'a';
  if (label ? meta::HasDnsLabelShape(shape)
            : shape.size() > meta::kMaxNameBytes || meta::IsDnsSubdomain(shape))
    return;
  errors.push_back({FieldErrorType::kInvalid, field, name,
                    label ? meta::kDnsLabelRule : meta::kDnsSubdomainRule});
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
    if (std::string why = meta::CheckQualifiedName(it.key()); !why.empty()) {
      errors.push_back({FieldErrorType::kInvalid, "metadata.labels", it.key(), std::move(why)});
    }
    if (!it->is_string()) continue;
    if (std::string why = meta::CheckLabelValue(it->get_ref<const std::string&>()); !why.empty()) {
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
    if (std::string why = meta::CheckQualifiedName(lower); !why.empty()) {
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
    if (std::string why = meta::CheckQualifiedName(finalizer.get_ref<const std::string&>());
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
