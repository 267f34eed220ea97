#include "apiserver/cel/program.hpp"

#include <fmt/format.h>

#include "apiserver/cel/expression.hpp"

namespace apiserver {

struct CelProgram::Impl {
  std::unique_ptr<CelExpression> root;
  int slots = 2;
  bool uses_old_self = false;
  const CelShape* self_shape = nullptr;
};

namespace {

using Kind = CelExpression::Kind;

/// Walks the tree. Depth is bounded by the parser, so recursion is safe.
class Evaluator {
 public:
  Evaluator(int slots, const CelLimits& limits) : slots_(static_cast<size_t>(slots)) {
    budget_.limits = limits;
  }

  std::vector<CelValue>& Slots() { return slots_; }
  const CelBudget& Budget() const { return budget_; }

  CelValue Eval(const CelExpression& node) {
    if (!budget_.Spend(1)) return Exhausted();
    switch (node.kind) {
      case Kind::kLiteral:
        return node.literal;
      case Kind::kVariable:
        return slots_[static_cast<size_t>(node.slot)];
      case Kind::kSelect:
        return Select(node, false);
      case Kind::kHas:
        return Select(node, true);
      case Kind::kIndex:
        return Index(node);
      case Kind::kList:
        return MakeList(node);
      case Kind::kMap:
        return MakeMap(node);
      case Kind::kAnd:
        return Logic(node, false);
      case Kind::kOr:
        return Logic(node, true);
      case Kind::kTernary:
        return Ternary(node);
      case Kind::kCall:
        return Call(node);
      case Kind::kMacro:
        return Macro(node);
    }
    return CelValue::Fail("unknown expression");
  }

 private:
  CelValue Exhausted() { return CelValue::Fail("operation cancelled: actual cost limit exceeded"); }

  CelValue Select(const CelExpression& node, bool test_only) {
    CelValue operand = Eval(*node.args[0]);
    if (operand.IsError()) return operand;
    if (!operand.IsMap()) return CelValue::NoOverload(node.name);
    auto found = operand.MapFind(CelValue::View(node.name));
    if (test_only) return found.has_value();
    if (!found) return CelValue::Fail(fmt::format("no such key: {}", node.name));
    return std::move(*found);
  }

  CelValue Index(const CelExpression& node) {
    CelValue operand = Eval(*node.args[0]);
    if (operand.IsError()) return operand;
    CelValue key = Eval(*node.args[1]);
    if (key.IsError()) return key;
    if (operand.IsMap()) {
      if (operand.As<CelMap>()) budget_.Spend(operand.Count());
      auto found = operand.MapFind(key);
      return found ? std::move(*found)
                   : CelValue::Fail(fmt::format("no such key: {}", KeyText(key)));
    }
    if (!operand.IsList() || !key.IsNumber()) return CelValue::NoOverload("_[_]");
    const auto within = CelCompare(key, CelValue(static_cast<int64_t>(operand.Count())));
    const int64_t* index = key.As<int64_t>();
    const uint64_t* unsigned_index = key.As<uint64_t>();
    if (!within || *within >= 0 || (index && *index < 0)) {
      return CelValue::Fail(fmt::format("index out of bounds: {}", KeyText(key)));
    }
    if (!index && !unsigned_index) return CelValue::NoOverload("_[_]");
    return operand.ListAt(index ? static_cast<size_t>(*index)
                                : static_cast<size_t>(*unsigned_index));
  }

  static std::string KeyText(const CelValue& key) {
    const auto text = key.AsText();
    return text ? std::string(text->substr(0, 256)) : key.ToJson().dump();
  }

  CelValue MakeList(const CelExpression& node) {
    std::vector<CelValue> items;
    items.reserve(node.args.size());
    for (const auto& arg : node.args) {
      items.push_back(Eval(*arg));
      if (items.back().IsError()) return items.back();
    }
    return CelValue::MakeList(std::move(items));
  }

  CelValue MakeMap(const CelExpression& node) {
    std::vector<std::pair<CelValue, CelValue>> entries;
    for (size_t i = 0; i + 1 < node.args.size(); i += 2) {
      CelValue key = Eval(*node.args[i]);
      if (key.IsError()) return key;
      CelValue value = Eval(*node.args[i + 1]);
      if (value.IsError()) return value;
      entries.emplace_back(std::move(key), std::move(value));
    }
    return CelMap(
        std::make_shared<const std::vector<std::pair<CelValue, CelValue>>>(std::move(entries)));
  }

  /// && (decisive false) and || (decisive true): a decisive operand absorbs errors on either side.
  CelValue Logic(const CelExpression& node, bool decisive) {
    CelValue error;
    bool failed = false;
    for (const auto& arg : node.args) {
      CelValue value = Eval(*arg);
      const bool* truth = value.As<bool>();
      if (truth && *truth == decisive) return decisive;
      if (truth) continue;
      if (!failed)
        error = value.IsError() ? std::move(value) : CelValue::NoOverload(decisive ? "||" : "&&");
      failed = true;
    }
    return failed ? error : CelValue(!decisive);
  }

