#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "base/utf8.hpp"
#include "codec/json.hpp"

namespace codec {
namespace {

constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxNodes = 20'000;
constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxDocuments = 500;
constexpr std::string_view kCoreTag = "tag:yaml.org,2002:";

/// Never leaves this file.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void Refuse(const YAML::Mark& mark, std::string_view problem) {
  throw Refused(fmt::format("line {}, column {}: {}", mark.line + 1, mark.column + 1, problem));
}

bool AllOf(std::string_view text, std::string_view allowed) {
  return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

std::string_view WithoutSign(std::string_view text) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  return text;
}

/// [-+]? ( \.[0-9]+ | [0-9]+ ( \.[0-9]* )? ) ( [eE] [-+]? [0-9]+ )?  (YAML 1.2.2, section 10.3.2)
bool LooksLikeFloat(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789";
  text = WithoutSign(text);
  const size_t e = text.find_first_of("eE");
  if (e != std::string_view::npos && !AllOf(WithoutSign(text.substr(e + 1)), kDigits)) return false;
  const std::string_view mantissa = text.substr(0, e);
  const size_t dot = mantissa.find('.');
  if (dot == std::string_view::npos) return AllOf(mantissa, kDigits);
  const std::string_view whole = mantissa.substr(0, dot), fraction = mantissa.substr(dot + 1);
  if (whole.empty()) return AllOf(fraction, kDigits);
  return AllOf(whole, kDigits) && (fraction.empty() || AllOf(fraction, kDigits));
}

Json ParseInteger(const YAML::Mark& mark, std::string_view digits, int base, bool negative) {
  const std::string text = (negative ? "-" : "") + std::string(digits);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size())
    Refuse(mark, fmt::format("the integer {} does not fit 64 bits; quote it if it is text", text));
  return value;
}

Json ParseFloat(const YAML::Mark& mark, const std::string& text) {
  const double value = std::strtod(text.c_str(), nullptr);
  if (!std::isfinite(value))
    Refuse(mark, fmt::format("the number {} is out of range; quote it if it is text", text));
  return value;
}

/// A plain scalar by the core schema of YAML 1.2.
Json PlainScalar(const YAML::Mark& mark, const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL")
    return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  const std::string_view digits = WithoutSign(text);
  if (AllOf(digits, "0123456789")) {
    // 017 is 17 by YAML 1.2 and 15 by the 1.1 readers of other tools: nobody may have to guess.
    if (digits.size() > 1 && digits[0] == '0')
      Refuse(mark,
             fmt::format("the number {} is ambiguous; quote it, or write 0o... for octal", text));
    return ParseInteger(mark, digits, 10, text[0] == '-');
  }
  if (text.starts_with("0x") && AllOf(digits.substr(2), "0123456789abcdefABCDEF"))
    return ParseInteger(mark, digits.substr(2), 16, false);
  if (text.starts_with("0o") && AllOf(digits.substr(2), "01234567"))
    return ParseInteger(mark, digits.substr(2), 8, false);
  if (LooksLikeFloat(text)) return ParseFloat(mark, text);
  if (digits == ".inf" || digits == ".Inf" || digits == ".INF" || text == ".nan" ||
      text == ".NaN" || text == ".NAN")
    Refuse(mark, fmt::format("{} is not a JSON number", text));
  return text;
}

/// A scalar with an explicit core tag.
Json TaggedScalar(const YAML::Mark& mark, std::string_view tag, const std::string& text) {
  if (tag == "str") return text;
  Json value = PlainScalar(mark, text);
  const bool fits = (tag == "int" && value.is_number_integer()) ||
                    (tag == "float" && value.is_number()) ||
                    (tag == "bool" && value.is_boolean()) || (tag == "null" && value.is_null());
  if (!fits) Refuse(mark, fmt::format("the tag !!{} does not fit or is not supported", tag));
  return tag == "float" ? Json(value.get<double>()) : value;
}

