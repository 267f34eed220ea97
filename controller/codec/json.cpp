#include "codec/json.hpp"

#include <fmt/format.h>

#include <iterator>
#include <limits>
#include <utility>

namespace codec {
namespace {

/// Reads the text for nlohmann and leaves the place of the reader where the handler can see it.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** seen) : at_(at), seen_(seen) {}
  const char& operator*() const { return *at_; }
  CountingIterator& operator++() {
    *seen_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }

 private:
  const char* at_;
  const char** seen_;
};

/// Builds the document and refuses what Json alone would let pass: depth, duplicate keys, integers
/// that would lose digits.
class StrictBuilder final : public nlohmann::json_sax<Json> {
 public:
  explicit StrictBuilder(const ParseLimits& limits) : limits_(limits) {}

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return Fail("an integer does not fit 64 bits");
    return Add(static_cast<int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    if (text.find_first_of(".eE") == string_t::npos) return Fail("an integer does not fit 64 bits");
    return Add(value);
  }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return Fail("binary values are not JSON"); }
  bool start_object(std::size_t) override { return Open(Json::object()); }
  bool start_array(std::size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(string_t& name) override {
    Json& object = *open_.back();
    if (limits_.reject_duplicate_keys && object.contains(name))
      return Fail(fmt::format("the key \"{}\" is there twice", name.substr(0, 100)));
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& error) override {
    return Fail(Readable(error.what()));
  }

  Json TakeRoot() { return std::move(root_); }
  const std::string& Problem() const { return problem_; }

 private:
  bool Fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }

  /// Without the library's own numbering: "[json.exception.parse_error.101] parse error at ...: ".
  static std::string Readable(std::string text) {
    const size_t start = text.find("] ");
    if (start != std::string::npos) text.erase(0, start + 2);
    const size_t colon = text.find(": ");
    if (text.starts_with("parse error at") && colon != std::string::npos) text.erase(0, colon + 2);
    return text.substr(0, 300);
  }

  Json* Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_object()) return &(parent[std::move(key_)] = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }
  bool Add(Json value) {
    Place(std::move(value));
    return true;
  }
  bool Open(Json value) {
    if (static_cast<int>(open_.size()) >= limits_.depth)
      return Fail(fmt::format("more than {} levels deep", limits_.depth));
    open_.push_back(Place(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  const ParseLimits& limits_;
  Json root_;
  std::vector<Json*> open_;  ///< Stable: a parent does not grow while its last child is open.
  std::string key_;
  std::string problem_;
};

const Json& NullJson() {
  static const Json null;
  return null;
}

}  // namespace

base::Result<Json> ParseJson(std::string_view text, const ParseLimits& limits) {
  if (text.size() > limits.bytes)
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format("JSON of {} bytes is over the limit of {}", text.size(), limits.bytes));
  if (text.starts_with("\xEF\xBB\xBF"))
    return base::MakeError(base::Code::kInvalid,
                           "JSON must not begin with a byte order mark (byte 0)");
  // The library takes a NUL for the end of the text.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("JSON is not valid at byte {}: a NUL byte", nul));
  const char* seen = text.data();
  StrictBuilder builder(limits);
  std::string problem;
  try {
    const CountingIterator first(text.data(), &seen);
    const CountingIterator last(text.data() + text.size(), &seen);
    if (Json::sax_parse(first, last, &builder)) return builder.TakeRoot();
    problem = builder.Problem();
  } catch (const std::exception& error) {
    problem = error.what();
  }
  return base::MakeError(base::Code::kInvalid, fmt::format("JSON is not valid at byte {}: {}",
                                                           seen - text.data(), problem));
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const Json& GetMember(const Json& object, std::string_view key) {
  if (!object.is_object()) return NullJson();
  const auto found = object.find(key);
  return found == object.end() ? NullJson() : *found;
}

std::string GetString(const Json& object, std::string_view key, std::string_view fallback) {
  const Json& member = GetMember(object, key);
  return member.is_string() ? member.get_ref<const std::string&>() : std::string(fallback);
}

int64_t GetInt(const Json& object, std::string_view key, int64_t fallback) {
  const Json& member = GetMember(object, key);
  if (member.is_number_unsigned() && member.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    return fallback;
  return member.is_number_integer() ? member.get<int64_t>() : fallback;
}

bool GetBool(const Json& object, std::string_view key, bool fallback) {
  const Json& member = GetMember(object, key);
  return member.is_boolean() ? member.get<bool>() : fallback;
}

}  // namespace codec
