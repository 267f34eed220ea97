#include "kube/json_span.hpp"

#include <cstring>

namespace kube {
namespace {

constexpr int kDepth = 200;

base::Error BadFrame(const char* what) {
  return base::MakeError(base::Code::kInvalid,
                         std::string("broken JSON from the API server: ") + what, "BadFrame");
}

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// A place in a text; members return false at broken input.
struct Cursor {
  std::string_view text;
  size_t at = 0;

  void Space() {
    while (at < text.size() && IsSpace(text[at])) ++at;
  }
  bool Take(char c) {
    Space();
    if (at >= text.size() || text[at] != c) return false;
    ++at;
    return true;
  }
  /// At the byte after an opening quote: to the byte after the closing one.
  bool String() {
    while (at < text.size()) {
      const void* found = std::memchr(text.data() + at, '"', text.size() - at);
      if (found == nullptr) return false;
      const size_t quote = static_cast<size_t>(static_cast<const char*>(found) - text.data());
      size_t slashes = 0;
      while (quote - slashes > at && text[quote - slashes - 1] == '\\') ++slashes;
      at = quote + 1;
      if (slashes % 2 == 0) return true;
    }
    return false;
  }
  bool Value(std::string_view& value) {
    Space();
    const size_t start = at;
    if (at >= text.size()) return false;
    if (text[at] == '"') {
      ++at;
      if (!String()) return false;
    } else if (text[at] == '{' || text[at] == '[') {
      if (!Container()) return false;
    } else {
      while (at < text.size() && text[at] != ',' && text[at] != '}' && text[at] != ']' &&
             !IsSpace(text[at]))
        ++at;
      if (at == start) return false;
    }
    value = text.substr(start, at - start);
    return true;
  }
  bool Container() {
    char closers[kDepth];
    int depth = 0;
    do {
      const char c = text[at++];
      if (c == '"') {
        if (!String()) return false;
      } else if (c == '{' || c == '[') {
        if (depth == kDepth) return false;
        closers[depth++] = c == '{' ? '}' : ']';
      } else if (c == '}' || c == ']') {
        if (closers[--depth] != c) return false;
      }
      if (depth == 0) return true;
    } while (at < text.size());
    return false;
  }
};

}  // namespace

base::Status EachMember(std::string_view object,
                        const std::function<bool(std::string_view, std::string_view)>& sink) {
  Cursor cursor{object};
  if (!cursor.Take('{')) return BadFrame("an object was expected");
  if (!cursor.Take('}')) {
    do {
      if (!cursor.Take('"')) return BadFrame("a member's name was expected");
      const size_t start = cursor.at;
      if (!cursor.String()) return BadFrame("a string does not end");
      const std::string_view key = object.substr(start, cursor.at - 1 - start);
      std::string_view value;
      if (!cursor.Take(':') || !cursor.Value(value)) return BadFrame("a member's value is broken");
      if (!sink(key, value)) return {};
    } while (cursor.Take(','));
    if (!cursor.Take('}')) return BadFrame("an object does not end");
  }
  cursor.Space();
  if (cursor.at != object.size()) return BadFrame("bytes behind an object");
  return {};
}

base::Status EachElement(std::string_view array,
                         const std::function<base::Status(std::string_view)>& sink) {
  if (array == "null") return {};  // Go encodes an empty list so.
  Cursor cursor{array};
  if (!cursor.Take('[')) return BadFrame("an array was expected");
  if (cursor.Take(']')) return {};
  do {
    std::string_view value;
    if (!cursor.Value(value)) return BadFrame("an element is broken");
    if (auto status = sink(value); !status) return status;
  } while (cursor.Take(','));
  if (!cursor.Take(']')) return BadFrame("an array does not end");
  return {};
}

std::string_view PlainString(std::string_view value) {
  if (value.size() < 2 || value.front() != '"' || value.find('\\') != std::string_view::npos)
    return {};
  return value.substr(1, value.size() - 2);
}

}  // namespace kube