/// Where the scalar at `mark` begins in the text: behind its tag and anchor.
size_t ScalarStart(std::string_view text, const YAML::Mark& mark) {
  auto at = static_cast<size_t>(mark.pos);
  while (at < text.size() && (text[at] == '!' || text[at] == '&')) {
    at = text.find_first_of(" \t\r\n", at);
    if (at != std::string_view::npos) at = text.find_first_not_of(" \t\r\n", at);
  }
  return std::min(at, text.size());
}

/// One past the closing quote of the quoted scalar that begins at `start`; nothing if the text ends
/// before it.
std::optional<size_t> QuotedEnd(std::string_view text, size_t start) {
  const char quote = text[start];
  for (size_t i = start + 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      if (quote == '"' || i + 1 >= text.size() || text[i + 1] != quote) return i + 1;
      ++i;
    }
  }
  return std::nullopt;
}

bool IsQuote(std::string_view text, size_t at) {
  return at < text.size() && (text[at] == '"' || text[at] == '\'');
}

/// yaml-cpp takes a quoted scalar that the end of the text cuts off for a whole one; only the last
/// scalar can be such.
void CheckClosed(std::string_view text, const YAML::Mark& mark) {
  const size_t start = ScalarStart(text, mark);
  if (IsQuote(text, start) && !QuotedEnd(text, start))
    Refuse(mark, "a quoted text is not closed before the end");
}

/// yaml-cpp takes a line without a colon in a block map for a key without a value.
void CheckColon(std::string_view text, const YAML::Mark& mark, const std::string& key) {
  size_t end = ScalarStart(text, mark);
  if (IsQuote(text, end)) {
    end = QuotedEnd(text, end).value_or(text.size());
  } else if (text.substr(end, key.size()) == key) {
    end += key.size();
  } else {
    return;  // Folded over lines: only an explicit key (?) can be.
  }
  const size_t before = text.substr(0, static_cast<size_t>(mark.pos)).find_last_not_of(" \t");
  if (before != std::string_view::npos && text[before] == '?') return;
  end = text.find_first_not_of(" \t", end);
  if (end == std::string_view::npos || text[end] != ':')
    Refuse(mark, fmt::format("the key \"{}\" has no colon", key.substr(0, 100)));
}

/// yaml-cpp takes whatever follows a document for the next one.
void CheckSeparated(std::string_view text, size_t previous, const YAML::Mark& mark) {
  const auto at = static_cast<size_t>(mark.pos);
  if (text.substr(at, 3) == "---") return;
  if (text.substr(previous, at - previous).find("\n...") == std::string_view::npos)
    Refuse(mark, "there is more text after the document; separate documents by ---");
}

