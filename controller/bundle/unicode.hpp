#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bundle {

/// Takes one code point off `text`; nothing on invalid UTF-8 (overlong, surrogate, cut off),
/// leaving `text` as it was.
std::optional<char32_t> TakeCodePoint(std::string_view& text);
/// Control, format, bidirectional, zero-width, private, non-character: nothing that belongs into a
/// file name.
bool IsInvisible(char32_t c);
/// A combining mark or conjoining letter of a decomposed spelling, or a character that
/// normalisation replaces by another one. Names made only of others are equal as NFC exactly if
/// their bytes are equal (for the scripts that file names are written in).
bool IsDecomposed(char32_t c);
/// Lower case for the scripts with case (Latin, Greek, Cyrillic, Armenian, full width); for
/// comparing names, not for showing.
std::string FoldCase(std::string_view valid_utf8);

}  // namespace bundle
