#include <fmt/format.h>

#include <algorithm>

#include "apiserver/cel/expression.hpp"

namespace apiserver {
namespace {

using F = CelFunction;

/// Byte offset of the code point with that index; the size if it is the end; nothing beyond.
std::optional<size_t> OffsetOf(std::string_view text, int64_t point) {
  if (point < 0) return std::nullopt;
  size_t offset = 0;
  for (; point > 0 && offset < text.size(); --point) {
    ++offset;
    while (offset < text.size() && (static_cast<unsigned char>(text[offset]) & 0xC0) == 0x80)
      ++offset;
  }
  return point == 0 ? std::optional<size_t>(offset) : std::nullopt;
}

CelValue OutOfRange(int64_t index) {
  return CelValue::Fail(fmt::format("index out of range: {}", index));
}

CelValue Split(std::string_view text, std::string_view separator, int64_t limit,
               CelBudget& budget) {
  std::vector<CelValue> parts;
  if (limit == 0) return CelValue::MakeList({});
  while (limit < 0 || static_cast<int64_t>(parts.size()) + 1 < limit) {
    size_t at = separator.empty() ? OffsetOf(text, 1).value_or(text.size()) : text.find(separator);
    if (at == std::string_view::npos || (separator.empty() && at >= text.size())) break;
    if (!budget.Spend(1)) return {};
    parts.push_back(CelValue::Text(std::string(text.substr(0, at))));
    text.remove_prefix(at + separator.size());
  }
  parts.push_back(CelValue::Text(std::string(text)));
  return CelValue::MakeList(std::move(parts));
}

CelValue Replace(std::string_view text, std::string_view from, std::string_view to,
                 CelBudget& budget, int64_t limit) {
  std::string out;
  while (limit != 0) {
    const size_t at = text.find(from);
    if (at == std::string_view::npos || from.empty()) break;
    out.append(text.substr(0, at)).append(to);
    text.remove_prefix(at + from.size());
    --limit;
    if (out.size() > budget.limits.bytes) budget.exhausted = true;
    if (!budget.Spend(1 + (at + to.size()) / 10)) return {};
  }
  return CelValue::Text(std::move(out.append(text)));
}

CelValue Join(const CelValue& list, std::string_view separator, CelBudget& budget) {
  if (!list.IsList()) return CelValue::NoOverload("join");
  std::string out;
  for (size_t i = 0; i < list.Count(); ++i) {
    const CelValue item = list.ListAt(i);
    const auto text = item.AsText();
    if (!text) return CelValue::NoOverload("join");
    if (i > 0) out += separator;
    out += *text;
    if (out.size() > budget.limits.bytes) budget.exhausted = true;
    if (!budget.Spend(1 + text->size() / 10)) return {};
  }
  return CelValue::Text(std::move(out));
}

CelValue Substring(std::string_view text, const std::vector<CelValue>& args) {
  const int64_t* from = args[1].As<int64_t>();
  const int64_t* to = args.size() > 2 ? args[2].As<int64_t>() : nullptr;
  if (!from || (args.size() > 2 && !to)) return CelValue::NoOverload("substring");
  const auto begin = OffsetOf(text, *from);
  if (!begin) return OutOfRange(*from);
  const auto end = to ? OffsetOf(text, *to) : std::optional<size_t>(text.size());
  if (!end) return OutOfRange(*to);
  if (*end < *begin)
    return CelValue::Fail(fmt::format("invalid substring range. start: {}, end: {}", *from, *to));
  return CelValue::Text(std::string(text.substr(*begin, *end - *begin)));
}

CelValue IndexOf(const CelExpression& call, std::string_view text,
                 const std::vector<CelValue>& args) {
  const auto needle = args[1].AsText();
  const int64_t* start = args.size() > 2 ? args[2].As<int64_t>() : nullptr;
  if (!needle || (args.size() > 2 && !start)) return CelValue::NoOverload(call.name);
  const auto offset = start ? OffsetOf(text, *start) : std::optional<size_t>();
  if (start && !offset) return OutOfRange(*start);
  const size_t at = call.function == F::kIndexOf
                        ? text.find(*needle, offset.value_or(0))
                        : text.rfind(*needle, offset.value_or(std::string_view::npos));
  return at == std::string_view::npos ? int64_t{-1}
                                      : static_cast<int64_t>(CodePoints(text.substr(0, at)));
}

CelValue CharAt(std::string_view text, const CelValue& argument) {
  const int64_t* index = argument.As<int64_t>();
  if (!index) return CelValue::NoOverload("charAt");
  const auto from = OffsetOf(text, *index);
  if (!from) return OutOfRange(*index);
  const auto to = OffsetOf(text.substr(*from), 1);
  return CelValue::Text(std::string(text.substr(*from, to.value_or(0))));
}

CelValue Reverse(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t length = OffsetOf(text, 1).value_or(1);
    out.insert(0, text.substr(0, length));
    text.remove_prefix(length);
  }
  return CelValue::Text(std::move(out));
}

CelValue Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  const size_t from = text.find_first_not_of(kSpace);
  if (from == std::string_view::npos) return CelValue::Text("");
  return CelValue::Text(std::string(text.substr(from, text.find_last_not_of(kSpace) - from + 1)));
}

