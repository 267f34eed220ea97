#include <fmt/format.h>

#include <cmath>
#include <set>

#include "apiserver/cel/value.hpp"
#include "apiserver/schema/formats.hpp"
#include "apiserver/schema/value_validation.hpp"

namespace apiserver {
namespace {

using codec::Json;

void Invalid(const FieldPath& path, const Json& value, std::string why, FieldErrors& errors) {
  const std::string field = path.Text();
  std::string detail = fmt::format("{} in body {}", field, why);
  errors.push_back({FieldErrorType::kInvalid, field, value, std::move(detail)});
}

void CheckEnum(const ValueChecks& checks, const Json& json, const FieldPath& path,
               FieldErrors& errors) {
  for (const Json& allowed : checks.enumeration) {
    if (allowed == json) return;
  }
  std::vector<std::string> texts;
  for (const Json& allowed : checks.enumeration) texts.push_back(codec::Dump(allowed));
  errors.push_back({FieldErrorType::kNotSupported, path.Text(), json,
                    fmt::format("supported values: {}", fmt::join(texts, ", "))});
}

void CheckText(const ValueChecks& checks, const Json& json, const FieldPath& path,
               FieldErrors& errors) {
  const std::string& text = json.get_ref<const std::string&>();
  const bool counts = checks.min_length || checks.max_length;
  const int64_t length = counts ? static_cast<int64_t>(CodePoints(text)) : 0;
  if (checks.max_length && length > *checks.max_length) {
    errors.push_back({FieldErrorType::kTooLong,
                      path.Text(),
                      {},
                      fmt::format("may not be more than {} bytes", *checks.max_length)});
  }
  if (checks.min_length && length < *checks.min_length) {
    Invalid(path, json, fmt::format("should be at least {} chars long", *checks.min_length),
            errors);
  }
  if (checks.pattern && !checks.pattern->Search(text)) {
    Invalid(path, json, fmt::format("should match '{}'", checks.pattern_text), errors);
  }
}

void CheckNumber(const ValueChecks& checks, const Json& json, const FieldPath& path,
                 FieldErrors& errors) {
  const double value = json.get<double>();
  if (checks.maximum &&
      (checks.exclusive_maximum ? value >= *checks.maximum : value > *checks.maximum)) {
    Invalid(path, json,
            fmt::format("should be less than {}{}", checks.exclusive_maximum ? "" : "or equal to ",
                        *checks.maximum),
            errors);
  }
  if (checks.minimum &&
      (checks.exclusive_minimum ? value <= *checks.minimum : value < *checks.minimum)) {
    Invalid(path, json,
            fmt::format("should be greater than {}{}",
                        checks.exclusive_minimum ? "" : "or equal to ", *checks.minimum),
            errors);
  }
  if (checks.multiple_of && *checks.multiple_of > 0 &&
      std::fabs(std::remainder(value, *checks.multiple_of)) > 1e-9) {
    Invalid(path, json, fmt::format("should be a multiple of {}", *checks.multiple_of), errors);
  }
}

void CheckCounts(const ValueChecks& checks, const Json& json, const FieldPath& path,
                 FieldErrors& errors) {
  const bool list = json.is_array();
  const int64_t size = static_cast<int64_t>(json.size());
  const auto& most = list ? checks.max_items : checks.max_properties;
  const auto& least = list ? checks.min_items : checks.min_properties;
  if (most && size > *most) {
    errors.push_back({FieldErrorType::kTooMany, path.Text(), size,
                      fmt::format("must have at most {} items", *most)});
  }
  if (least && size < *least) {
    Invalid(path, size,
            fmt::format("should have at least {} {}", *least, list ? "items" : "properties"),
            errors);
  }
  if (list && checks.unique_items) {
    std::set<Json> seen;
    for (const Json& item : json) {
      if (seen.insert(item).second) continue;
      return Invalid(path, nullptr, "shouldn't contain duplicates", errors);
    }
  }
}

bool Fits(const SchemaNode& schema, const Json& json, const FieldPath& path) {
  FieldErrors errors;
  ValidateValue(schema, json, nullptr, path, errors);
  return errors.empty();
}

void CheckBranches(const ValueChecks& checks, const Json& json, const FieldPath& path,
                   FieldErrors& errors) {
  const auto fail = [&](std::string why) {
    const std::string field = path.Text();
    errors.push_back({FieldErrorType::kInvalid, field.empty() ? "<nil>" : field,
                      json.is_structured() ? Json("") : json,
                      fmt::format("\"{}\" {}", field, why)});
  };
  for (const auto& branch : checks.all_of) ValidateValue(*branch, json, nullptr, path, errors);
  const auto count = [&](const std::vector<std::unique_ptr<SchemaNode>>& branches) {
    return std::count_if(branches.begin(), branches.end(),
                         [&](const auto& branch) { return Fits(*branch, json, path); });
  };
  if (!checks.any_of.empty() && count(checks.any_of) == 0)
    fail("must validate at least one schema (anyOf)");
  if (!checks.one_of.empty()) {
    const auto found = count(checks.one_of);
    if (found != 1) {
      fail(fmt::format("must validate one and only one schema (oneOf). Found {}",
                       found == 0 ? "none valid" : fmt::format("{} valid alternatives", found)));
    }
  }
  if (checks.negated && Fits(*checks.negated, json, path))
    fail("must not validate the schema (not)");
}

void CheckFormat(const SchemaNode& schema, const Json& json, const FieldPath& path,
                 FieldErrors& errors) {
  bool fits = true;
  if (json.is_string()) {
    fits = FitsFormat(schema.format, json.get_ref<const std::string&>());
  } else if (json.is_number_integer() && schema.format == "int32") {
    const int64_t value = json.is_number_unsigned() && json.get<uint64_t>() > INT64_MAX
                              ? INT64_MAX
                              : json.get<int64_t>();
    fits = value >= INT32_MIN && value <= INT32_MAX;
  } else if (json.is_number_unsigned() && schema.format == "int64") {
    fits = json.get<uint64_t>() <= INT64_MAX;
  }
  if (fits) return;
  const std::string field = path.Text();
  if (schema.format == "byte") {  // May be a Secret's: its text is never shown.
    errors.push_back({FieldErrorType::kTypeInvalid, field, "",
                      fmt::format("{} in body must be of type byte", field)});
    return;
  }
  const std::string text = json.is_string() ? json.get<std::string>() : codec::Dump(json);
  std::string detail = fmt::format("{} in body must be of type {}: \"{}\"", field, schema.format,
                                   text.substr(0, 256));
  errors.push_back({FieldErrorType::kTypeInvalid, field, json, std::move(detail)});
}

}  // namespace

void CheckValue(const SchemaNode& schema, const Json& json, const FieldPath& path,
                FieldErrors& errors) {
  if (!schema.format.empty()) CheckFormat(schema, json, path, errors);
  if (!schema.checks) return;
  const ValueChecks& checks = *schema.checks;
  if (!checks.enumeration.empty()) CheckEnum(checks, json, path, errors);
  if (json.is_string()) CheckText(checks, json, path, errors);
  if (json.is_number()) CheckNumber(checks, json, path, errors);
  if (json.is_structured()) CheckCounts(checks, json, path, errors);
  CheckBranches(checks, json, path, errors);
}

}  // namespace apiserver
