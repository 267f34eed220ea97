#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace apiserver {

struct CelToken {
  enum class Kind { kEnd, kIdentifier, kInt, kUint, kDouble, kString, kSymbol };
  Kind kind = Kind::kEnd;
  std::string text;      ///< Identifier, decoded string, or symbol.
  uint64_t integer = 0;  ///< Magnitude of kInt and kUint.
  double real = 0;
  size_t position = 0;
};

/// Splits CEL text into tokens, ended by one kEnd. kInvalid with the byte position.
base::Result<std::vector<CelToken>> LexCel(std::string_view text);

}  // namespace apiserver
