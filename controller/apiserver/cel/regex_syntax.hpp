#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace apiserver {

/// A set of code points: sorted ranges, with a bitmap for the ASCII half of the world.
struct RegexSet {
  std::vector<std::pair<uint32_t, uint32_t>> ranges;
  std::bitset<128> ascii;
  bool Has(uint32_t point) const;
  void Add(uint32_t from, uint32_t to) { ranges.emplace_back(from, to); }
  void Negate();
  /// Adds the other case of ASCII letters.
  void FoldCase();
  /// Sorts, merges and fills the bitmap; to be called once when the set is complete.
  void Seal();
};

enum class RegexAssert : uint8_t { kBegin, kEnd, kWord, kNotWord };

/// The syntax tree of a pattern; lives only while it is compiled.
struct RegexTree {
  enum class Kind { kEmpty, kSet, kAssert, kSequence, kChoice, kRepeat };
  Kind kind = Kind::kEmpty;
  RegexSet set;
  RegexAssert assertion = RegexAssert::kBegin;
  int min = 0;
  int max = -1;  ///< -1: no limit.
  std::vector<std::unique_ptr<RegexTree>> kids;
};

/// kInvalid with position and reason. Depth at most 100, repeat counts at most 1000.
base::Result<std::unique_ptr<RegexTree>> ParseRegex(std::string_view pattern);

/// Reads one code point at `position` and moves on; an invalid byte counts as itself.
uint32_t NextCodePoint(std::string_view text, size_t& position);

}  // namespace apiserver
