#include "codec/utf8.hpp"

#include <cstdint>

namespace codec {
namespace {

/// Length of the sequence that `lead` begins and the bounds of its second byte (Unicode 15, table
/// 3-7); length 0: never a lead.
struct Sequence {
  int length;
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

}  // namespace

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Sequence s = SequenceOf(static_cast<uint8_t>(text[i]));
    if (s.length == 0 || i + s.length > text.size()) return i;
    for (int k = 1; k < s.length; ++k) {
      const auto byte = static_cast<uint8_t>(text[i + k]);
      if (byte < (k == 1 ? s.low : 0x80) || byte > (k == 1 ? s.high : 0xBF)) return i;
    }
    i += s.length;
  }
  return std::nullopt;
}

}  // namespace codec
