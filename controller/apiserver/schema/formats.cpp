#include "apiserver/schema/formats.hpp"

#include <cctype>
#include <string>

#include "apiserver/cel/value.hpp"
#include "base/base64.hpp"
#include "base/clock.hpp"

namespace apiserver {
namespace {

bool IsUuid(std::string_view text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-' : !std::isxdigit(static_cast<unsigned char>(text[i]))) return false;
  }
  return true;
}

bool IsIpv4(std::string_view text) {
  int parts = 0;
  while (true) {
    size_t digits = 0;
    int value = 0;
    while (digits < text.size() && digits < 4 &&
           std::isdigit(static_cast<unsigned char>(text[digits]))) {
      value = value * 10 + (text[digits++] - '0');
    }
    if (digits == 0 || digits > 3 || value > 255 || (digits > 1 && text[0] == '0')) return false;
    text.remove_prefix(digits);
    if (++parts == 4) return text.empty();
    if (!text.starts_with('.')) return false;
    text.remove_prefix(1);
  }
}

bool IsIpv6(std::string_view text) {
  if (text.size() > 45 || text.find(':') == std::string_view::npos) return false;
  int groups = 0;
  int gaps = 0;
  for (size_t i = 0; i < text.size();) {
    if (text.substr(i, 2) == "::") {
      ++gaps;
      i += 2;
      continue;
    }
    if (text[i] == ':') {
      if (i == 0 || ++i >= text.size()) return false;
      continue;
    }
    const size_t end = std::min(text.find(':', i), text.size());
    if (end == text.size() && text.substr(i).find('.') != std::string_view::npos) {
      if (!IsIpv4(text.substr(i))) return false;
      groups += 2;
      break;
    }
    if (end - i > 4) return false;
    for (; i < end; ++i) {
      if (!std::isxdigit(static_cast<unsigned char>(text[i]))) return false;
    }
    ++groups;
  }
  return gaps == 1 ? groups < 8 : gaps == 0 && groups == 8;
}

bool IsDate(std::string_view text) {
  return text.size() == 10 && base::ParseTime(std::string(text) + "T00:00:00Z").has_value();
}

bool IsUri(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == 0 || colon == std::string_view::npos ||
      !std::isalpha(static_cast<unsigned char>(text[0])))
    return text.starts_with('/');
  return text.find_first_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace

bool FitsFormat(std::string_view format, std::string_view text) {
  if (format == "date-time") return base::ParseTime(text).has_value();
  if (format == "date") return IsDate(text);
  if (format == "duration") return ParseCelDuration(text).has_value();
  if (format == "byte") return base::DecodeBase64(text).has_value();
  if (format == "uuid") return IsUuid(text);
  if (format == "ipv4") return IsIpv4(text);
  if (format == "ipv6") return IsIpv6(text);
  if (format == "uri") return IsUri(text);
  return true;
}

}  // namespace apiserver