class Converter final : public YAML::EventHandler {
 public:
  explicit Converter(std::string_view text) : text_(text) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_.size() >= kMaxDocuments)
      throw Refused(fmt::format("more than {} documents", kMaxDocuments));
    if (!documents_.empty()) CheckSeparated(text_, document_start_, mark);
    document_start_ = static_cast<size_t>(mark.pos);
    documents_.emplace_back();
    open_.clear();
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    if (WantsKey()) Refuse(mark, "a key must not be null");
    Add(mark, nullptr);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Refuse(mark, "aliases are not supported; write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& text) override {
    last_scalar_ = mark;
    if (WantsKey()) return SetKey(mark, tag, text);
    Add(mark, Scalar(mark, tag, text));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, "seq", Json::array());
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value style) override {
    Open(mark, tag, "map", Json::object());
    open_.back().block = style == YAML::EmitterStyle::Block;
  }
  void OnMapEnd() override { open_.pop_back(); }

  std::vector<Json> Take() { return std::move(documents_); }
  /// Where the last scalar began.
  const std::optional<YAML::Mark>& LastScalar() const { return last_scalar_; }

 private:
  struct Level {
    Json* container;
    std::optional<std::string> key;
    bool block = false;
  };

  static Json Scalar(const YAML::Mark& mark, const std::string& tag, const std::string& text) {
    if (tag == "!") return text;  // Quoted, or the non-specific tag.
    if (tag.empty() || tag == "?") return PlainScalar(mark, text);
    if (!tag.starts_with(kCoreTag)) Refuse(mark, fmt::format("the tag {} is not supported", tag));
    return TaggedScalar(mark, std::string_view(tag).substr(kCoreTag.size()), text);
  }

  bool WantsKey() const {
    return !open_.empty() && open_.back().container->is_object() && !open_.back().key;
  }
  void SetKey(const YAML::Mark& mark, const std::string& tag, const std::string& text) {
    Count(mark);
    if (tag == "?" && text == "<<")
      Refuse(mark, "merge keys (<<) are not supported; write the members out");
    if (tag != "?" && tag != "!" && tag != std::string(kCoreTag) + "str")
      Refuse(mark, fmt::format("the tag {} is not supported on a key", tag));
    if (open_.back().container->contains(text))
      Refuse(mark, fmt::format("the key \"{}\" is there twice", text.substr(0, 100)));
    if (open_.back().block) CheckColon(text_, mark, text);
    open_.back().key = text;
  }
  void Count(const YAML::Mark& mark) {
    if (++nodes_ > kMaxNodes) Refuse(mark, fmt::format("more than {} nodes", kMaxNodes));
  }
  Json* Add(const YAML::Mark& mark, Json value) {
    Count(mark);
    if (open_.empty()) return &(documents_.back() = std::move(value));
    Level& level = open_.back();
    if (level.container->is_array()) {
      level.container->push_back(std::move(value));
      return &level.container->back();
    }
    Json& member = (*level.container)[*std::exchange(level.key, std::nullopt)];
    return &(member = std::move(value));
  }
  void Open(const YAML::Mark& mark, const std::string& tag, std::string_view kind, Json empty) {
    if (WantsKey()) Refuse(mark, "a key must be a scalar");
    if (!tag.empty() && tag != "?" && tag != "!" && tag != fmt::format("{}{}", kCoreTag, kind))
      Refuse(mark, fmt::format("the tag {} is not supported", tag));
    if (open_.size() >= kMaxDepth) Refuse(mark, fmt::format("more than {} levels deep", kMaxDepth));
    open_.push_back({Add(mark, std::move(empty)), std::nullopt, false});
  }

  const std::string_view text_;
  size_t document_start_ = 0;
  std::vector<Json> documents_;
  std::vector<Level> open_;
  size_t nodes_ = 0;
  std::optional<YAML::Mark> last_scalar_;
};

std::vector<Json> Convert(std::string_view text) {
  std::istringstream stream{std::string(text)};
  YAML::Parser parser(stream);
  Converter converter(text);
  while (parser.HandleNextDocument(converter)) {
  }
  if (converter.LastScalar()) CheckClosed(text, *converter.LastScalar());
  return converter.Take();
}

}  // namespace

base::Result<std::vector<Json>> ParseYaml(std::string_view text) {
  const auto invalid = [](std::string problem) {
    return base::MakeError(base::Code::kInvalid, "YAML is not valid: " + std::move(problem));
  };
  if (text.size() > kMaxBytes)
    return invalid(fmt::format("{} bytes are over the limit of {}", text.size(), kMaxBytes));
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  if (const auto nul = text.find('\0'); nul != std::string_view::npos)
    return invalid(fmt::format("a NUL byte at byte {}", nul));
  if (const auto bad = base::FindInvalidUtf8(text))
    return invalid(fmt::format("not UTF-8 at byte {}", *bad));
  try {
    return Convert(text);
  } catch (const Refused& error) {
    return invalid(error.what());
  } catch (const YAML::Exception& error) {
    return invalid(fmt::format("line {}, column {}: {}", error.mark.line + 1, error.mark.column + 1,
                               error.msg));
  } catch (const std::exception& error) {
    return invalid(error.what());
  }
}

}  // namespace codec
