#include "apiserver/wire/selector.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "meta/names.hpp"

namespace apiserver {
namespace {

constexpr size_t kSelectorLimit = 64 << 10;
constexpr size_t kTermLimit = 256;

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Splits at commas outside parentheses.
std::vector<std::string_view> Terms(std::string_view text) {
  std::vector<std::string_view> terms;
  int depth = 0;
  size_t from = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] == '(') ++depth;
    if (i < text.size() && text[i] == ')') --depth;
    if (i < text.size() && (text[i] != ',' || depth != 0)) continue;
    const std::string_view term = Trim(text.substr(from, i - from));
    if (!term.empty()) terms.push_back(term);
    from = i + 1;
  }
  return terms;
}

base::Error Unreadable(std::string_view text, std::string_view why) {
  return base::MakeError(base::Code::kInvalid,
                         fmt::format("unable to parse requirement \"{}\": {}", text, why),
                         "BadSelector");
}

std::optional<int64_t> ToInt(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string TextOf(const codec::Json* value) {
  if (value == nullptr || value->is_null()) return "";
  if (value->is_string()) return value->get<std::string>();
  return codec::Dump(*value);
}

}  // namespace

base::Status Selector::ParseLabelTerm(std::string_view text, std::vector<LabelTerm>& terms) {
  LabelTerm term;
  const auto accept = [&](std::string_view key) -> base::Status {
    term.key = std::string(Trim(key));
    if (const std::string fault = meta::CheckQualifiedName(term.key); !fault.empty())
      return Unreadable(text, fault);
    for (const std::string& value : term.values) {
      if (const std::string fault = meta::CheckLabelValue(value); !fault.empty())
        return Unreadable(text, fault);
    }
    terms.push_back(std::move(term));
    return {};
  };
  if (const size_t open = text.find('('); open != std::string_view::npos) {
    if (text.back() != ')') return Unreadable(text, "found no ')'");
    for (const std::string_view value : Terms(text.substr(open + 1, text.size() - open - 2)))
      term.values.emplace_back(value);
    const std::string_view head = Trim(text.substr(0, open));
    const size_t space = head.find_last_of(" \t");
    if (space == std::string_view::npos) return Unreadable(text, "expected: in, notin");
    const std::string_view op = head.substr(space + 1);
    if (op != "in" && op != "notin") return Unreadable(text, "expected: in, notin");
    term.op = op == "in" ? Operator::kIn : Operator::kNotIn;
    return accept(head.substr(0, space));
  }
  if (const size_t at = text.find_first_of("=!<>"); at != std::string_view::npos && at > 0) {
    const bool unequal = text[at] == '!';
    const bool twice = at + 1 < text.size() && text[at + 1] == '=';
    if (unequal && !twice) return Unreadable(text, "expected: !=");
    term.op = unequal           ? Operator::kNotIn
              : text[at] == '<' ? Operator::kLess
              : text[at] == '>' ? Operator::kGreater
                                : Operator::kIn;
    term.values.emplace_back(Trim(text.substr(at + (twice ? 2 : 1))));
    return accept(text.substr(0, at));
  }
  term.op = text.front() == '!' ? Operator::kAbsent : Operator::kExists;
  return accept(text.front() == '!' ? text.substr(1) : text);
}

base::Status Selector::ParseFieldTerm(const ResourceDefinition& definition, std::string_view text,
                                      std::vector<FieldTerm>& terms) {
  const size_t at = text.find_first_of("=!");
  if (at == std::string_view::npos) {
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("invalid selector: '{}'; can't understand '{}'", text, text),
                           "BadSelector");
  }
  FieldTerm term;
  term.path = std::string(Trim(text.substr(0, at)));
  term.equal = text[at] != '!';
  const bool twice = at + 1 < text.size() && text[at + 1] == '=';
  if (!term.equal && !twice) {
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("invalid selector: '{}'; can't understand '{}'", text, text),
                           "BadSelector");
  }
  term.value = std::string(Trim(text.substr(at + (twice ? 2 : 1))));
  if (term.path == "metadata.name" || term.path == "metadata.namespace") {
    auto path = JsonPath::Compile("." + term.path);
    if (!path) return path.error();
    term.json_path = std::move(*path);
    terms.push_back(std::move(term));
    return {};
  }
  for (const SelectableField& field : definition.selectable_fields) {
    if (field.path != term.path) continue;
    term.json_path = field.json_path;
    terms.push_back(std::move(term));
    return {};
  }
  return base::MakeError(base::Code::kInvalid,
                         fmt::format("field label not supported: {}", term.path), "BadSelector");
}

base::Result<Selector> Selector::Parse(const ResourceDefinition& definition,
                                       std::string_view labels, std::string_view fields) {
  Selector selector;
  if (labels.size() > kSelectorLimit || fields.size() > kSelectorLimit) {
    return base::MakeError(base::Code::kInvalid, "the selector is longer than 64 KiB",
                           "BadSelector");
  }
  const auto label_terms = Terms(labels);
  const auto field_terms = Terms(fields);
  if (label_terms.size() > kTermLimit || field_terms.size() > kTermLimit) {
    return base::MakeError(base::Code::kInvalid, "the selector has more than 256 terms",
                           "BadSelector");
  }
  for (const std::string_view term : label_terms) {
    if (auto read = ParseLabelTerm(term, selector.labels_); !read) return read.error();
  }
  for (const std::string_view term : field_terms) {
    if (auto read = ParseFieldTerm(definition, term, selector.fields_); !read) return read.error();
  }
  return selector;
}

bool Selector::LabelMatches(const LabelTerm& term, const codec::Json& labels) {
  const codec::Json& value = codec::GetMember(labels, term.key);
  const bool there = value.is_string();
  const std::string text = there ? value.get<std::string>() : std::string();
  const bool listed =
      there && std::find(term.values.begin(), term.values.end(), text) != term.values.end();
  switch (term.op) {
    case Operator::kIn:
      return listed;
    case Operator::kNotIn:
      return !listed;
    case Operator::kExists:
      return there;
    case Operator::kAbsent:
      return !there;
    case Operator::kGreater:
    case Operator::kLess:
      break;
  }
  const auto left = ToInt(text);
  const auto right = ToInt(term.values.front());
  if (!there || !left || !right) return false;
  return term.op == Operator::kGreater ? *left > *right : *left < *right;
}

bool Selector::Matches(const codec::Json& object) const {
  const codec::Json& labels = codec::GetMember(codec::GetMember(object, "metadata"), "labels");
  for (const LabelTerm& term : labels_) {
    if (!LabelMatches(term, labels)) return false;
  }
  for (const FieldTerm& term : fields_) {
    if ((TextOf(term.json_path.First(object)) == term.value) != term.equal) return false;
  }
  return true;
}

std::string Selector::OnlyName() const {
  for (const FieldTerm& term : fields_) {
    if (term.path == "metadata.name" && term.equal) return term.value;
  }
  return "";
}

}  // namespace apiserver
