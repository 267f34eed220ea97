#pragma once

#include <cassert>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace base {

/// What went wrong, as far as a caller's behaviour may depend on it.
enum class Code {
  kInvalid,        ///< The input can never work as it stands. Not retried until it changes.
  kNotFound,       ///< The named thing is not there. Often normal (deleted meanwhile).
  kAlreadyExists,  ///< A create found the name taken. Read it and adopt it only if it is ours.
  kConflict,       ///< Optimistic lock lost. Read again and decide again.
  kGone,           ///< The version asked for is compacted (HTTP 410). List again.
  kForbidden,      ///< The caller is known and may not. Retried slowly; shown.
  kUnauthorized,   ///< The caller is not known. Credentials are read again, then retried slowly.
  kUnavailable,    ///< The other side is not there or refuses for now. Retried with back-off.
  kTimeout,        ///< No answer in time; the effect is unknown. Observe before acting again.
  kCancelled,      ///< We stopped it ourselves. Not an error to show.
  kInternal,       ///< A bug or an unexpected answer. Retried with back-off; logged.
};

/// The wire-independent word for a code, e.g. "not_found".
constexpr const char* CodeName(Code code) {
  switch (code) {
    case Code::kInvalid:
      return "invalid";
    case Code::kNotFound:
      return "not_found";
    case Code::kAlreadyExists:
      return "already_exists";
    case Code::kConflict:
      return "conflict";
    case Code::kGone:
      return "gone";
    case Code::kForbidden:
      return "forbidden";
    case Code::kUnauthorized:
      return "unauthorized";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kTimeout:
      return "timeout";
    case Code::kCancelled:
      return "cancelled";
    case Code::kInternal:
      return "internal";
  }
  return "internal";
}

/// An error value. `message` says what was attempted on which object and never holds a secret;
/// `reason` is a stable CamelCase word fit for a condition (may be empty); code decides behaviour.
struct Error {
  Code code = Code::kInternal;
  std::string message;
  std::string reason = {};
  std::optional<std::chrono::milliseconds> retry_after = {};
};

/// A value or an Error, with the member names of std::expected (C++23).
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  // NOLINTBEGIN(google-explicit-constructor): implicit by design
  Result(T value) : data_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : data_(std::in_place_index<1>, std::move(error)) {}
  // NOLINTEND(google-explicit-constructor)
  bool has_value() const { return data_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  T& value() & {
    assert(has_value());
    return std::get<0>(data_);
  }
  const T& value() const& {
    assert(has_value());
    return std::get<0>(data_);
  }
  T&& value() && {
    assert(has_value());
    return std::get<0>(std::move(data_));
  }
  const Error& error() const& {
    assert(!has_value());
    return std::get<1>(data_);
  }
  Error&& error() && {
    assert(!has_value());
    return std::get<1>(std::move(data_));
  }
  T value_or(T other) const& { return has_value() ? std::get<0>(data_) : std::move(other); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<T, Error> data_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design
  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  const Error& error() const& {
    assert(error_);
    return *error_;
  }
  Error&& error() && {
    assert(error_);
    return *std::move(error_);
  }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

/// Short-hands: `return base::Invalid("spec.box.path `{}` must be absolute", path)` is written with
/// fmt by the caller.
inline Error MakeError(Code code, std::string message, std::string reason = {}) {
  return Error{code, std::move(message), std::move(reason), std::nullopt};
}

}  // namespace base
