#pragma once

#include <optional>

#include "base/clock.hpp"
#include "http/message.hpp"

namespace http {

/// Retry-After in seconds, if it is there and sensible: an hour at most; dates are not read.
std::optional<base::Millis> RetryAfter(const Headers& headers);

}  // namespace http
