#pragma once

#include "apiserver/schema/resource_definition.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// RFC 7386 (application/merge-patch+json). kInvalid if the patch is no object or nests deeper
/// than 64.
base::Result<codec::Json> MergePatch(const codec::Json& target, const codec::Json& patch);

/// RFC 6902 (application/json-patch+json), at most 10,000 operations, result at most
/// `kMaxPatchedNodes` values. kInvalid (422 for the REST layer, reason "Invalid") for an operation
/// that cannot be done, with its index and path; a failed `test` says so.
base::Result<codec::Json> JsonPatch(const codec::Json& target, const codec::Json& operations);

/// application/strategic-merge-patch+json: lists merge by their patchMergeKey; $patch:
/// delete/replace/merge, $retainKeys, $deleteFromPrimitiveList and $setElementOrder are understood.
/// Built-in kinds only: kInvalid with reason "UnsupportedMediaType" for custom ones (the REST
/// layer's 415).
base::Result<codec::Json> StrategicMergePatch(const ResourceDefinition& definition,
                                              const codec::Json& target, const codec::Json& patch);

}  // namespace apiserver
