#pragma once

#include "apiserver/schema/field_error.hpp"
#include "apiserver/schema/object_walk.hpp"
#include "apiserver/schema/schema_node.hpp"
#include "codec/json.hpp"

namespace apiserver {

constexpr size_t kMaxFieldErrors = 64;

/// Type, value checks, required members and list types of a value and all below; `before` is the
/// correlated old value or null.
void ValidateValue(const SchemaNode& schema, const codec::Json& json, const codec::Json* before,
                   const FieldPath& path, FieldErrors& errors);

/// The value checks of one node (not below). The type is right already.
void CheckValue(const SchemaNode& schema, const codec::Json& json, const FieldPath& path,
                FieldErrors& errors);

/// The CEL rules of a value and all below.
class RuleRun {
 public:
  explicit RuleRun(FieldErrors& errors) : errors_(errors) {}
  void Run(const SchemaNode& schema, const codec::Json& json, const codec::Json* before,
           const FieldPath& path);
  /// Rules that cannot be evaluated refuse even what has not changed: they come last, past the
  /// ratchet.
  void Finish();

 private:
  void Below(const SchemaNode& schema, const codec::Json& json, const codec::Json* before,
             const FieldPath& path);
  void Apply(const SchemaNode& schema, const ValidationRule& rule, const CelVariables& variables,
             const FieldPath& path);
  std::string Message(const ValidationRule& rule, const CelVariables& variables);

  FieldErrors& errors_;
  FieldErrors broken_;
  uint64_t cost_ = 0;
};

/// The old counterpart of an item: by key in map lists, else none (as Kubernetes correlates).
const codec::Json* CorrelatedItem(const SchemaNode& list, const codec::Json* before,
                                  const codec::Json& item);

}  // namespace apiserver
