#include "apiserver/cel/regex_syntax.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace apiserver {
namespace {

constexpr uint32_t kLastPoint = 0x10FFFF;
constexpr int kMaxDepth = 100;
constexpr int kMaxRepeat = 1000;

using Tree = std::unique_ptr<RegexTree>;

struct NamedClass {
  std::string_view name;
  std::string_view ranges;  // Pairs of characters.
};

constexpr NamedClass kNamedClasses[] = {
    {"alnum", "09AZaz"},  {"alpha", "AZaz"},     {"digit", "09"},     {"lower", "az"},
    {"upper", "AZ"},      {"punct", "!/:@[`{~"}, {"space", "\t\r  "}, {"word", "09AZaz__"},
    {"xdigit", "09AFaf"}, {"blank", "\t\t  "},   {"print", " ~"},     {"graph", "!~"},
};

void AddPairs(RegexSet& set, std::string_view pairs) {
  for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
    set.Add(static_cast<unsigned char>(pairs[i]), static_cast<unsigned char>(pairs[i + 1]));
  }
}

/// \d \w \s and their negations; false if `letter` is none of them.
bool AddPerlClass(RegexSet& set, char letter) {
  RegexSet found;
  switch (letter) {
    case 'd':
    case 'D':
      AddPairs(found, "09");
      break;
    case 'w':
    case 'W':
      AddPairs(found, "09AZaz__");
      break;
    case 's':
    case 'S':
      AddPairs(found, "\t\n\f\r  ");
      break;
    default:
      return false;
  }
  if (letter < 'a') found.Negate();
  set.ranges.insert(set.ranges.end(), found.ranges.begin(), found.ranges.end());
  return true;
}

class Parser {
 public:
  explicit Parser(std::string_view pattern) : text_(pattern) {}

  base::Result<Tree> Run() {
    Tree tree = ParseChoice(0);
    if (error_.empty() && at_ < text_.size()) Fail("unmatched )");
    if (!error_.empty()) {
      return base::MakeError(base::Code::kInvalid,
                             fmt::format("pattern `{}`: {} at byte {}", text_, error_, at_));
    }
    return tree;
  }

 private:
  void Fail(std::string why) {
    if (error_.empty()) error_ = std::move(why);
  }
  bool More() const { return error_.empty() && at_ < text_.size(); }
  bool Take(std::string_view token) {
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }

  Tree ParseChoice(int depth) {
    if (depth > kMaxDepth) Fail("nested too deeply");
    Tree choice = std::make_unique<RegexTree>();
    choice->kind = RegexTree::Kind::kChoice;
    do {
      choice->kids.push_back(ParseSequence(depth));
    } while (More() && Take("|"));
    if (choice->kids.size() == 1) return std::move(choice->kids[0]);
    return choice;
  }

  Tree ParseSequence(int depth) {
    Tree sequence = std::make_unique<RegexTree>();
    sequence->kind = RegexTree::Kind::kSequence;
    while (More() && text_[at_] != '|' && text_[at_] != ')') {
      Tree atom = ParseAtom(depth);
      if (!atom) continue;  // A flag group such as (?i).
      sequence->kids.push_back(ParseRepeat(std::move(atom)));
    }
    return sequence;
  }

  Tree ParseAtom(int depth) {
    const char c = text_[at_];
    if (c == '(') return ParseGroup(depth);
    if (c == '[') return ParseClass();
    if (c == '\\') return ParseEscape();
    if (c == '^' || c == '$') {
      ++at_;
      return Assertion(c == '^' ? RegexAssert::kBegin : RegexAssert::kEnd);
    }
    if (c == '.') {
      ++at_;
      RegexSet set;
      if (dot_all_) {
        set.Add(0, kLastPoint);
      } else {
        set.Add(0, '\n' - 1);
        set.Add('\n' + 1, kLastPoint);
      }
      return FromSet(std::move(set));
    }
    if (c == '*' || c == '+' || c == '?') {
      Fail("nothing to repeat");
      return nullptr;
    }
    const uint32_t point = NextCodePoint(text_, at_);
    return FromPoint(point);
  }

  Tree ParseGroup(int depth) {
    ++at_;
    const bool fold = fold_case_;
    const bool dot = dot_all_;
    if (Take("?")) {
      if (Take("P<") || Take("<")) {
        const size_t end = text_.find('>', at_);
        if (end == std::string_view::npos)
          Fail("group name without >");
        else
          at_ = end + 1;
      } else if (!Take(":")) {
        if (!ParseFlags()) return nullptr;
        if (Take(")")) return nullptr;
        if (!Take(":")) Fail("unknown group");
      }
    }
    Tree inner = ParseChoice(depth + 1);
    if (!Take(")")) Fail("missing )");
    fold_case_ = fold;
    dot_all_ = dot;
    return inner;
  }

