#pragma once

#include <string>
#include <vector>

#include "apiserver/schema/resource_definition.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// Who writes.
struct FieldManager {
  std::string name;  ///< The query parameter fieldManager, else DefaultFieldManager(User-Agent). At
                     ///< most 128 printable characters.
  std::string subresource;  ///< "" or "status".
  base::WallTime now{};
};

struct ApplyConflict {
  std::string manager;  ///< Text as Kubernetes prints it: `"kubectl" using molecule.ai/v1alpha1`.
  std::string field;    ///< `.spec.plugins[name="a"].source`.
};

/// What an apply came to. With conflicts, `object` is null.
struct ApplyOutcome {
  codec::Json object;    ///< The merged object with its metadata.managedFields.
  bool changed = false;  ///< False: nothing to write, the live object stands (managedFields equal
                         ///< too, times aside).
  std::vector<ApplyConflict> conflicts;
};

/// Server-side apply of `config` (as sent, pruned, without defaults) onto `live` (null document:
/// create). The result is not yet defaulted or validated. kInvalid: config without
/// apiVersion/kind/name, with managedFields, with duplicate list keys, or of another type than the
/// schema says. With manager.subresource "status" only status is taken, else everything but status
/// if the kind has that subresource.
base::Result<ApplyOutcome> ServerSideApply(const ResourceDefinition& definition,
                                           const codec::Json& live, const codec::Json& config,
                                           const FieldManager& manager, bool force);

/// The 409 metav1.Status: `Apply failed with 1 conflict: conflict with "kubectl" using v1:
/// .spec.x`, one cause a field.
codec::Json ApplyConflictStatus(const std::vector<ApplyConflict>& conflicts);

/// For every other write (create, update, patch): sets `updated.metadata.managedFields` from those
/// of `live` (null: create) and the differences. Fields that changed leave other managers; entries
/// of equal content keep their time; at most 10 Update managers (older: ancient-changes). A client
/// that sends managedFields: [] or [{}] clears them, one that sends none keeps the live ones. Call
/// after defaulting; `updated` unchanged from `live` keeps everything as it was.
void UpdateManagedFields(const ResourceDefinition& definition, const codec::Json& live,
                         codec::Json& updated, const FieldManager& manager);

/// Checks a client's managedFields (shape and FieldsV1 syntax); empty text if good. To be called
/// where a client may set them (PUT, PATCH).
std::string CheckManagedFields(const codec::Json& managed_fields);

/// The user agent up to the first slash, at most 128 bytes, printable; "unknown" if empty.
std::string DefaultFieldManager(std::string_view user_agent);

/// True if both objects are equal but for metadata.resourceVersion and the times of
/// metadata.managedFields: such a write is not stored. (A change of managedFields alone is one:
/// kubectl migrates ownership that way.)
bool EqualForStorage(const codec::Json& a, const codec::Json& b);

}  // namespace apiserver
