#pragma once

#include <string>
#include <vector>

#include "apiserver/apply/field_set.hpp"
#include "apiserver/apply/managed_fields.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// One entry of metadata.managedFields.
struct ManagedEntry {
  std::string manager;
  std::string operation;  ///< Apply or Update.
  std::string api_version;
  std::string subresource;
  std::string time;  ///< As written; may be empty.
  FieldSet fields;

  bool Is(const ManagedEntry& other) const {
    return manager == other.manager && operation == other.operation &&
           api_version == other.api_version && subresource == other.subresource;
  }
  /// As conflict messages name it: `"kubectl" using v1`.
  std::string Text() const;
};

using ManagedEntries = std::vector<ManagedEntry>;

base::Result<ManagedEntries> DecodeManaged(const codec::Json& managed_fields);
/// Empty entries are dropped, old Update entries over the limit merged, the rest sorted.
codec::Json EncodeManaged(ManagedEntries entries);
/// What nobody can own: names, versions and times that the server keeps.
void StripSystemFields(FieldSet& fields);

}  // namespace apiserver
