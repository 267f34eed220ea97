#include "apiserver/schema/json_path.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace apiserver {
namespace {

using codec::Json;
using Step = JsonPath::Step;

constexpr size_t kMaxText = 1024;
constexpr size_t kMaxSteps = 32;
constexpr size_t kMaxMatches = 1000;
constexpr int kMaxRecursion = 64;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  base::Result<std::vector<Step>> Run() {
    if (text_.size() > kMaxText) return Bad("is too long");
    if (text_.starts_with("{") && text_.ends_with("}")) text_ = text_.substr(1, text_.size() - 2);
    if (text_.starts_with("$")) text_.remove_prefix(1);
    while (at_ < text_.size() && error_.empty()) {
      ReadStep();
      if (steps_.size() > kMaxSteps) error_ = "has too many steps";
    }
    if (!error_.empty()) return Bad(error_);
    return std::move(steps_);
  }

 private:
  base::Error Bad(std::string_view why) const {
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("JSONPath `{}` {} at byte {}", text_, why, at_));
  }

  bool Take(std::string_view token) {
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }

  std::string ReadName() {
    std::string name;
    while (at_ < text_.size() &&
           std::string_view(".[]()=!<> ").find(text_[at_]) == std::string_view::npos) {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;  // `.metadata.labels.a\.b`
      name += text_[at_++];
    }
    if (name.empty()) error_ = "lacks a name";
    return name;
  }

  std::string ReadQuoted() {
    const char quote = text_[at_++];
    std::string value;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
      value += text_[at_++];
    }
    if (!Take(std::string_view(&quote, 1))) error_ = "has an unterminated string";
    return value;
  }

  bool Quote() const { return at_ < text_.size() && (text_[at_] == '\'' || text_[at_] == '"'); }

  void ReadStep() {
    Step step;
    if (Take("..")) {
      step.kind = Step::Kind::kRecursive;
      step.name = ReadName();
    } else if (Take(".*") || Take("[*]")) {
      step.kind = Step::Kind::kWildcard;
    } else if (Take(".[") || Take("[")) {
      ReadBracket(step);
    } else {
      if (!Take(".") && at_ > 0) error_ = "has an unexpected character";
      if (error_.empty() && at_ < text_.size())
        step.name = ReadName();
      else if (error_.empty())
        return;  // A lone dot: the document itself.
    }
    steps_.push_back(std::move(step));
  }

  void ReadBracket(Step& step) {
    if (Quote()) {
      step.name = ReadQuoted();
    } else if (Take("?(")) {
      ReadFilter(step);
      if (!Take(")")) error_ = "lacks )";
    } else {
      ReadIndex(step);
    }
    if (error_.empty() && !Take("]")) error_ = "lacks ]";
  }

  bool ReadInt(int& value) {
    const auto [end, problem] =
        std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (problem != std::errc()) return false;
    at_ = static_cast<size_t>(end - text_.data());
    return true;
  }

  void ReadIndex(Step& step) {
    step.kind = Step::Kind::kIndex;
    const bool number = ReadInt(step.from);
    if (Take(":")) {
      step.kind = Step::Kind::kSlice;
      step.has_to = ReadInt(step.to);
    } else if (!number) {
      error_ = "has an index that is not understood";
    }
  }

  void SkipSpace() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  void ReadFilter(Step& step) {
    step.kind = Step::Kind::kFilter;
    SkipSpace();
    if (!Take("@")) error_ = "has a filter that does not begin with @";
    while (error_.empty() && at_ < text_.size()) {
      if (Take("."))
        step.left.push_back(ReadName());
      else if (Take("[")) {
        if (!Quote())
          error_ = "has a filter that is not understood";
        else
          step.left.push_back(ReadQuoted());
        if (!Take("]")) error_ = "lacks ]";
      } else
        break;
    }
    SkipSpace();
    for (const std::string_view op : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (step.op.empty() && Take(op)) step.op = op;
    }
    if (step.op.empty() || !error_.empty()) return;
    SkipSpace();
    if (Quote()) {
      step.right = ReadQuoted();
      return SkipSpace();
    }
    const size_t end = std::min(text_.find(')', at_), text_.size());
    std::string_view literal = text_.substr(at_, end - at_);
    while (literal.ends_with(' ')) literal.remove_suffix(1);
    step.right = Json::parse(literal, nullptr, false);
    if (step.right.is_discarded() || step.right.is_structured())
      error_ = "has a filter value that is not understood";
    at_ = end;
  }

  std::string_view text_;
  size_t at_ = 0;
  std::string error_;
  std::vector<Step> steps_;
};

