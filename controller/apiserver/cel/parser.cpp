#include <fmt/format.h>

#include <algorithm>

#include "apiserver/cel/expression.hpp"
#include "apiserver/cel/lexer.hpp"
#include "apiserver/cel/signatures.hpp"

namespace apiserver {
namespace {

constexpr size_t kMaxText = 16 << 10;
constexpr int kMaxDepth = 64;
constexpr int kMaxSlots = 32;

using Node = std::unique_ptr<CelExpression>;
using Kind = CelExpression::Kind;
using F = CelFunction;

struct Operator {
  std::string_view symbol;
  F function;
};
constexpr Operator kRelations[] = {
    {"==", F::kEqual}, {"!=", F::kNotEqual}, {"<=", F::kLessEqual}, {">=", F::kGreaterEqual},
    {"<", F::kLess},   {">", F::kGreater},   {"in", F::kIn}};
constexpr Operator kSums[] = {{"+", F::kAdd}, {"-", F::kSubtract}};
constexpr Operator kProducts[] = {{"*", F::kMultiply}, {"/", F::kDivide}, {"%", F::kModulo}};

template <typename T>
bool Contains(const T& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

/// Kubernetes escapes property names that CEL cannot spell: __dash__, __dot__, __slash__,
/// __underscores__, __namespace__.
std::string Unescape(std::string_view name) {
  struct Escape {
    std::string_view from, to;
  };
  constexpr Escape kEscapes[] = {
      {"__underscores__", "__"}, {"__dot__", "."}, {"__dash__", "-"}, {"__slash__", "/"}};
  if (name.size() > 4 && name.starts_with("__") && name.ends_with("__")) {
    const std::string_view inner = name.substr(2, name.size() - 4);
    if (Contains(kReserved, inner) || inner == "true" || inner == "false" || inner == "null")
      return std::string(inner);
  }
  std::string out;
  for (size_t i = 0; i < name.size();) {
    const auto* found =
        std::find_if(std::begin(kEscapes), std::end(kEscapes),
                     [&](const Escape& e) { return name.substr(i).starts_with(e.from); });
    if (found == std::end(kEscapes)) {
      out += name[i++];
    } else {
      out += found->to;
      i += found->from.size();
    }
  }
  return out;
}

class Parser {
 public:
  Parser(std::vector<CelToken> tokens, const CelShape* self_shape) : tokens_(std::move(tokens)) {
    scope_.push_back({"self", self_shape});
    scope_.push_back({"oldSelf", self_shape});
  }

  base::Result<ParsedCel> Run() {
    Node root = ParseExpression();
    if (error_.empty() && Now().kind != CelToken::Kind::kEnd)
      Fail(fmt::format("unexpected `{}`", Now().text));
    if (!error_.empty()) {
      return base::MakeError(base::Code::kInvalid, fmt::format("{} at byte {}", error_, error_at_));
    }
    return ParsedCel{std::move(root), slots_, uses_old_self_};
  }

 private:
  struct Variable {
    std::string name;
    const CelShape* shape;
  };

  const CelToken& Now() const { return tokens_[at_]; }
  void Fail(std::string why) {
    if (!error_.empty()) return;
    error_ = std::move(why);
    error_at_ = Now().position;
    at_ = tokens_.size() - 1;  // The end token: everybody stops.
  }
  bool Is(std::string_view symbol) const {
    return (Now().kind == CelToken::Kind::kSymbol || Now().kind == CelToken::Kind::kIdentifier) &&
           Now().text == symbol;
  }
  bool Take(std::string_view symbol) {
    if (!Is(symbol)) return false;
    ++at_;
    return true;
  }
  void Expect(std::string_view symbol) {
    if (!Take(symbol)) Fail(fmt::format("expected `{}`", symbol));
  }
  static Node Make(Kind kind) {
    Node node = std::make_unique<CelExpression>();
    node->kind = kind;
    return node;
  }
  static Node Call(F function, std::string_view name, Node a, Node b = nullptr) {
    Node node = Make(Kind::kCall);
    node->function = function;
    node->name = name;
    node->args.push_back(std::move(a));
    if (b) node->args.push_back(std::move(b));
    return node;
  }
  Node Literal(CelValue value) {
    Node node = Make(Kind::kLiteral);
    node->literal = std::move(value);
    return node;
  }

  Node ParseExpression() {
    if (++depth_ > kMaxDepth) Fail("nested too deeply");
    Node condition = ParseLogic("||", Kind::kOr, 0);
    if (Take("?")) {
      Node node = Make(Kind::kTernary);
      node->args.push_back(std::move(condition));
      node->args.push_back(ParseLogic("||", Kind::kOr, 0));
      Expect(":");
      node->args.push_back(ParseExpression());
      if (node->args[1]->shape == node->args[2]->shape) node->shape = node->args[1]->shape;
      condition = std::move(node);
    }
    --depth_;
    return condition;
  }

  Node ParseLogic(std::string_view symbol, Kind kind, int level) {
    auto next = [&] {
      return level == 0 ? ParseLogic("&&", Kind::kAnd, 1) : ParseBinary(kRelations, 0);
    };
    Node left = next();
    if (!Is(symbol)) return left;
    Node node = Make(kind);  // One flat node: a chain of 1,000 operators is not 1,000 deep.
    node->args.push_back(std::move(left));
    while (Take(symbol)) node->args.push_back(next());
    return node;
  }

  /// Relations, sums and products: left-associative levels 0 to 2 above the unary operators.
  template <size_t N>
  Node ParseBinary(const Operator (&operators)[N], int level) {
    auto next = [&] {
      return level == 0   ? ParseBinary(kSums, 1)
             : level == 1 ? ParseBinary(kProducts, 2)
                          : ParseUnary();
    };
    Node left = next();
    int chain = 0;
    while (true) {
      const Operator* found = nullptr;
      for (const Operator& candidate : operators) {
        if (!found && Take(candidate.symbol)) found = &candidate;
      }
      if (!found) return left;
      if (++chain > 4 * kMaxDepth) Fail("too many operators in a row");
      left = Call(found->function, found->symbol, std::move(left), next());
    }
  }

  Node ParseUnary() {
    if (++depth_ > kMaxDepth) Fail("nested too deeply");
    Node node;
    if (Take("!")) {
      node = Call(F::kNot, "!", ParseUnary());
    } else if (Is("-") && tokens_[at_ + 1].kind == CelToken::Kind::kInt) {
      ++at_;
      node = ParseMember(NumberLiteral(true));
    } else if (Take("-")) {
      node = Call(F::kNegate, "-", ParseUnary());
    } else {
      node = ParseMember(ParsePrimary());
    }
    --depth_;
    return node;
  }

  Node NumberLiteral(bool negative) {
    const CelToken& token = Now();
    ++at_;
    if (token.kind == CelToken::Kind::kDouble) return Literal(token.real);
    if (token.kind == CelToken::Kind::kUint) return Literal(token.integer);
    constexpr uint64_t kTop = uint64_t{1} << 63;
    if (token.integer > kTop || (token.integer == kTop && !negative)) Fail("integer out of range");
    return Literal(static_cast<int64_t>(negative ? 0 - token.integer : token.integer));
  }

  Node ParsePrimary() {
    const CelToken& token = Now();
    switch (token.kind) {
      case CelToken::Kind::kInt:
      case CelToken::Kind::kUint:
      case CelToken::Kind::kDouble:
        return NumberLiteral(false);
      case CelToken::Kind::kString:
        ++at_;
        return Literal(CelValue::Text(token.text));
      case CelToken::Kind::kIdentifier:
        return ParseName();
      default:
        break;
    }
    if (Take("(")) {
      Node inner = ParseExpression();
      Expect(")");
      return inner;
    }
    if (Take("[")) {
      Node list = Make(Kind::kList);
      ParseList("]", *list);
      return list;
    }
    if (Take("{")) return ParseMapLiteral();
    Fail(token.kind == CelToken::Kind::kEnd ? "unexpected end"
                                            : fmt::format("unexpected `{}`", token.text));
    return Make(Kind::kLiteral);
  }

  void ParseList(std::string_view end, CelExpression& into) {
    while (error_.empty() && !Is(end)) {
      into.args.push_back(ParseExpression());
      if (!Take(",")) break;
    }
    Expect(end);
  }

  Node ParseMapLiteral() {
    Node map = Make(Kind::kMap);
    while (error_.empty() && !Is("}")) {
      map->args.push_back(ParseExpression());
      Expect(":");
      map->args.push_back(ParseExpression());
      if (!Take(",")) break;
    }
    Expect("}");
    return map;
  }

  Node ParseName() {
    const std::string name = Now().text;
    if (name == "true" || name == "false") {
      ++at_;
      return Literal(name == "true");
    }
    if (name == "null") {
      ++at_;
      return Literal(CelNull{});
    }
    if (Contains(kReserved, name)) {
      Fail(fmt::format("reserved word `{}`", name));
      return Make(Kind::kLiteral);
    }
    if (tokens_[at_ + 1].text == "(" && tokens_[at_ + 1].kind == CelToken::Kind::kSymbol) {
      return name == "has" ? ParseHas() : ParseCall(nullptr);
    }
    for (size_t i = scope_.size(); i-- > 0;) {
      if (scope_[i].name != name) continue;
      ++at_;
      if (i == 1) uses_old_self_ = true;
      Node node = Make(Kind::kVariable);
      node->slot = static_cast<int>(i);
      node->name = name;
      node->shape = scope_[i].shape;
      return node;
    }
    for (const std::string_view type : kTypeNames) {
      if (type != name) continue;
      ++at_;
      return Literal(CelType{type});
    }
    Fail(fmt::format("undeclared reference to `{}`", name));
    return Make(Kind::kLiteral);
  }

  Node ParseHas() {
    at_ += 2;
    Node argument = ParseExpression();
    Expect(")");
    if (error_.empty() && argument->kind != Kind::kSelect) Fail("invalid argument to has() macro");
    argument->kind = Kind::kHas;
    argument->shape = nullptr;
    return argument;
  }

  /// A function (receiver null; at_ on its name) or a method.
  Node ParseCall(Node receiver) {
    const std::string name = Now().text;
    const bool method = receiver != nullptr;
    at_ += 2;
    Node call = Make(Kind::kCall);
    call->name = name;
    if (method) call->args.push_back(std::move(receiver));
    ParseList(")", *call);
    if (!error_.empty()) return call;
    const Signature* found = nullptr;
    bool known = false;
    for (const Signature& signature : kSignatures) {
      if (signature.name != name || signature.method != method) continue;
      known = true;
      if (call->args.size() >= signature.min_args && call->args.size() <= signature.max_args)
        found = &signature;
    }
    if (!found) {
      Fail(known ? fmt::format("wrong number of arguments of `{}`", name)
                 : fmt::format("unknown function `{}`", name));
      return call;
    }
    call->function = found->function;
    if (found->function == F::kMatches && call->args[1]->kind == Kind::kLiteral)
      CompilePattern(*call);
    return call;
  }

  void CompilePattern(CelExpression& call) {
    const auto text = call.args[1]->literal.AsText();
    if (!text) return Fail("matches() needs a string");
    auto regex = Regex::Compile(*text);
    if (!regex) return Fail(regex.error().message);
    call.regex = *regex;
  }

  Node ParseMember(Node node) {
    int chain = 0;
    while (error_.empty()) {
      if (++chain > kMaxDepth) Fail("chain of members too long");
      if (Take(".")) {
        node = ParseDot(std::move(node));
      } else if (Take("[")) {
        Node index = Make(Kind::kIndex);
        index->shape = ElementOf(node->shape);
        index->args.push_back(std::move(node));
        index->args.push_back(ParseExpression());
        Expect("]");
        node = std::move(index);
      } else {
        return node;
      }
    }
    return node;
  }

  Node ParseDot(Node receiver) {
    if (Now().kind != CelToken::Kind::kIdentifier) {
      Fail("expected a field or function name");
      return receiver;
    }
    const bool call =
        tokens_[at_ + 1].kind == CelToken::Kind::kSymbol && tokens_[at_ + 1].text == "(";
    if (!call) return ParseSelect(std::move(receiver));
    for (const MacroName& known : kMacros) {
      if (known.name == Now().text) return ParseMacro(std::move(receiver), known.macro);
    }
    return ParseCall(std::move(receiver));
  }

  Node ParseSelect(Node receiver) {
    const std::string& name = Now().text;
    if (Contains(kReserved, name))
      Fail(fmt::format("reserved word `{}`: write `__{}__`", name, name));
    Node select = Make(Kind::kSelect);
    select->name = name;
    if (const CelShape* shape = receiver->shape) CheckSelect(*shape, *select);
    ++at_;
    if (at_ >= tokens_.size()) at_ = tokens_.size() - 1;
    select->args.push_back(std::move(receiver));
    return select;
  }

  void CheckSelect(const CelShape& shape, CelExpression& select) {
    switch (shape.CelKind()) {
      case CelShape::Kind::kDynamic:
        return;
      case CelShape::Kind::kMap:
        select.shape = shape.CelElement();
        return;
      case CelShape::Kind::kObject:
        select.name = Unescape(select.name);
        select.shape = shape.CelField(select.name);
        if (!select.shape) Fail(fmt::format("undefined field `{}`", select.name));
        return;
      default:
        Fail(fmt::format("type does not support field selection: `{}`", select.name));
    }
  }

  static const CelShape* ElementOf(const CelShape* shape) {
    if (!shape) return nullptr;
    const auto kind = shape->CelKind();
    return kind == CelShape::Kind::kList || kind == CelShape::Kind::kMap ? shape->CelElement()
                                                                         : nullptr;
  }

  /// `range.all(x, body)`; args become range, body[, transform].
  Node ParseMacro(Node range, CelMacro macro) {
    const std::string macro_name = Now().text;
    at_ += 2;
    Node node = Make(Kind::kMacro);
    node->macro = macro;
    node->name = macro_name;
    if (Now().kind != CelToken::Kind::kIdentifier || Contains(kReserved, Now().text)) {
      Fail(fmt::format("{}() needs a simple variable name first", macro_name));
      return node;
    }
    const bool list = range->shape && range->shape->CelKind() == CelShape::Kind::kList;
    if (macro == CelMacro::kFilter) node->shape = range->shape;
    scope_.push_back({Now().text, list ? range->shape->CelElement() : nullptr});
    if (scope_.size() > kMaxSlots) Fail("too many nested macros");
    node->slot = static_cast<int>(scope_.size()) - 1;
    slots_ = std::max(slots_, node->slot + 1);
    node->args.push_back(std::move(range));
    ++at_;
    Expect(",");
    ParseList(")", *node);
    scope_.pop_back();
    const bool three = macro == CelMacro::kMap && node->args.size() == 3;
    if (error_.empty() && node->args.size() != 2 && !three) {
      Fail(fmt::format("wrong number of arguments of {}()", macro_name));
    }
    return node;
  }

  std::vector<CelToken> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int slots_ = 2;
  bool uses_old_self_ = false;
  std::vector<Variable> scope_;
  std::string error_;
  size_t error_at_ = 0;
};

}  // namespace

base::Result<ParsedCel> ParseCel(std::string_view text, const CelShape* self_shape) {
  if (text.size() > kMaxText) {
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("expression is longer than {} bytes", kMaxText));
  }
  auto tokens = LexCel(text);
  if (!tokens) return tokens.error();
  return Parser(std::move(*tokens), self_shape).Run();
}

}  // namespace apiserver
