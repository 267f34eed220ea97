#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "apiserver/cel/program.hpp"
#include "codec/json.hpp"

namespace apiserver {

class CelValue;

/// Text that is either a view into the document or owned by the value.
struct CelString {
  std::shared_ptr<const std::string> owner;
  std::string_view view;
};
struct CelDuration {
  int64_t nanos = 0;
  auto operator<=>(const CelDuration&) const = default;
};
struct CelTimestamp {
  int64_t micros = 0;  ///< Since 1970, UTC.
  auto operator<=>(const CelTimestamp&) const = default;
};
struct CelType {
  std::string_view name;
  bool operator==(const CelType&) const = default;
};
/// CEL's errors are values: && and || may absorb them.
struct CelError {
  std::shared_ptr<const std::string> message;
};
/// An array or object of the document, read in place.
struct CelDocument {
  const codec::Json* json = nullptr;
  const CelShape* shape = nullptr;
};
using CelList = std::shared_ptr<const std::vector<CelValue>>;
using CelMap = std::shared_ptr<const std::vector<std::pair<CelValue, CelValue>>>;
struct CelNull {};

/// Is T one of a variant's alternatives? Unlike is_constructible it asks nothing of T itself, which
/// may be a class that is just being defined.
template <typename T, typename Variant>
inline constexpr bool kIsOneOf = false;
template <typename T, typename... A>
inline constexpr bool kIsOneOf<T, std::variant<A...>> = (std::is_same_v<T, A> || ...);

class CelValue {
 public:
  using Data = std::variant<CelNull, bool, int64_t, uint64_t, double, CelString, CelDuration,
                            CelTimestamp, CelType, CelError, CelDocument, CelList, CelMap>;
  CelValue() = default;
  template <typename T>
  requires kIsOneOf<T, Data>
  // NOLINTNEXTLINE(google-explicit-constructor): implicit by design
  CelValue(T value) : data(std::in_place_type<T>, std::move(value)) {}

  static CelValue Text(std::string text);
  static CelValue View(std::string_view text) { return CelString{nullptr, text}; }
  static CelValue Fail(std::string message);
  static CelValue NoOverload(std::string_view function);
  static CelValue FromJson(const codec::Json& json, const CelShape* shape);
  static CelValue MakeList(std::vector<CelValue> items);

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&data);
  }
  bool IsError() const { return std::holds_alternative<CelError>(data); }
  bool IsTrue() const {
    const bool* b = As<bool>();
    return b && *b;
  }
  bool IsFalse() const {
    const bool* b = As<bool>();
    return b && !*b;
  }
  std::optional<std::string_view> AsText() const;
  bool IsNumber() const { return As<int64_t>() || As<uint64_t>() || As<double>(); }

  bool IsList() const;
  bool IsMap() const;
  /// Elements of a list or entries of a map; 0 for anything else.
  size_t Count() const;
  CelValue ListAt(size_t index) const;
  /// Key and value at a position of a map.
  CelValue MapKeyAt(size_t index) const;
  /// The value of a key, or nothing.
  std::optional<CelValue> MapFind(const CelValue& key) const;

  std::string_view TypeName() const;
  codec::Json ToJson() const;

  Data data;
};

/// CEL equality: values of different types are unequal, numbers compare across types. Adds what it
/// looked at to `steps`.
bool CelEquals(const CelValue& a, const CelValue& b, uint64_t& steps);
/// -1, 0, 1; nothing if the two cannot be ordered (other types, NaN).
std::optional<int> CelCompare(const CelValue& a, const CelValue& b);

/// "1h30m", "-1.5s", "300ms" as Go reads them; nothing if malformed.
std::optional<CelDuration> ParseCelDuration(std::string_view text);
/// RFC 3339.
std::optional<CelTimestamp> ParseCelTimestamp(std::string_view text);
std::string FormatCelDuration(CelDuration duration);
std::string FormatCelTimestamp(CelTimestamp time);

/// Number of code points.
size_t CodePoints(std::string_view text);

}  // namespace apiserver