using Matches = std::vector<const Json*>;

void Push(Matches& matches, const Json& json) {
  if (matches.size() < kMaxMatches) matches.push_back(&json);
}

void Descend(const Json& json, const std::string& name, Matches& matches, int depth) {
  if (!json.is_structured() || depth > kMaxRecursion) return;
  for (auto it = json.begin(); it != json.end(); ++it) {
    if (json.is_object() && it.key() == name) Push(matches, *it);
    Descend(*it, name, matches, depth + 1);
  }
}

bool Accepts(const Step& step, const Json& item) {
  const Json* left = &item;
  for (const std::string& name : step.left) {
    if (!left->is_object() || !left->contains(name)) return false;
    left = &(*left)[name];
  }
  if (step.op.empty()) return true;
  if (step.op == "==") return *left == step.right;
  if (step.op == "!=") return *left != step.right;
  const bool comparable = (left->is_number() && step.right.is_number()) ||
                          (left->is_string() && step.right.is_string());
  if (!comparable) return false;
  if (step.op == "<") return *left < step.right;
  if (step.op == "<=") return *left <= step.right;
  if (step.op == ">") return *left > step.right;
  return *left >= step.right;
}

void Slice(const Step& step, const Json& list, Matches& next) {
  const int size = static_cast<int>(list.size());
  const int from = std::clamp(step.from < 0 ? size + step.from : step.from, 0, size);
  const int end = step.has_to ? (step.to < 0 ? size + step.to : step.to) : size;
  for (int i = from; i < std::min(end, size); ++i) Push(next, list[static_cast<size_t>(i)]);
}

void Apply(const Step& step, const Json& json, Matches& next) {
  switch (step.kind) {
    case Step::Kind::kField:
      if (const auto it = json.is_object() ? json.find(step.name) : json.end();
          json.is_object() && it != json.end()) {
        Push(next, *it);
      }
      return;
    case Step::Kind::kIndex: {
      const int size = static_cast<int>(json.is_array() ? json.size() : 0);
      const int index = step.from < 0 ? size + step.from : step.from;
      if (index >= 0 && index < size) Push(next, json[static_cast<size_t>(index)]);
      return;
    }
    case Step::Kind::kSlice:
      if (json.is_array()) Slice(step, json, next);
      return;
    case Step::Kind::kWildcard:
      if (!json.is_structured()) return;
      for (const Json& item : json) Push(next, item);
      return;
    case Step::Kind::kRecursive:
      Descend(json, step.name, next, 0);
      return;
    case Step::Kind::kFilter:
      if (!json.is_array()) return;
      for (const Json& item : json) {
        if (Accepts(step, item)) Push(next, item);
      }
      return;
  }
}

}  // namespace

base::Result<JsonPath> JsonPath::Compile(std::string_view text) {
  auto steps = Parser(text).Run();
  if (!steps) return steps.error();
  JsonPath path;
  path.text_ = text;
  path.steps_ = std::move(*steps);
  return path;
}

std::vector<const Json*> JsonPath::Find(const Json& document) const {
  Matches matches = {&document};
  for (const Step& step : steps_) {
    Matches next;
    for (const Json* match : matches) Apply(step, *match, next);
    matches = std::move(next);
  }
  return matches;
}

const Json* JsonPath::First(const Json& document) const {
  const Matches matches = Find(document);
  return matches.empty() ? nullptr : matches[0];
}

}  // namespace apiserver
