#include "base/utf8.hpp"

#include <cstdint>

namespace base {
namespace {

/// Length of the sequence that `lead` begins and the bounds of its second byte; length 0: never a
/// lead.
struct Sequence {
  size_t length;
  uint8_t low, high;
};

Sequence SequenceOf(uint8_t lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead < 0xF0)
    return {3, uint8_t(lead == 0xE0 ? 0xA0 : 0x80), uint8_t(lead == 0xED ? 0x9F : 0xBF)};
  if (lead < 0xF5)
    return {4, uint8_t(lead == 0xF0 ? 0x90 : 0x80), uint8_t(lead == 0xF4 ? 0x8F : 0xBF)};
  return {0, 0, 0};
}

constexpr size_t kLongest = 4;

}  // namespace

size_t Utf8Length(std::string_view text, size_t at) {
  const Sequence s = SequenceOf(static_cast<uint8_t>(text[at]));
  if (s.length == 0 || at + s.length > text.size()) return 0;
  for (size_t k = 1; k < s.length; ++k) {
    const auto byte = static_cast<uint8_t>(text[at + k]);
    if (byte < (k == 1 ? s.low : 0x80) || byte > (k == 1 ? s.high : 0xBF)) return 0;
  }
  return s.length;
}

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = Utf8Length(text, i);
    if (length == 0) return i;
    i += length;
  }
  return std::nullopt;
}

std::string CutUtf8(std::string text, size_t limit) {
  if (text.size() <= limit) return text;
  size_t end = limit;
  while (end > 0 && limit - end < kLongest && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80)
    --end;
  text.resize(end);
  return text;
}

std::string ShortenUtf8(std::string text, size_t limit) {
  if (text.size() <= limit) return text;
  return CutUtf8(std::move(text), limit) + "...";
}

std::string RepairUtf8(std::string text) {
  const auto bad = FindInvalidUtf8(text);
  if (!bad) return text;
  std::string out = text.substr(0, *bad);
  for (size_t i = *bad; i < text.size();) {
    const size_t length = Utf8Length(text, i);
    if (length == 0)
      out += "\xEF\xBF\xBD";
    else
      out.append(text, i, length);
    i += length == 0 ? 1 : length;
  }
  return out;
}

}  // namespace base
