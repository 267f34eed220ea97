#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace apiserver {

/// A regular expression in RE2's syntax without captures, matched in time linear in the text: no
/// input can make it slow or deep, which std::regex cannot promise. Works on bytes of UTF-8, so `.`
/// and classes match whole code points. Immutable, thread safe.
///
/// Understood: literals, `.`, classes with ranges, negation and [:names:], \d \w \s \D \W \S,
/// \pL-like classes are refused, anchors ^ $ \A \z, \b \B, groups (also (?:...), (?P<n>...), (?i)
/// and (?s) at the start), alternation, * + ? {n} {n,} {n,m} with lazy forms. Repeat counts up to
/// 1000.
class Regex {
 public:
  /// kInvalid with position and reason, also when the compiled form would pass 20,000 states.
  static base::Result<Regex> Compile(std::string_view pattern);
  /// True if the pattern matches anywhere in `text` (as Go's MatchString and CEL's matches()).
  bool Search(std::string_view text) const;
  size_t States() const;

 private:
  struct Program;
  explicit Regex(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const Program> program_;
};

}  // namespace apiserver
