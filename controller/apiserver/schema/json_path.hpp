#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// The JSONPath that printer columns and selectable fields use: .a.b, ['a'], [0], [-1], [1:3], [*],
/// ..name, [?(@.type=="Ready")] with == != < <= > >= and existence. An optional {} around it.
/// Immutable, thread safe.
class JsonPath {
 public:
  JsonPath() = default;
  /// kInvalid naming the path; at most 1024 bytes and 32 steps.
  static base::Result<JsonPath> Compile(std::string_view text);
  /// All matches in document order, at most 1000. Pointers live as long as `document`.
  std::vector<const codec::Json*> Find(const codec::Json& document) const;
  /// The first match, or null.
  const codec::Json* First(const codec::Json& document) const;
  const std::string& Text() const { return text_; }

  struct Step {
    enum class Kind { kField, kIndex, kSlice, kWildcard, kRecursive, kFilter };
    Kind kind = Kind::kField;
    std::string name;  ///< Field name; for a filter the left path with '.' removed, see `left`.
    int from = 0;
    int to = 0;
    bool has_to = false;
    std::vector<std::string> left;  ///< Filter: path below @.
    std::string op;                 ///< Filter: == != < <= > >= or empty for existence.
    codec::Json right;              ///< Filter: the literal.
  };

 private:
  std::string text_;
  std::vector<Step> steps_;
};

}  // namespace apiserver
