#pragma once

#include <functional>
#include <string>

#include "base/result.hpp"

namespace base {

/// Where bytes that are sent somewhere come from: each call gives the next piece, at most 64 KiB;
/// an empty one is the end. Called by one thread at a time.
using ByteSource = std::function<Result<std::string>()>;

}  // namespace base
