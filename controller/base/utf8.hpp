#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

// Well-formed UTF-8 as of Unicode 15, table 3-7: no overlong forms, no surrogates, at most
// U+10FFFF.

namespace base {

/// Bytes of the well-formed sequence that begins at `text[at]`; 0: none does.
size_t Utf8Length(std::string_view text, size_t at);

/// The offset of the first byte that is not part of well-formed UTF-8.
std::optional<size_t> FindInvalidUtf8(std::string_view text);

/// At most `limit` bytes from the start, not cut inside of a sequence: an API server stores half a
/// character as another one, and what was written then differs from what is read for ever.
std::string CutUtf8(std::string text, size_t limit);

/// The same with "..." after a text that was cut: up to `limit` + 3 bytes.
std::string ShortenUtf8(std::string text, size_t limit);

/// U+FFFD in place of each byte that is not part of well-formed UTF-8.
std::string RepairUtf8(std::string text);

}  // namespace base
