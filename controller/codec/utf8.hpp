#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace codec {

/// The offset of the first byte that is not part of well-formed UTF-8 (no overlong forms, no
/// surrogates, at most U+10FFFF).
std::optional<size_t> FindInvalidUtf8(std::string_view text);

}  // namespace codec
