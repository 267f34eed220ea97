#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cmath>

#include "apiserver/cel/expression.hpp"

namespace apiserver {
namespace {

using F = CelFunction;

template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  T value{};
  if (text.size() > 1 && text[0] == '+') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

CelValue Malformed(std::string_view type, std::string_view text) {
  return CelValue::Fail(
      fmt::format("type conversion error from `{}` to {}", text.substr(0, 64), type));
}

CelValue ToInt(const CelValue& value) {
  if (value.As<int64_t>()) return value;
  if (const uint64_t* u = value.As<uint64_t>()) {
    return *u > INT64_MAX ? CelValue::Fail("integer overflow") : CelValue(static_cast<int64_t>(*u));
  }
  if (const double* d = value.As<double>()) {
    if (!(std::fabs(*d) < 9223372036854775808.0)) return CelValue::Fail("integer overflow");
    return static_cast<int64_t>(*d);
  }
  if (const auto text = value.AsText()) {
    const auto number = ParseNumber<int64_t>(*text);
    return number ? CelValue(*number) : Malformed("int", *text);
  }
  if (const CelTimestamp* time = value.As<CelTimestamp>()) return time->micros / 1'000'000;
  if (const CelDuration* duration = value.As<CelDuration>()) return duration->nanos;
  return CelValue::NoOverload("int");
}

CelValue ToUint(const CelValue& value) {
  if (value.As<uint64_t>()) return value;
  if (const int64_t* i = value.As<int64_t>()) {
    return *i < 0 ? CelValue::Fail("unsigned integer overflow")
                  : CelValue(static_cast<uint64_t>(*i));
  }
  if (const double* d = value.As<double>()) {
    if (!(*d >= 0 && *d < 18446744073709551616.0))
      return CelValue::Fail("unsigned integer overflow");
    return static_cast<uint64_t>(*d);
  }
  if (const auto text = value.AsText()) {
    const auto number = ParseNumber<uint64_t>(*text);
    return number ? CelValue(*number) : Malformed("uint", *text);
  }
  return CelValue::NoOverload("uint");
}

CelValue ToDouble(const CelValue& value) {
  if (value.As<double>()) return value;
  if (const int64_t* i = value.As<int64_t>()) return static_cast<double>(*i);
  if (const uint64_t* u = value.As<uint64_t>()) return static_cast<double>(*u);
  if (const auto text = value.AsText()) {
    const auto number = ParseNumber<double>(*text);
    return number ? CelValue(*number) : Malformed("double", *text);
  }
  return CelValue::NoOverload("double");
}

CelValue ToText(const CelValue& value) {
  if (value.AsText()) return value;
  if (const bool* b = value.As<bool>()) return CelValue::Text(*b ? "true" : "false");
  if (const int64_t* i = value.As<int64_t>()) return CelValue::Text(std::to_string(*i));
  if (const uint64_t* u = value.As<uint64_t>()) return CelValue::Text(std::to_string(*u));
  if (const double* d = value.As<double>()) return CelValue::Text(fmt::format("{}", *d));
  if (const CelTimestamp* time = value.As<CelTimestamp>())
    return CelValue::Text(FormatCelTimestamp(*time));
  if (const CelDuration* duration = value.As<CelDuration>())
    return CelValue::Text(FormatCelDuration(*duration));
  return CelValue::NoOverload("string");
}

CelValue ToBool(const CelValue& value) {
  if (value.As<bool>()) return value;
  const auto text = value.AsText();
  if (!text) return CelValue::NoOverload("bool");
  for (const std::string_view yes : {"1", "t", "true", "TRUE", "True", "T"}) {
    if (*text == yes) return true;
  }
  for (const std::string_view no : {"0", "f", "false", "FALSE", "False", "F"}) {
    if (*text == no) return false;
  }
  return Malformed("bool", *text);
}

CelValue ToDuration(const CelValue& value) {
  if (value.As<CelDuration>()) return value;
  const auto text = value.AsText();
  if (!text) return CelValue::NoOverload("duration");
  const auto duration = ParseCelDuration(*text);
  return duration ? CelValue(*duration) : Malformed("duration", *text);
}

CelValue ToTimestamp(const CelValue& value) {
  if (value.As<CelTimestamp>()) return value;
  if (const int64_t* seconds = value.As<int64_t>()) {
    if (*seconds < -62'135'596'800 || *seconds > 253'402'300'799)
      return CelValue::Fail("timestamp overflow");
    return CelTimestamp{*seconds * 1'000'000};
  }
  const auto text = value.AsText();
  if (!text) return CelValue::NoOverload("timestamp");
  const auto time = ParseCelTimestamp(*text);
  return time ? CelValue(*time) : Malformed("timestamp", *text);
}

CelValue OfDuration(F function, const CelDuration& duration, std::string_view name) {
  const int64_t nanos = duration.nanos;
  switch (function) {
    case F::kGetHours:
      return nanos / 3'600'000'000'000;
    case F::kGetMinutes:
      return nanos / 60'000'000'000;
    case F::kGetSeconds:
      return nanos / 1'000'000'000;
    case F::kGetMilliseconds:
      return nanos / 1'000'000;
    default:
      return CelValue::NoOverload(name);
  }
}

/// UTC only: a time zone argument is refused when the expression is compiled.
CelValue OfTimestamp(F function, const CelTimestamp& time) {
  namespace chrono = std::chrono;
  const chrono::sys_time<chrono::microseconds> point{chrono::microseconds(time.micros)};
  const auto day = chrono::floor<chrono::days>(point);
  const chrono::year_month_day date{day};
  const auto since = point - day;
  switch (function) {
    case F::kGetFullYear:
      return static_cast<int64_t>(static_cast<int>(date.year()));
    case F::kGetMonth:
      return static_cast<int64_t>(static_cast<unsigned>(date.month())) - 1;
    case F::kGetDate:
      return static_cast<int64_t>(static_cast<unsigned>(date.day()));
    case F::kGetDayOfMonth:
      return static_cast<int64_t>(static_cast<unsigned>(date.day())) - 1;
    case F::kGetDayOfWeek:
      return static_cast<int64_t>(chrono::weekday{day}.c_encoding());
    case F::kGetDayOfYear:
      return static_cast<int64_t>((day - chrono::sys_days{date.year() / 1 / 1}).count());
    case F::kGetHours:
      return static_cast<int64_t>(chrono::duration_cast<chrono::hours>(since).count());
    case F::kGetMinutes:
      return static_cast<int64_t>(chrono::duration_cast<chrono::minutes>(since).count() % 60);
    case F::kGetSeconds:
      return static_cast<int64_t>(chrono::duration_cast<chrono::seconds>(since).count() % 60);
    default:
      return static_cast<int64_t>(chrono::duration_cast<chrono::milliseconds>(since).count() %
                                  1000);
  }
}

}  // namespace

CelValue CallCelConversion(const CelExpression& call, std::vector<CelValue>& args) {
  const CelValue& value = args[0];
  switch (call.function) {
    case F::kToInt:
      return ToInt(value);
    case F::kToUint:
      return ToUint(value);
    case F::kToDouble:
      return ToDouble(value);
    case F::kToString:
      return ToText(value);
    case F::kToBool:
      return ToBool(value);
    case F::kToDyn:
      return value;
    case F::kTypeOf:
      return CelType{value.TypeName()};
    case F::kToDuration:
      return ToDuration(value);
    case F::kToTimestamp:
      return ToTimestamp(value);
    default:
      break;
  }
  if (const CelTimestamp* time = value.As<CelTimestamp>()) return OfTimestamp(call.function, *time);
  if (const CelDuration* duration = value.As<CelDuration>())
    return OfDuration(call.function, *duration, call.name);
  return CelValue::NoOverload(call.name);
}

}  // namespace apiserver
