#pragma once

#include <cstddef>
#include <string_view>

#include "apiserver/cel/expression.hpp"

/// What the parser knows by name: everything else is refused.
namespace apiserver {

/// A function or method of the subset.
struct Signature {
  std::string_view name;
  bool method;
  size_t min_args;  ///< With the receiver.
  size_t max_args;
  CelFunction function;
};

inline constexpr Signature kSignatures[] = {
    {"size", false, 1, 1, CelFunction::kSize},
    {"matches", false, 2, 2, CelFunction::kMatches},
    {"int", false, 1, 1, CelFunction::kToInt},
    {"uint", false, 1, 1, CelFunction::kToUint},
    {"double", false, 1, 1, CelFunction::kToDouble},
    {"string", false, 1, 1, CelFunction::kToString},
    {"bool", false, 1, 1, CelFunction::kToBool},
    {"dyn", false, 1, 1, CelFunction::kToDyn},
    {"type", false, 1, 1, CelFunction::kTypeOf},
    {"duration", false, 1, 1, CelFunction::kToDuration},
    {"timestamp", false, 1, 1, CelFunction::kToTimestamp},
    {"size", true, 1, 1, CelFunction::kSize},
    {"startsWith", true, 2, 2, CelFunction::kStartsWith},
    {"endsWith", true, 2, 2, CelFunction::kEndsWith},
    {"contains", true, 2, 2, CelFunction::kContains},
    {"matches", true, 2, 2, CelFunction::kMatches},
    {"lowerAscii", true, 1, 1, CelFunction::kLowerAscii},
    {"upperAscii", true, 1, 1, CelFunction::kUpperAscii},
    {"trim", true, 1, 1, CelFunction::kTrim},
    {"split", true, 2, 3, CelFunction::kSplit},
    {"join", true, 1, 2, CelFunction::kJoin},
    {"replace", true, 3, 4, CelFunction::kReplace},
    {"substring", true, 2, 3, CelFunction::kSubstring},
    {"indexOf", true, 2, 3, CelFunction::kIndexOf},
    {"lastIndexOf", true, 2, 3, CelFunction::kLastIndexOf},
    {"charAt", true, 2, 2, CelFunction::kCharAt},
    {"reverse", true, 1, 1, CelFunction::kReverse},
    {"isSorted", true, 1, 1, CelFunction::kIsSorted},
    {"sum", true, 1, 1, CelFunction::kSum},
    {"min", true, 1, 1, CelFunction::kMin},
    {"max", true, 1, 1, CelFunction::kMax},
    {"getFullYear", true, 1, 1, CelFunction::kGetFullYear},
    {"getMonth", true, 1, 1, CelFunction::kGetMonth},
    {"getDate", true, 1, 1, CelFunction::kGetDate},
    {"getDayOfMonth", true, 1, 1, CelFunction::kGetDayOfMonth},
    {"getDayOfWeek", true, 1, 1, CelFunction::kGetDayOfWeek},
    {"getDayOfYear", true, 1, 1, CelFunction::kGetDayOfYear},
    {"getHours", true, 1, 1, CelFunction::kGetHours},
    {"getMinutes", true, 1, 1, CelFunction::kGetMinutes},
    {"getSeconds", true, 1, 1, CelFunction::kGetSeconds},
    {"getMilliseconds", true, 1, 1, CelFunction::kGetMilliseconds},
};

struct MacroName {
  std::string_view name;
  CelMacro macro;
};
inline constexpr MacroName kMacros[] = {{"all", CelMacro::kAll},
                                        {"exists", CelMacro::kExists},
                                        {"exists_one", CelMacro::kExistsOne},
                                        {"map", CelMacro::kMap},
                                        {"filter", CelMacro::kFilter}};

inline constexpr std::string_view kTypeNames[] = {"int",  "uint", "double",    "bool", "string",
                                                  "list", "map",  "null_type", "type"};
inline constexpr std::string_view kReserved[] = {
    "as",  "break", "const",   "continue",  "else",   "for", "function", "if",    "import",
    "let", "loop",  "package", "namespace", "return", "var", "void",     "while", "in"};

}  // namespace apiserver
