#pragma once

#include <compare>
#include <optional>
#include <string_view>

namespace runtime {

/// Order of two resourceVersions of one resource type (KEP-5504): decimal numbers without leading
/// zero, any length. Nothing when one of them is malformed: then only equality means something.
std::optional<std::strong_ordering> CompareVersions(std::string_view a, std::string_view b);

/// True when `a` is known to be at or past `b` (equal texts always are).
bool AtLeast(std::string_view a, std::string_view b);

}  // namespace runtime
