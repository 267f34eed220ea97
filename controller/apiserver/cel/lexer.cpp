#include "apiserver/cel/lexer.hpp"

#include <fmt/format.h>

#include <cctype>
#include <charconv>

namespace apiserver {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return c == '_' || std::isalpha(static_cast<unsigned char>(c)); }
bool IsName(char c) { return IsNameStart(c) || IsDigit(c); }

void AppendUtf8(std::string& out, uint32_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += static_cast<char>(0xC0 | point >> 6);
    out += static_cast<char>(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    out += static_cast<char>(0xE0 | point >> 12);
    out += static_cast<char>(0x80 | (point >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (point & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | point >> 18);
    out += static_cast<char>(0x80 | (point >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (point >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (point & 0x3F));
  }
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  base::Result<std::vector<CelToken>> Run() {
    while (error_.empty()) {
      SkipSpace();
      CelToken token;
      token.position = at_;
      if (at_ >= text_.size()) {
        tokens_.push_back(token);
        return std::move(tokens_);
      }
      Read(token);
      tokens_.push_back(std::move(token));
    }
    return base::MakeError(base::Code::kInvalid, fmt::format("{} at byte {}", error_, at_));
  }

 private:
  char Peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }

  void SkipSpace() {
    while (at_ < text_.size()) {
      if (std::isspace(static_cast<unsigned char>(text_[at_]))) {
        ++at_;
      } else if (text_.substr(at_, 2) == "//") {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else {
        return;
      }
    }
  }

  void Read(CelToken& token) {
    const char c = Peek();
    if (IsDigit(c) || (c == '.' && IsDigit(Peek(1)))) return ReadNumber(token);
    if (c == '"' || c == '\'') return ReadString(token, false);
    if ((c == 'r' || c == 'R') && (Peek(1) == '"' || Peek(1) == '\'')) {
      ++at_;
      return ReadString(token, true);
    }
    if ((c == 'b' || c == 'B') && (Peek(1) == '"' || Peek(1) == '\'')) {
      error_ = "bytes literals are not supported";
      return;
    }
    if (IsNameStart(c)) {
      const size_t start = at_;
      while (IsName(Peek())) ++at_;
      token.kind = CelToken::Kind::kIdentifier;
      token.text = text_.substr(start, at_ - start);
      return;
    }
    ReadSymbol(token);
  }

  void ReadSymbol(CelToken& token) {
    token.kind = CelToken::Kind::kSymbol;
    for (const std::string_view two : {"&&", "||", "==", "!=", "<=", ">="}) {
      if (text_.substr(at_, 2) != two) continue;
      token.text = two;
      at_ += 2;
      return;
    }
    if (std::string_view("!<>+-*/%?:.,()[]{}").find(Peek()) == std::string_view::npos) {
      error_ = fmt::format("unexpected character `{}`", Peek());
      return;
    }
    token.text = text_.substr(at_++, 1);
  }

  void ReadNumber(CelToken& token) {
    const char* begin = text_.data() + at_;
    const char* end = text_.data() + text_.size();
    const bool hex = Peek() == '0' && (Peek(1) == 'x' || Peek(1) == 'X');
    const auto whole = std::from_chars(hex ? begin + 2 : begin, end, token.integer, hex ? 16 : 10);
    const char after = whole.ptr < end ? *whole.ptr : '\0';
    const bool fraction = after == '.' && whole.ptr + 1 < end && IsDigit(whole.ptr[1]);
    if (!hex && (fraction || after == 'e' || after == 'E' || Peek() == '.')) {
      const auto real = std::from_chars(begin, end, token.real);
      if (real.ec != std::errc()) error_ = "number out of range";
      token.kind = CelToken::Kind::kDouble;
      at_ = static_cast<size_t>(real.ptr - text_.data());
      return;
    }
    if (whole.ec != std::errc()) error_ = "number out of range";
    at_ = static_cast<size_t>(whole.ptr - text_.data());
    token.kind = CelToken::Kind::kInt;
    if (Peek() == 'u' || Peek() == 'U') {
      ++at_;
      token.kind = CelToken::Kind::kUint;
    }
    if (IsName(Peek())) error_ = "malformed number";
  }

  void ReadString(CelToken& token, bool raw) {
    token.kind = CelToken::Kind::kString;
    const char quote = Peek();
    const std::string three(3, quote);
    const bool triple = text_.substr(at_, 3) == three;
    at_ += triple ? 3 : 1;
    while (at_ < text_.size() && error_.empty()) {
      if (triple ? text_.substr(at_, 3) == three : Peek() == quote) {
        at_ += triple ? 3 : 1;
        return;
      }
      if (Peek() == '\n' && !triple) break;
      if (Peek() == '\\' && !raw)
        ReadEscape(token.text);
      else
        token.text += text_[at_++];
    }
    if (error_.empty()) error_ = "unterminated string";
  }

  void ReadEscape(std::string& out) {
    ++at_;
    const char c = Peek();
    ++at_;
    constexpr std::string_view kLetters = "abfnrtv\\\"'`?";
    constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\\"'`?";
    if (const size_t i = kLetters.find(c); c != '\0' && i != std::string_view::npos) {
      out += kValues[i];
      return;
    }
    int digits = c == 'x' || c == 'X' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    int base = 16;
    if (c >= '0' && c <= '3') {
      digits = 3;
      base = 8;
      --at_;
    }
    uint32_t point = 0;
    const std::string_view number =
        text_.substr(std::min(at_, text_.size()), static_cast<size_t>(digits));
    const auto [end, problem] =
        std::from_chars(number.data(), number.data() + number.size(), point, base);
    if (digits == 0 || problem != std::errc() || end != number.data() + digits ||
        point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) {
      error_ = "bad escape in string";
      return;
    }
    at_ += static_cast<size_t>(digits);
    AppendUtf8(out, point);
  }

  std::string_view text_;
  size_t at_ = 0;
  std::string error_;
  std::vector<CelToken> tokens_;
};

}  // namespace

base::Result<std::vector<CelToken>> LexCel(std::string_view text) { return Lexer(text).Run(); }

}  // namespace apiserver
