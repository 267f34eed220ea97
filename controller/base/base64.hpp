#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace base {

/// RFC 4648 with padding, as the data of Secrets.
std::string EncodeBase64(std::string_view bytes);
/// Nothing when it is not valid base64 with padding.
std::optional<std::string> DecodeBase64(std::string_view text);

}  // namespace base
