#pragma once

#include <functional>
#include <string_view>

#include "base/result.hpp"

namespace kube {

/// Cuts JSON text into spans without building anything: for splitting pages and watch lines. Depth
/// is bounded; strings and brackets must balance, what is inside is the decoder's business. Errors:
/// kInvalid with reason BadFrame.

/// Calls `sink` with each member of an object: the key as written (escapes not decoded) and the
/// bytes of the value. A sink that returns false ends the scan early; the rest is then not checked.
base::Status EachMember(
    std::string_view object,
    const std::function<bool(std::string_view key, std::string_view value)>& sink);
/// The same for the elements of an array; the sink's error ends it.
base::Status EachElement(std::string_view array,
                         const std::function<base::Status(std::string_view value)>& sink);
/// The inside of a string's bytes, or empty if it is not a string or holds escapes.
std::string_view PlainString(std::string_view value);

}  // namespace kube
