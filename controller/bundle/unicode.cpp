#include "bundle/unicode.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace bundle {
namespace {

using Range = std::pair<char32_t, char32_t>;

template <size_t N>
bool In(char32_t c, const std::array<Range, N>& ranges) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [c](const Range& r) { return c >= r.first && c <= r.second; });
}

void Append(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

/// Blocks in which an upper-case letter stands right before its lower-case one (even, odd).
bool IsEvenPair(char32_t c) {
  static constexpr std::array<Range, 9> kRanges{{{0x100, 0x12F},
                                                 {0x132, 0x137},
                                                 {0x14A, 0x177},
                                                 {0x1DE, 0x1EF},
                                                 {0x1F8, 0x21F},
                                                 {0x222, 0x233},
                                                 {0x460, 0x481},
                                                 {0x48A, 0x4BF},
                                                 {0x4D0, 0x52F}}};
  return In(c, kRanges) || (c >= 0x1E00 && c <= 0x1E95) || (c >= 0x1EA0 && c <= 0x1EFF);
}

char32_t Fold(char32_t c) {
  if (c >= 'A' && c <= 'Z') return c + 32;
  if (c < 0xC0) return c;
  if ((c >= 0xC0 && c <= 0xDE && c != 0xD7) || (c >= 0x391 && c <= 0x3A9) ||
      (c >= 0x410 && c <= 0x42F))
    return c + 32;
  if (c == 0x130 || c == 0x131) return 'i';  // Turkish: equal on some file systems, so equal here.
  if (c == 0x178) return 0xFF;
  if (c == 0x17F) return 's';
  if (c == 0x1E9E) return 0xDF;
  if (c == 0x3C2) return 0x3C3;
  if (c >= 0x400 && c <= 0x40F) return c + 80;
  if (c >= 0x531 && c <= 0x556) return c + 48;
  if (c >= 0xFF21 && c <= 0xFF3A) return c + 32;
  if (c == 0x386) return 0x3AC;
  if (c >= 0x388 && c <= 0x38A) return c + 37;
  if (c == 0x38C) return 0x3CC;
  if (c == 0x38E || c == 0x38F) return c + 63;
  if (IsEvenPair(c)) return c | 1;
  const bool odd_pair = (c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E) ||
                        (c >= 0x1CD && c <= 0x1DC) || (c >= 0x4C1 && c <= 0x4CE);
  return odd_pair && (c & 1) != 0 ? c + 1 : c;
}

}  // namespace

std::optional<char32_t> TakeCodePoint(std::string_view& text) {
  if (text.empty()) return std::nullopt;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  const size_t length = first < 0x80             ? 1
                        : (first & 0xE0) == 0xC0 ? 2
                        : (first & 0xF0) == 0xE0 ? 3
                        : (first & 0xF8) == 0xF0 ? 4
                                                 : 0;
  if (length == 0 || text.size() < length) return std::nullopt;
  char32_t c = length == 1 ? first : first & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return std::nullopt;
    c = (c << 6) | (byte(i) & 0x3F);
  }
  static constexpr std::array<char32_t, 5> kSmallest{0, 0, 0x80, 0x800, 0x10000};
  if (c < kSmallest[length] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) return std::nullopt;
  text.remove_prefix(length);
  return c;
}

bool IsInvisible(char32_t c) {
  static constexpr std::array<Range, 20> kRanges{
      {{0, 0x1F},        {0x7F, 0x9F},     {0xAD, 0xAD},       {0x34F, 0x34F},
       {0x61C, 0x61C},   {0x115F, 0x1160}, {0x17B4, 0x17B5},   {0x180B, 0x180F},
       {0x200B, 0x200F}, {0x2028, 0x202E}, {0x2060, 0x206F},   {0x3164, 0x3164},
       {0xE000, 0xF8FF}, {0xFE00, 0xFE0F}, {0xFEFF, 0xFEFF},   {0xFFA0, 0xFFA0},
       {0xFFF0, 0xFFFB}, {0xFDD0, 0xFDEF}, {0xE0000, 0xE0FFF}, {0xF0000, 0x10FFFF}}};
  return In(c, kRanges) || (c & 0xFFFE) == 0xFFFE;
}

bool IsDecomposed(char32_t c) {
  static constexpr std::array<Range, 10> kRanges{{{0x300, 0x36F},
                                                  {0x1AB0, 0x1AFF},
                                                  {0x1DC0, 0x1DFF},
                                                  {0x20D0, 0x20FF},
                                                  {0xFE20, 0xFE2F},
                                                  {0x1100, 0x11FF},
                                                  {0x3099, 0x309A},
                                                  {0x212A, 0x212B},
                                                  {0x2126, 0x2126},
                                                  {0xF900, 0xFAFF}}};
  return In(c, kRanges);
}

std::string FoldCase(std::string_view valid_utf8) {
  std::string out;
  out.reserve(valid_utf8.size());
  while (!valid_utf8.empty()) {
    const auto c = TakeCodePoint(valid_utf8);
    if (!c) break;
    Append(out, Fold(*c));
  }
  return out;
}

}  // namespace bundle
