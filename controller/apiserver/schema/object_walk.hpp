#pragma once

#include <string>
#include <string_view>

#include "apiserver/schema/schema_node.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// Where a walk stands: a chain of steps on the stack, turned into text only when something is
/// wrong.
struct FieldPath {
  const FieldPath* parent = nullptr;
  std::string_view name;  ///< A member; empty: an index.
  size_t index = 0;

  FieldPath Member(std::string_view member) const { return {this, member, 0}; }
  FieldPath Item(size_t position) const { return {this, {}, position}; }
  /// `spec.plugins[0].name`; empty for the root.
  std::string Text() const;
};

/// The list-map keys of an item as one text, e.g. {"name":"a"}; defaults of absent keys are filled
/// in. Empty if a key is missing.
std::string ListMapKey(const SchemaNode& list, const codec::Json& item);

/// True if both items have the same list-map keys (defaults filled in, none missing). Allocates
/// nothing.
bool SameListMapKey(const SchemaNode& list, const codec::Json& a, const codec::Json& b);

}  // namespace apiserver
