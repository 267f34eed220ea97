#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apiserver/schema/field_error.hpp"
#include "apiserver/schema/resource_definition.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// The order of a write: body -> Prune -> (patch) -> ApplyDefaults -> Validate. All are pure and
/// thread safe.

/// Removes what the schema does not know (also unknown members of metadata) and returns the removed
/// paths in document order, at most 100: spec.foo, spec.plugins[0].bar. `drop` false only collects.
/// Values of the wrong type are left for Validate.
std::vector<std::string> Prune(const ResourceDefinition& definition, codec::Json& object,
                               bool drop = true);
/// `unknown field "spec.foo"` for each path: the texts of the `Warning: 299 - "..."` headers
/// (fieldValidation=Warn).
std::vector<std::string> UnknownFieldWarnings(const std::vector<std::string>& paths);
/// fieldValidation=Strict: the message of the 400 BadRequest Status:
/// `Workspace in version "v1alpha1" cannot be handled as a Workspace: strict decoding error:
/// unknown field "spec.foo", unknown field "spec.bar"`.
std::string StrictDecodingMessage(const ResourceDefinition& definition,
                                  const std::vector<std::string>& paths);

/// Sets the schema's defaults where a member is absent (or null while the schema is not nullable)
/// and its parent is there; never makes a parent that has no default itself. Drops nulls of
/// non-nullable members without default like Kubernetes does.
void ApplyDefaults(const ResourceDefinition& definition, codec::Json& object);

/// Everything that is wrong with `object`: metadata, schema, list types, CEL. `old_object` (null on
/// create) gives transition rules their oldSelf and ratchets: a fault in a value that has not
/// changed is not reported. On update also metadata that may not change (name, namespace, uid,
/// creationTimestamp, deletionTimestamp, immutable built-in fields). Stops at 64 errors.
FieldErrors Validate(const ResourceDefinition& definition, const codec::Json& object,
                     const codec::Json* old_object = nullptr);

/// Metadata alone (name, generateName, labels, annotations <= 256 KiB, finalizers,
/// ownerReferences); part of Validate.
FieldErrors ValidateMetadata(const ResourceDefinition& definition, const codec::Json& object,
                             const codec::Json* old_object = nullptr);

}  // namespace apiserver