  bool ParseFlags() {
    bool on = true;
    while (More() && text_[at_] != ')' && text_[at_] != ':') {
      const char c = text_[at_++];
      if (c == '-')
        on = false;
      else if (c == 'i')
        fold_case_ = on;
      else if (c == 's')
        dot_all_ = on;
      else {
        Fail(fmt::format("unsupported group or flag `{}`", c));
        return false;
      }
    }
    return error_.empty();
  }

  Tree ParseEscape() {
    ++at_;
    if (!More()) {
      Fail("trailing backslash");
      return nullptr;
    }
    RegexSet set;
    if (AddPerlClass(set, text_[at_])) {
      ++at_;
      return FromSet(std::move(set));
    }
    switch (text_[at_]) {
      case 'A':
        ++at_;
        return Assertion(RegexAssert::kBegin);
      case 'z':
        ++at_;
        return Assertion(RegexAssert::kEnd);
      case 'b':
        ++at_;
        return Assertion(RegexAssert::kWord);
      case 'B':
        ++at_;
        return Assertion(RegexAssert::kNotWord);
      default:
        return FromPoint(EscapedPoint());
    }
  }

  /// The code point of a simple escape; at_ stands on the character after the backslash.
  uint32_t EscapedPoint() {
    const char c = text_[at_];
    constexpr std::string_view kLetters = "ntrfva";
    constexpr std::string_view kValues = "\n\t\r\f\v\a";
    if (const size_t i = kLetters.find(c); i != std::string_view::npos) {
      ++at_;
      return static_cast<unsigned char>(kValues[i]);
    }
    if (c == 'x') return HexPoint();
    if (std::isalnum(static_cast<unsigned char>(c))) {
      Fail(fmt::format("unsupported escape \\{}", c));
      ++at_;
      return 0;
    }
    return NextCodePoint(text_, at_);
  }

  uint32_t HexPoint() {
    ++at_;
    const bool braces = Take("{");
    uint32_t value = 0;
    int digits = 0;
    while (More() && digits < (braces ? 6 : 2) &&
           std::isxdigit(static_cast<unsigned char>(text_[at_]))) {
      const char c = static_cast<char>(text_[at_++] | 0x20);
      value = value * 16 + static_cast<uint32_t>(c >= 'a' ? c - 'a' + 10 : c - ('0' | 0x20));
      ++digits;
    }
    if (digits == 0 || (braces && !Take("}")) || value > kLastPoint) Fail("bad \\x escape");
    return value;
  }

  Tree ParseClass() {
    ++at_;
    RegexSet set;
    const bool negate = Take("^");
    bool first = true;
    while (More() && (text_[at_] != ']' || first)) {
      first = false;
      ParseClassItem(set);
    }
    if (!Take("]")) Fail("missing ]");
    if (fold_case_) set.FoldCase();
    if (negate) set.Negate();
    return FromSet(std::move(set));
  }

