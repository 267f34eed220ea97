#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apiserver/cel/program.hpp"
#include "apiserver/cel/regex.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

enum class SchemaType { kAny, kObject, kArray, kString, kInteger, kNumber, kBoolean };
enum class ListType { kAtomic, kSet, kMap };

/// One x-kubernetes-validations rule. `program` is absent when the rule could not be compiled: then
/// `broken` says why, and every write that the rule guards is refused with it.
struct ValidationRule {
  std::string rule;
  std::string message;
  std::string field_path;  ///< ".spec.x" below the node; empty: the node itself.
  std::string reason;  ///< FieldValueInvalid (default), FieldValueForbidden, FieldValueRequired,
                       ///< FieldValueDuplicate.
  std::string broken;
  std::optional<CelProgram> program;
  std::optional<CelProgram> message_expression;
};

class SchemaNode;
using SchemaMap = std::map<std::string, std::unique_ptr<SchemaNode>, std::less<>>;

/// The rarer value validations of a node, kept apart so that the common node stays small.
struct ValueChecks {
  std::vector<codec::Json> enumeration;
  std::string pattern_text;
  std::optional<Regex> pattern;
  std::optional<double> minimum;
  std::optional<double> maximum;
  std::optional<double> multiple_of;
  bool exclusive_minimum = false;
  bool exclusive_maximum = false;
  std::optional<int64_t> min_length;
  std::optional<int64_t> max_length;
  std::optional<int64_t> min_items;
  std::optional<int64_t> max_items;
  std::optional<int64_t> min_properties;
  std::optional<int64_t> max_properties;
  bool unique_items = false;
  std::vector<std::unique_ptr<SchemaNode>> all_of;
  std::vector<std::unique_ptr<SchemaNode>> any_of;
  std::vector<std::unique_ptr<SchemaNode>> one_of;
  std::unique_ptr<SchemaNode> negated;
};

/// A compiled structural schema. Immutable after CompileSchema; shared by all threads.
class SchemaNode final : public CelShape {
 public:
  SchemaType type = SchemaType::kAny;
  ListType list_type = ListType::kAtomic;
  bool nullable = false;
  bool int_or_string = false;
  bool preserve_unknown = false;
  bool embedded_resource = false;
  bool object_meta =
      false;  ///< metadata of the object (or of an embedded one): rules see only its names.
  bool atomic_map = false;      ///< x-kubernetes-map-type: atomic.
  bool rules_below = false;     ///< This node or one below has rules.
  bool defaults_below = false;  ///< This node or one below has a default.
  std::string format;
  SchemaMap properties;
  std::unique_ptr<SchemaNode> additional;  ///< additionalProperties; null: none.
  std::unique_ptr<SchemaNode> items;
  std::vector<std::string> required;
  std::vector<std::string> list_map_keys;
  std::optional<codec::Json> default_value;
  std::unique_ptr<ValueChecks> checks;
  std::vector<ValidationRule> rules;
  std::string patch_merge_key;  ///< Built-in kinds only: strategic merge patch.
  bool patch_merge = false;     ///< x-kubernetes-patch-strategy: merge.

  /// The schema of that member: a property, else additionalProperties, else null.
  const SchemaNode* Member(std::string_view name) const;
  /// "object", "array", ...; empty for kAny.
  const char* TypeName() const;

  Kind CelKind() const override;
  const CelShape* CelField(std::string_view name) const override;
  const CelShape* CelElement() const override;
};

/// Compiles an OpenAPI v3 schema as CRDs carry it (at most depth 40 and 20,000 nodes). kInvalid
/// naming the path of what is not structural or not understood ($ref, a bad pattern, an unknown
/// type). A CEL rule that does not compile is no error here: it is kept as broken (see
/// ValidationRule).
base::Result<std::unique_ptr<SchemaNode>> CompileSchema(const codec::Json& schema);

}  // namespace apiserver
