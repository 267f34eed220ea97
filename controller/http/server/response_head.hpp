#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "http/message.hpp"

namespace http {

/// True if the headers hold `Connection: close`.
bool WantsClose(const Headers& headers);
std::string_view ReasonPhrase(int status);

/// The head of an answer as bytes. Framing headers are ours alone; a header that holds CR, LF or
/// NUL is left out.
struct ResponseHead {
  const Response& response;
  std::optional<uint64_t> length;
  bool chunked = false;
  bool keep_alive = true;
  bool http10 = false;
  void AppendTo(std::string& out, std::string_view date) const;
};

}  // namespace http
