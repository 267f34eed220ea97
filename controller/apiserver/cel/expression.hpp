#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apiserver/cel/regex.hpp"
#include "apiserver/cel/value.hpp"
#include "base/result.hpp"

namespace apiserver {

enum class CelFunction {
  kNot,
  kNegate,
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kModulo,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kSize,
  kStartsWith,
  kEndsWith,
  kContains,
  kMatches,
  kToInt,
  kToUint,
  kToDouble,
  kToString,
  kToBool,
  kToDyn,
  kTypeOf,
  kToDuration,
  kToTimestamp,
  kLowerAscii,
  kUpperAscii,
  kTrim,
  kSplit,
  kJoin,
  kReplace,
  kSubstring,
  kIndexOf,
  kLastIndexOf,
  kCharAt,
  kReverse,
  kIsSorted,
  kSum,
  kMin,
  kMax,
  kGetFullYear,
  kGetMonth,
  kGetDate,
  kGetDayOfMonth,
  kGetDayOfWeek,
  kGetDayOfYear,
  kGetHours,
  kGetMinutes,
  kGetSeconds,
  kGetMilliseconds,
};

enum class CelMacro { kAll, kExists, kExistsOne, kMap, kFilter };

/// One node of a checked expression.
struct CelExpression {
  enum class Kind {
    kLiteral,
    kVariable,
    kSelect,
    kHas,
    kIndex,
    kList,
    kMap,
    kAnd,
    kOr,
    kTernary,
    kCall,
    kMacro
  };
  Kind kind = Kind::kLiteral;
  CelFunction function = CelFunction::kNot;
  CelMacro macro = CelMacro::kAll;
  int slot = 0;  ///< kVariable, and the variable of a macro: 0 self, 1 oldSelf, then by nesting.
  CelValue literal;
  std::string name;  ///< The wire name of a selected field; the function's name for messages.
  std::optional<Regex> regex;  ///< matches() with a literal pattern.
  std::vector<std::unique_ptr<CelExpression>> args;
  const CelShape* shape = nullptr;  ///< What the schema says of the result; null: nothing.
};

struct ParsedCel {
  std::unique_ptr<CelExpression> root;
  int slots = 2;
  bool uses_old_self = false;
};

/// Parses and checks; see CelProgram::Compile.
base::Result<ParsedCel> ParseCel(std::string_view text, const CelShape* self_shape);

/// Running account of one evaluation.
struct CelBudget {
  uint64_t steps = 0;
  CelLimits limits;
  bool exhausted = false;
  /// Counts `count` steps; false when the budget is spent (then every value is an error and nothing
  /// absorbs it).
  bool Spend(uint64_t count) {
    steps += count;
    if (steps > limits.steps) exhausted = true;
    return !exhausted;
  }
};

/// Operators and functions on evaluated arguments (none of them an error).
CelValue CallCel(const CelExpression& call, std::vector<CelValue>& args, CelBudget& budget);
/// The string functions among them.
CelValue CallCelText(const CelExpression& call, std::vector<CelValue>& args, CelBudget& budget);
/// Conversions and accessors of time.
CelValue CallCelConversion(const CelExpression& call, std::vector<CelValue>& args);

}  // namespace apiserver