  CelValue Ternary(const CelExpression& node) {
    CelValue condition = Eval(*node.args[0]);
    if (condition.IsError()) return condition;
    if (!condition.As<bool>()) return CelValue::NoOverload("_?_:_");
    return Eval(*node.args[condition.IsTrue() ? 1 : 2]);
  }

  CelValue Call(const CelExpression& node) {
    std::vector<CelValue> args;
    args.reserve(node.args.size());
    for (const auto& arg : node.args) {
      args.push_back(Eval(*arg));
      if (args.back().IsError()) return args.back();
    }
    CelValue result = CallCel(node, args, budget_);
    return budget_.exhausted ? Exhausted() : result;
  }

  CelValue Macro(const CelExpression& node) {
    const CelValue range = Eval(*node.args[0]);
    if (range.IsError()) return range;
    if (!range.IsList() && !range.IsMap()) return CelValue::NoOverload(node.name);
    const bool map = range.IsMap();
    const size_t count = range.Count();
    std::vector<CelValue> collected;
    CelValue error;
    bool failed = false;
    int64_t hits = 0;
    for (size_t i = 0; i < count; ++i) {
      if (!budget_.Spend(1)) return Exhausted();
      slots_[static_cast<size_t>(node.slot)] = map ? range.MapKeyAt(i) : range.ListAt(i);
      CelValue value = Eval(*node.args[1]);
      if (budget_.exhausted) return Exhausted();
      if (node.macro == CelMacro::kMap && node.args.size() == 2) {
        if (value.IsError()) return value;
        collected.push_back(std::move(value));
        continue;
      }
      if (!value.As<bool>() && !value.IsError()) value = CelValue::NoOverload(node.name);
      if (node.macro == CelMacro::kAll && value.IsFalse()) return false;
      if (node.macro == CelMacro::kExists && value.IsTrue()) return true;
      if (value.IsError()) {
        if (node.macro != CelMacro::kAll && node.macro != CelMacro::kExists) return value;
        if (!failed) error = std::move(value);
        failed = true;
        continue;
      }
      if (!value.IsTrue()) continue;
      ++hits;
      if (node.macro == CelMacro::kFilter)
        collected.push_back(slots_[static_cast<size_t>(node.slot)]);
      if (node.macro == CelMacro::kMap) {
        collected.push_back(Eval(*node.args[2]));
        if (collected.back().IsError()) return collected.back();
      }
    }
    switch (node.macro) {
      case CelMacro::kAll:
        return failed ? error : CelValue(true);
      case CelMacro::kExists:
        return failed ? error : CelValue(false);
      case CelMacro::kExistsOne:
        return hits == 1;
      default:
        return CelValue::MakeList(std::move(collected));
    }
  }

  std::vector<CelValue> slots_;
  CelBudget budget_;
};

base::Error EvaluationError(std::string message) {
  return base::MakeError(base::Code::kInvalid, std::move(message));
}

}  // namespace

base::Result<CelProgram> CelProgram::Compile(std::string_view text, const CelShape* self_shape) {
  auto parsed = ParseCel(text, self_shape);
  if (!parsed) return parsed.error();
  auto impl = std::make_shared<Impl>();
  impl->root = std::move(parsed->root);
  impl->slots = parsed->slots;
  impl->uses_old_self = parsed->uses_old_self;
  impl->self_shape = self_shape;
  return CelProgram(std::move(impl));
}

bool CelProgram::UsesOldSelf() const { return impl_->uses_old_self; }

base::Result<CelValue> CelProgram::Run(const CelVariables& variables, const CelLimits& limits,
                                       uint64_t* cost) const {
  Evaluator evaluator(impl_->slots, limits);
  evaluator.Slots()[0] = CelValue::FromJson(*variables.self, impl_->self_shape);
  evaluator.Slots()[1] = variables.old_self
                             ? CelValue::FromJson(*variables.old_self, impl_->self_shape)
                             : CelValue::Fail("oldSelf is not there");
  CelValue value = evaluator.Eval(*impl_->root);
  if (cost) *cost += evaluator.Budget().steps;
  if (evaluator.Budget().exhausted)
    return EvaluationError("operation cancelled: actual cost limit exceeded");
  if (const CelError* error = value.As<CelError>()) return EvaluationError(*error->message);
  return value;
}

base::Result<bool> CelProgram::EvaluateBool(const CelVariables& variables, const CelLimits& limits,
                                            uint64_t* cost) const {
  auto value = Run(variables, limits, cost);
  if (!value) return value.error();
  if (const bool* truth = value->As<bool>()) return *truth;
  return EvaluationError(
      fmt::format("no such overload: the rule is {} where bool is wanted", value->TypeName()));
}

base::Result<std::string> CelProgram::EvaluateString(const CelVariables& variables,
                                                     const CelLimits& limits,
                                                     uint64_t* cost) const {
  auto value = Run(variables, limits, cost);
  if (!value) return value.error();
  if (const auto text = value->AsText()) return std::string(*text);
  return EvaluationError(
      fmt::format("no such overload: the message is {} where string is wanted", value->TypeName()));
}

base::Result<codec::Json> CelProgram::Evaluate(const CelVariables& variables,
                                               const CelLimits& limits) const {
  auto value = Run(variables, limits, nullptr);
  if (!value) return value.error();
  return value->ToJson();
}

}  // namespace apiserver