CelValue ChangeCase(std::string_view text, bool upper) {
  std::string out(text);
  for (char& c : out) {
    if (upper ? (c >= 'a' && c <= 'z') : (c >= 'A' && c <= 'Z')) c = static_cast<char>(c ^ 0x20);
  }
  return CelValue::Text(std::move(out));
}

CelValue Matches(const CelExpression& call, std::string_view text, std::string_view pattern,
                 CelBudget& budget) {
  std::optional<Regex> made;
  if (!call.regex) {
    auto compiled = Regex::Compile(pattern);
    if (!compiled) return CelValue::Fail(compiled.error().message);
    made = *compiled;
    if (!budget.Spend(made->States())) return {};
  }
  const Regex& regex = call.regex ? *call.regex : *made;
  // Time is bounded by text times states; the usual case is far below.
  if (!budget.Spend((text.size() + 1) * (1 + regex.States() / 16) / 8)) return {};
  return regex.Search(text);
}

/// Functions of exactly two texts.
CelValue TwoTexts(const CelExpression& call, std::string_view a, const CelValue& second,
                  CelBudget& budget) {
  const auto b = second.AsText();
  if (!b) return CelValue::NoOverload(call.name);
  if (!budget.Spend(a.size() / 10)) return {};
  switch (call.function) {
    case F::kStartsWith:
      return a.starts_with(*b);
    case F::kEndsWith:
      return a.ends_with(*b);
    case F::kContains:
      return a.find(*b) != std::string_view::npos;
    default:
      return Matches(call, a, *b, budget);
  }
}

CelValue SplitCall(std::string_view text, const std::vector<CelValue>& args, CelBudget& budget) {
  const auto separator = args[1].AsText();
  const int64_t* limit = args.size() > 2 ? args[2].As<int64_t>() : nullptr;
  if (!separator || (args.size() > 2 && !limit)) return CelValue::NoOverload("split");
  return Split(text, *separator, limit ? *limit : -1, budget);
}

CelValue ReplaceCall(std::string_view text, const std::vector<CelValue>& args, CelBudget& budget) {
  const auto from = args[1].AsText();
  const auto to = args[2].AsText();
  const int64_t* limit = args.size() > 3 ? args[3].As<int64_t>() : nullptr;
  if (!from || !to || (args.size() > 3 && !limit)) return CelValue::NoOverload("replace");
  return Replace(text, *from, *to, budget, limit ? *limit : -1);
}

}  // namespace

CelValue CallCelText(const CelExpression& call, std::vector<CelValue>& args, CelBudget& budget) {
  if (call.function == F::kJoin) {
    const auto separator = args.size() > 1 ? args[1].AsText() : std::optional<std::string_view>("");
    return separator ? Join(args[0], *separator, budget) : CelValue::NoOverload("join");
  }
  const auto text = args[0].AsText();
  if (!text) return CelValue::NoOverload(call.name);
  if (!budget.Spend(text->size() / 10)) return {};
  switch (call.function) {
    case F::kStartsWith:
    case F::kEndsWith:
    case F::kContains:
    case F::kMatches:
      return TwoTexts(call, *text, args[1], budget);
    case F::kLowerAscii:
      return ChangeCase(*text, false);
    case F::kUpperAscii:
      return ChangeCase(*text, true);
    case F::kTrim:
      return Trim(*text);
    case F::kSplit:
      return SplitCall(*text, args, budget);
    case F::kReplace:
      return ReplaceCall(*text, args, budget);
    case F::kSubstring:
      return Substring(*text, args);
    case F::kIndexOf:
    case F::kLastIndexOf:
      return IndexOf(call, *text, args);
    case F::kCharAt:
      return CharAt(*text, args[1]);
    case F::kReverse:
      return Reverse(*text);
    default:
      return CelValue::NoOverload(call.name);
  }
}

}  // namespace apiserver