  void ParseClassItem(RegexSet& set) {
    if (Take("[:")) {
      const size_t end = text_.find(":]", at_);
      const std::string_view name =
          end == std::string_view::npos ? "" : text_.substr(at_, end - at_);
      for (const NamedClass& known : kNamedClasses) {
        if (known.name != name) continue;
        AddPairs(set, known.ranges);
        at_ = end + 2;
        return;
      }
      Fail("unknown [: :] class");
      return;
    }
    if (text_[at_] == '\\' && at_ + 1 < text_.size() && AddPerlClass(set, text_[at_ + 1])) {
      at_ += 2;
      return;
    }
    const uint32_t from = ClassPoint();
    uint32_t to = from;
    if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
      ++at_;
      to = ClassPoint();
    }
    if (to < from)
      Fail("bad range");
    else
      set.Add(from, to);
  }

  uint32_t ClassPoint() {
    if (!More()) {
      Fail("missing ]");
      return 0;
    }
    if (text_[at_] != '\\') return NextCodePoint(text_, at_);
    ++at_;
    if (More()) return EscapedPoint();
    Fail("trailing backslash");
    return 0;
  }

  Tree ParseRepeat(Tree atom) {
    bool repeated = false;
    while (More()) {
      int min = 0;
      int max = -1;
      if (Take("*")) {
      } else if (Take("+")) {
        min = 1;
      } else if (Take("?")) {
        max = 1;
      } else if (text_[at_] != '{' || !ParseCounts(min, max)) {
        return atom;
      }
      if (repeated) {
        Fail("repeat of a repeat");
        return atom;
      }
      repeated = true;
      Take("?");  // Lazy: which match is found does not matter, only whether.
      Tree repeat = std::make_unique<RegexTree>();
      repeat->kind = RegexTree::Kind::kRepeat;
      repeat->min = min;
      repeat->max = max;
      repeat->kids.push_back(std::move(atom));
      atom = std::move(repeat);
    }
    return atom;
  }

  /// {n} {n,} {n,m}; anything else is a literal brace and false (a literal { was already taken by
  /// ParseAtom then).
  bool ParseCounts(int& min, int& max) {
    size_t p = at_ + 1;
    auto number = [&](int& value) {
      const size_t start = p;
      value = 0;
      while (p < text_.size() && std::isdigit(static_cast<unsigned char>(text_[p])) &&
             p < start + 5) {
        value = value * 10 + (text_[p++] - '0');
      }
      return p > start;
    };
    if (!number(min)) return false;
    max = min;
    if (p < text_.size() && text_[p] == ',') {
      ++p;
      if (!number(max)) max = -1;
    }
    if (p >= text_.size() || text_[p] != '}') return false;
    at_ = p + 1;
    if (min > kMaxRepeat || max > kMaxRepeat || (max >= 0 && max < min)) Fail("bad repeat count");
    return true;
  }

  Tree FromSet(RegexSet set) {
    set.Seal();
    Tree tree = std::make_unique<RegexTree>();
    tree->kind = RegexTree::Kind::kSet;
    tree->set = std::move(set);
    return tree;
  }
  Tree FromPoint(uint32_t point) {
    RegexSet set;
    set.Add(point, point);
    if (fold_case_) set.FoldCase();
    return FromSet(std::move(set));
  }
  static Tree Assertion(RegexAssert what) {
    Tree tree = std::make_unique<RegexTree>();
    tree->kind = RegexTree::Kind::kAssert;
    tree->assertion = what;
    return tree;
  }

  std::string_view text_;
  size_t at_ = 0;
  bool fold_case_ = false;
  bool dot_all_ = false;
  std::string error_;
};

}  // namespace

uint32_t NextCodePoint(std::string_view text, size_t& position) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const uint32_t lead = byte(position++);
  const int extra = lead < 0xC0 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : lead < 0xF8 ? 3 : 0;
  if (extra == 0 || position + static_cast<size_t>(extra) > text.size()) return lead;
  uint32_t value = lead & (0x3Fu >> extra);
  for (int i = 0; i < extra; ++i) {
    if ((byte(position + static_cast<size_t>(i)) & 0xC0) != 0x80) return lead;
    value = value << 6 | (byte(position + static_cast<size_t>(i)) & 0x3Fu);
  }
  position += static_cast<size_t>(extra);
  return value;
}

bool RegexSet::Has(uint32_t point) const {
  if (point < 128) return ascii[point];
  const auto it = std::upper_bound(ranges.begin(), ranges.end(), point,
                                   [](uint32_t value, const std::pair<uint32_t, uint32_t>& range) {
                                     return value < range.first;
                                   });
  return it != ranges.begin() && point <= std::prev(it)->second;
}

void RegexSet::Negate() {
  Seal();
  std::vector<std::pair<uint32_t, uint32_t>> rest;
  uint32_t next = 0;
  for (const auto& [from, to] : ranges) {
    if (from > next) rest.emplace_back(next, from - 1);
    next = to + 1;
  }
  if (next <= kLastPoint) rest.emplace_back(next, kLastPoint);
  ranges = std::move(rest);
}

void RegexSet::FoldCase() {
  const auto original = ranges;
  for (const auto& [from, to] : original) {
    for (uint32_t c = std::max<uint32_t>(from, 'A'); c <= std::min<uint32_t>(to, 'z'); ++c) {
      if (std::isalpha(static_cast<int>(c))) Add(c ^ 0x20, c ^ 0x20);
    }
  }
}

void RegexSet::Seal() {
  std::sort(ranges.begin(), ranges.end());
  std::vector<std::pair<uint32_t, uint32_t>> merged;
  for (const auto& range : ranges) {
    if (!merged.empty() && range.first <= merged.back().second + 1) {
      merged.back().second = std::max(merged.back().second, range.second);
    } else {
      merged.push_back(range);
    }
  }
  ranges = std::move(merged);
  ascii.reset();
  for (const auto& [from, to] : ranges) {
    for (uint32_t c = from; c <= to && c < 128; ++c) ascii.set(c);
  }
}

base::Result<std::unique_ptr<RegexTree>> ParseRegex(std::string_view pattern) {
  return Parser(pattern).Run();
}

}  // namespace apiserver
