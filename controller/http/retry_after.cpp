#include "http/retry_after.hpp"

#include <charconv>

namespace http {

std::optional<base::Millis> RetryAfter(const Headers& headers) {
  const std::string_view text = FindHeader(headers, "Retry-After");
  int seconds = -1;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() ||
      seconds < 0 || seconds > 3600)
    return std::nullopt;
  return base::Seconds(seconds);
}

}  // namespace http
