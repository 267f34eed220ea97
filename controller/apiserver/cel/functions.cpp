#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <type_traits>

#include "apiserver/cel/expression.hpp"

namespace apiserver {
namespace {

using F = CelFunction;

CelValue Overflow() { return CelValue::Fail("integer overflow"); }

template <std::integral Integer>
CelValue WholeArithmetic(F function, Integer a, Integer b) {
  Integer result = 0;
  switch (function) {
    case F::kAdd:
      return __builtin_add_overflow(a, b, &result) ? Overflow() : CelValue(result);
    case F::kSubtract:
      return __builtin_sub_overflow(a, b, &result) ? Overflow() : CelValue(result);
    case F::kMultiply:
      return __builtin_mul_overflow(a, b, &result) ? Overflow() : CelValue(result);
    default:
      break;
  }
  if (b == 0)
    return CelValue::Fail(function == F::kModulo ? "modulus by zero" : "division by zero");
  if (std::is_signed_v<Integer> && a == std::numeric_limits<Integer>::min() && b == Integer(-1))
    return function == F::kModulo ? CelValue(Integer{0}) : Overflow();
  return function == F::kModulo ? a % b : a / b;
}

CelValue RealArithmetic(F function, double a, double b) {
  switch (function) {
    case F::kAdd:
      return a + b;
    case F::kSubtract:
      return a - b;
    case F::kMultiply:
      return a * b;
    case F::kDivide:
      return a / b;
    default:
      return CelValue::NoOverload("_%_");
  }
}

CelValue TimeArithmetic(const CelExpression& call, const CelValue& a, const CelValue& b) {
  const auto* ta = a.As<CelTimestamp>();
  const auto* tb = b.As<CelTimestamp>();
  const auto* da = a.As<CelDuration>();
  const auto* db = b.As<CelDuration>();
  int64_t result = 0;
  if (da && db && (call.function == F::kAdd || call.function == F::kSubtract)) {
    const bool bad = call.function == F::kAdd
                         ? __builtin_add_overflow(da->nanos, db->nanos, &result)
                         : __builtin_sub_overflow(da->nanos, db->nanos, &result);
    return bad ? Overflow() : CelValue(CelDuration{result});
  }
  if (ta && db && call.function == F::kAdd) return CelTimestamp{ta->micros + db->nanos / 1000};
  if (da && tb && call.function == F::kAdd) return CelTimestamp{tb->micros + da->nanos / 1000};
  if (ta && db && call.function == F::kSubtract) return CelTimestamp{ta->micros - db->nanos / 1000};
  if (ta && tb && call.function == F::kSubtract) {
    const bool bad = __builtin_mul_overflow(ta->micros - tb->micros, int64_t{1000}, &result);
    return bad ? Overflow() : CelValue(CelDuration{result});
  }
  return CelValue::NoOverload(fmt::format("_{}_", call.name));
}

CelValue AddLists(const CelValue& a, const CelValue& b, CelBudget& budget) {
  const size_t total = a.Count() + b.Count();
  if (!budget.Spend(total) || total > budget.limits.bytes / sizeof(CelValue)) {
    budget.exhausted = true;
    return {};
  }
  std::vector<CelValue> items;
  items.reserve(total);
  for (size_t i = 0; i < a.Count(); ++i) items.push_back(a.ListAt(i));
  for (size_t i = 0; i < b.Count(); ++i) items.push_back(b.ListAt(i));
  return CelValue::MakeList(std::move(items));
}

CelValue Arithmetic(const CelExpression& call, const CelValue& a, const CelValue& b,
                    CelBudget& budget) {
  const F function = call.function;
  if (const int64_t* x = a.As<int64_t>(), *y = b.As<int64_t>(); x && y)
    return WholeArithmetic(function, *x, *y);
  if (const uint64_t* x = a.As<uint64_t>(), *y = b.As<uint64_t>(); x && y)
    return WholeArithmetic(function, *x, *y);
  if (const double* x = a.As<double>(), *y = b.As<double>(); x && y)
    return RealArithmetic(function, *x, *y);
  if (function == F::kAdd) {
    const auto ta = a.AsText();
    const auto tb = b.AsText();
    if (ta && tb) {
      if (ta->size() + tb->size() > budget.limits.bytes) budget.exhausted = true;
      if (!budget.Spend((ta->size() + tb->size()) / 10)) return {};
      return CelValue::Text(std::string(*ta).append(*tb));
    }
    if (a.IsList() && b.IsList()) return AddLists(a, b, budget);
  }
  return TimeArithmetic(call, a, b);
}

CelValue Relation(const CelExpression& call, const CelValue& a, const CelValue& b,
                  CelBudget& budget) {
  if (call.function == F::kEqual || call.function == F::kNotEqual) {
    uint64_t steps = 0;
    const bool equal = CelEquals(a, b, steps);
    budget.Spend(steps);
    return equal == (call.function == F::kEqual);
  }
  const bool numbers = a.IsNumber() && b.IsNumber();
  const auto order = CelCompare(a, b);
  if (!order)
    return numbers ? CelValue(false) : CelValue::NoOverload(fmt::format("_{}_", call.name));
  switch (call.function) {
    case F::kLess:
      return *order < 0;
    case F::kLessEqual:
      return *order <= 0;
    case F::kGreater:
      return *order > 0;
    default:
      return *order >= 0;
  }
}

CelValue In(const CelValue& needle, const CelValue& range, CelBudget& budget) {
  if (range.IsMap()) {
    budget.Spend(range.As<CelMap>() ? range.Count() : 1);
    return range.MapFind(needle).has_value();
  }
  if (!range.IsList()) return CelValue::NoOverload("in");
  uint64_t steps = 0;
  for (size_t i = 0; i < range.Count(); ++i) {
    if (CelEquals(range.ListAt(i), needle, steps)) {
      budget.Spend(steps);
      return true;
    }
    if (steps > budget.limits.steps) break;
  }
  budget.Spend(steps);
  return false;
}

CelValue Negate(const CelValue& value) {
  if (const int64_t* i = value.As<int64_t>()) return *i == INT64_MIN ? Overflow() : CelValue(-*i);
  if (const double* d = value.As<double>()) return -*d;
  if (const CelDuration* d = value.As<CelDuration>()) return CelDuration{-d->nanos};
  return CelValue::NoOverload("-_");
}

CelValue Size(const CelValue& value, CelBudget& budget) {
  if (const auto text = value.AsText()) {
    budget.Spend(text->size() / 10);
    return static_cast<int64_t>(CodePoints(*text));
  }
  if (value.IsList() || value.IsMap()) return static_cast<int64_t>(value.Count());
  return CelValue::NoOverload("size");
}

/// isSorted, sum, min and max of a list.
CelValue Fold(const CelExpression& call, const CelValue& list, CelBudget& budget) {
  if (!list.IsList()) return CelValue::NoOverload(call.name);
  if (!budget.Spend(list.Count())) return {};
  if (list.Count() == 0) {
    if (call.function == F::kIsSorted) return true;
    if (call.function == F::kSum) return int64_t{0};
    return CelValue::Fail(fmt::format("{} called on empty list", call.name));
  }
  CelValue folded = list.ListAt(0);
  CelExpression add;
  add.function = F::kAdd;
  add.name = "+";
  for (size_t i = 1; i < list.Count(); ++i) {
    CelValue item = list.ListAt(i);
    if (call.function == F::kSum) {
      folded = Arithmetic(add, folded, item, budget);
      if (folded.IsError()) return folded;
      continue;
    }
    const auto order = CelCompare(folded, item);
    if (!order) return CelValue::NoOverload(call.name);
    if (call.function == F::kIsSorted && *order > 0) return false;
    if (call.function == F::kIsSorted || (call.function == F::kMin ? *order > 0 : *order < 0))
      folded = std::move(item);
  }
  return call.function == F::kIsSorted ? CelValue(true) : folded;
}

/// indexOf and lastIndexOf of a list.
CelValue ListIndexOf(const CelExpression& call, const CelValue& list, const CelValue& item,
                     CelBudget& budget) {
  int64_t found = -1;
  uint64_t steps = 0;
  for (size_t i = 0; i < list.Count() && budget.Spend(1); ++i) {
    if (!CelEquals(list.ListAt(i), item, steps)) continue;
    found = static_cast<int64_t>(i);
    if (call.function == F::kIndexOf) break;
  }
  budget.Spend(steps);
  return found;
}

}  // namespace

CelValue CallCel(const CelExpression& call, std::vector<CelValue>& args, CelBudget& budget) {
  switch (call.function) {
    case F::kNot: {
      const bool* value = args[0].As<bool>();
      return value ? CelValue(!*value) : CelValue::NoOverload("!_");
    }
    case F::kNegate:
      return Negate(args[0]);
    case F::kAdd:
    case F::kSubtract:
    case F::kMultiply:
    case F::kDivide:
    case F::kModulo:
      return Arithmetic(call, args[0], args[1], budget);
    case F::kEqual:
    case F::kNotEqual:
    case F::kLess:
    case F::kLessEqual:
    case F::kGreater:
    case F::kGreaterEqual:
      return Relation(call, args[0], args[1], budget);
    case F::kIn:
      return In(args[0], args[1], budget);
    case F::kSize:
      return Size(args[0], budget);
    case F::kIsSorted:
    case F::kSum:
    case F::kMin:
    case F::kMax:
      return Fold(call, args[0], budget);
    case F::kToInt:
    case F::kToUint:
    case F::kToDouble:
    case F::kToString:
    case F::kToBool:
    case F::kToDyn:
    case F::kTypeOf:
    case F::kToDuration:
    case F::kToTimestamp:
    case F::kGetFullYear:
    case F::kGetMonth:
    case F::kGetDate:
    case F::kGetDayOfMonth:
    case F::kGetDayOfWeek:
    case F::kGetDayOfYear:
    case F::kGetHours:
    case F::kGetMinutes:
    case F::kGetSeconds:
    case F::kGetMilliseconds:
      return CallCelConversion(call, args);
    case F::kIndexOf:
    case F::kLastIndexOf:
      if (args[0].IsList() && args.size() == 2) return ListIndexOf(call, args[0], args[1], budget);
      return CallCelText(call, args, budget);
    default:
      return CallCelText(call, args, budget);
  }
}

}  // namespace apiserver
