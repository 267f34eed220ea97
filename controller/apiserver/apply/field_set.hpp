#pragma once

#include <map>
#include <string>
#include <vector>

#include "apiserver/schema/schema_node.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// A set of field paths as a tree. Children are named as FieldsV1 names them: f:name,
/// k:{"key":"value"}, v:value, i:index.
struct FieldSet {
  bool member = false;
  std::map<std::string, FieldSet> children;

  bool Empty() const { return !member && children.empty(); }
  bool operator==(const FieldSet&) const = default;
  /// Removes children without members. True if nothing is left.
  bool Compact();
};

FieldSet Union(const FieldSet& a, const FieldSet& b);
FieldSet Difference(const FieldSet& a, const FieldSet& b);
FieldSet Intersection(const FieldSet& a, const FieldSet& b);

/// The fields that an applied document states. kInvalid naming the path of duplicate or missing
/// list keys.
base::Result<FieldSet> FieldsOf(const SchemaNode& schema, const codec::Json& document);

struct Comparison {
  FieldSet added;
  FieldSet removed;
  FieldSet modified;
};
/// What changed from `before` to `after`, by the schema's list and map types. Fields without schema
/// are granular maps and atomic lists.
Comparison CompareFields(const SchemaNode& schema, const codec::Json& before,
                         const codec::Json& after);

/// `live` overlaid with `config` by the schema's list and map types.
codec::Json MergeFields(const SchemaNode* schema, const codec::Json& live,
                        const codec::Json& config);
/// Takes out of `object` what `last` states and `owned` does not; metadata itself always stays.
void RemoveUnowned(const SchemaNode& schema, codec::Json& object, const FieldSet& last,
                   const FieldSet& owned);

codec::Json EncodeFieldsV1(const FieldSet& set);
/// kInvalid for anything that is no FieldsV1 tree; depth at most 64.
base::Result<FieldSet> DecodeFieldsV1(const codec::Json& fields);

/// `.spec.plugins[name="a"].source` for each member.
std::vector<std::string> FieldTexts(const FieldSet& set);

}  // namespace apiserver
