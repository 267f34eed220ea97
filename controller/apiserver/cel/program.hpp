#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

class CelValue;

/// What a CEL expression may know about the document it reads: the schema, seen from below. Without
/// a shape (null) everything is dynamic. Implemented by the schema folder; must outlive the
/// programs compiled against it.
class CelShape {
 public:
  enum class Kind {
    kDynamic,
    kObject,
    kMap,
    kList,
    kString,
    kInt,
    kDouble,
    kBool,
    kTimestamp,
    kDuration
  };
  virtual ~CelShape() = default;
  virtual Kind CelKind() const = 0;
  /// The member of a kObject, or null if the schema has none by that (wire) name.
  virtual const CelShape* CelField(std::string_view name) const = 0;
  /// What a kList or kMap holds, or null.
  virtual const CelShape* CelElement() const = 0;
};

/// What an evaluation may cost. A step is one visit of a node; strings, lists and regular
/// expressions cost by their length too.
struct CelLimits {
  uint64_t steps = 1'000'000;
  size_t bytes = 1 << 20;  ///< Longest string or list that an expression may make.
};

/// Variables of one evaluation. `self` must not be null; `old_self` may be (then the program must
/// not use oldSelf).
struct CelVariables {
  const codec::Json* self = nullptr;
  const codec::Json* old_self = nullptr;
};

/// One compiled CEL expression: the subset that x-kubernetes-validations use. Immutable, thread
/// safe, cheap to copy.
class CelProgram {
 public:
  /// Parses and checks `text` (at most 16 KiB, depth 64). kInvalid with position and reason for
  /// everything that is not understood: syntax, unknown functions, unknown variables, fields that
  /// `self_shape` does not have. Nothing unknown is left to run time.
  static base::Result<CelProgram> Compile(std::string_view text,
                                          const CelShape* self_shape = nullptr);

  /// True if the expression reads oldSelf (a transition rule).
  bool UsesOldSelf() const;

  /// kInvalid with CEL's own wording ("no such key: a", "index out of bounds: 3", "cost limit
  /// exceeded") when evaluation fails or the result has another type. Adds the steps used to
  /// `*cost` if given.
  base::Result<bool> EvaluateBool(const CelVariables& variables, const CelLimits& limits = {},
                                  uint64_t* cost = nullptr) const;
  base::Result<std::string> EvaluateString(const CelVariables& variables,
                                           const CelLimits& limits = {},
                                           uint64_t* cost = nullptr) const;
  /// The result as JSON (timestamps and durations as text); for tests and tools.
  base::Result<codec::Json> Evaluate(const CelVariables& variables,
                                     const CelLimits& limits = {}) const;

 private:
  struct Impl;
  base::Result<CelValue> Run(const CelVariables& variables, const CelLimits& limits,
                             uint64_t* cost) const;
  explicit CelProgram(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace apiserver
