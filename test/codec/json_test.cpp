#include "codec/json.hpp"

#include <doctest/doctest.h>

#include "base/utf8.hpp"

namespace {

using codec::Json;

std::string Nested(int depth, char open, char close) {
  return std::string(depth, open) + std::string(depth, close);
}

struct Bad {
  std::string name;
  std::string text;
  const char* says;
};

TEST_CASE("ParseJson refuses what is not strict JSON and says where") {
  const std::vector<Bad> table = {
      {"nothing", "", "byte 0"},
      {"only spaces", "   ", "byte"},
      {"NaN", R"({"a": NaN})", "byte 7"},
      {"Infinity", "[Infinity]", "byte"},
      {"a float over the range", R"({"a": 1e309})", "overflow"},
      {"an integer over 64 bits", "[18446744073709551616]", "64 bits"},
      {"an integer over int64", "[9223372036854775808]", "64 bits"},
      {"an integer below int64", "[-9223372036854775809]", "64 bits"},
      {"a leading zero", "[017]", "byte"},
      {"a leading plus", "[+1]", "byte"},
      {"hexadecimal", "[0x1F]", "byte"},
      {"a bare point", "[.5]", "byte"},
      {"duplicate keys", R"({"a":1,"b":{"c":1,"c":2}})", "\"c\" is there twice"},
      {"duplicate keys by escape", R"({"a":1,"\u0061":2})", "\"a\" is there twice"},
      {"invalid UTF-8", "[\"\xff\"]", "UTF-8"},
      {"overlong UTF-8", "[\"\xc0\xaf\"]", "UTF-8"},
      {"a surrogate in UTF-8", "[\"\xed\xa0\x80\"]", "UTF-8"},
      {"a lone surrogate", R"(["\ud800"])", "byte"},
      {"a control character in a text", "[\"a\nb\"]", "byte"},
      {"a comment", "[1] // one", "byte"},
      {"trailing bytes", "{} {}", "byte 4"},
      {"a trailing comma", "[1,]", "byte"},
      {"single quotes", "['a']", "byte"},
      {"an open object", R"({"a":1)", "byte"},
      {"a byte order mark", "\xEF\xBB\xBF{}", "byte order mark"},
      {"a NUL byte", std::string("{}\0", 3), "byte"},
      {"65 levels of arrays", Nested(65, '[', ']'), "more than 64 levels"},
      {"a million levels", std::string(1'000'000, '['), "more than 64 levels"},
      {"over 3 MiB", "\"" + std::string(3 << 20, 'a') + "\"", "over the limit of 3145728"},
  };
  for (const Bad& row : table) {
    CAPTURE(row.name);
    const auto parsed = codec::ParseJson(row.text);
    REQUIRE(!parsed);
    CHECK(parsed.error().code == base::Code::kInvalid);
    CAPTURE(parsed.error().message);
    CHECK(parsed.error().message.find(row.says) != std::string::npos);
    CHECK(parsed.error().message.size() < 500);
  }
}

TEST_CASE("ParseJson keeps values as they were written") {
  const auto parsed = codec::ParseJson(
      R"( {"int":9223372036854775807,"neg":-9223372036854775808,"f":1.5,"e":1e3,"t":true,"n":null,"s":"a\u00e9\ud83d\ude00","l":[1,[],{}]} )");
  REQUIRE(parsed);
  CHECK((*parsed)["int"].get<int64_t>() == INT64_MAX);
  CHECK((*parsed)["neg"].get<int64_t>() == INT64_MIN);
  CHECK((*parsed)["f"].get<double>() == 1.5);
  CHECK((*parsed)["e"].is_number_float());
  CHECK((*parsed)["n"].is_null());
  CHECK((*parsed)["s"] == "a\xc3\xa9\xf0\x9f\x98\x80");
  CHECK((*parsed)["l"].dump() == "[1,[],{}]");
  CHECK(codec::ParseJson(Nested(64, '[', ']')));
  CHECK(codec::ParseJson("7"));
}

TEST_CASE("ParseJson takes the last of two keys only where that was asked for") {
  const auto parsed = codec::ParseJson(R"({"a":1,"a":2})", {.reject_duplicate_keys = false});
  REQUIRE(parsed);
  CHECK((*parsed)["a"] == 2);
}

TEST_CASE("Dump and ParseJson are inverse, and Dump never throws") {
  const Json json = {{"a", {1, 2.5, "x\n\"\\"}}, {"b", nullptr}};
  CHECK(*codec::ParseJson(codec::Dump(json)) == json);
  const std::string bad =
      codec::Dump(Json("a\xff"
                       "b"));
  CHECK(codec::ParseJson(bad));
  CHECK(!base::FindInvalidUtf8(bad));
}

TEST_CASE("readers give the fallback for absent and wrongly typed members") {
  const Json json = {{"s", "x"}, {"i", 7}, {"b", true}, {"f", 1.5}, {"u", UINT64_MAX}};
  CHECK(codec::GetString(json, "s") == "x");
  CHECK(codec::GetString(json, "i", "no") == "no");
  CHECK(codec::GetInt(json, "i") == 7);
  CHECK(codec::GetInt(json, "f", 3) == 3);
  CHECK(codec::GetInt(json, "u", 3) == 3);
  CHECK(codec::GetInt(json, "s", 3) == 3);
  CHECK(codec::GetBool(json, "b"));
  CHECK(codec::GetBool(json, "i", true));
  CHECK(codec::GetMember(json, "none").is_null());
  CHECK(codec::GetMember(Json(7), "s").is_null());
  CHECK(codec::GetString(Json::array(), "s", "no") == "no");
}

}  // namespace
