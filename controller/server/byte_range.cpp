#include "server/byte_range.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/base64.hpp"

namespace server {
namespace {

std::optional<uint64_t> Number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

ByteRange ParseRange(std::string_view header, uint64_t size) {
  const ByteRange whole{RangeKind::kWhole, 0, size};
  const ByteRange none{RangeKind::kUnsatisfiable, 0, 0};
  if (!header.starts_with("bytes=")) return whole;
  header.remove_prefix(6);
  const size_t dash = header.find('-');
  if (dash == std::string_view::npos) return whole;
  const auto first = Number(header.substr(0, dash));
  const auto last = Number(header.substr(dash + 1));
  if (dash == 0) {
    if (!last) return whole;
    if (*last == 0 || size == 0) return none;
    const uint64_t length = std::min(*last, size);
    return {RangeKind::kPart, size - length, length};
  }
  const bool open = dash + 1 == header.size();
  if (!first || (!open && !last) || (!open && *last < *first)) return whole;
  if (*first >= size) return none;
  const uint64_t end = open ? size - 1 : std::min(*last, size - 1);
  return {RangeKind::kPart, *first, end - *first + 1};
}

std::string DigestHeader(std::string_view digest) {
  constexpr std::string_view kPrefix = "sha256:";
  if (!digest.starts_with(kPrefix) || digest.size() != kPrefix.size() + 64) return {};
  digest.remove_prefix(kPrefix.size());
  std::string bytes;
  for (size_t i = 0; i < digest.size(); i += 2) {
    const int high = HexValue(digest[i]);
    const int low = HexValue(digest[i + 1]);
    if (high < 0 || low < 0) return {};
    bytes += static_cast<char>(high << 4 | low);
  }
  return "sha-256=" + base::EncodeBase64(bytes);
}

}  // namespace server
