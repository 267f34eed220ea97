#include <doctest/doctest.h>

#include "codec/json.hpp"

namespace {

using codec::Json;

struct Bad {
  std::string name;
  std::string text;
  const char* says;
};

std::string Repeat(const std::string& piece, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += piece;
  return all;
}

/// Ten aliases to ten aliases to ...: 10^9 nodes when walked.
std::string Bomb() {
  std::string text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before +
            Repeat("," + before, 9) + "]\n";
  }
  return text;
}

TEST_CASE("ParseYaml refuses every attack of the library study") {
  const std::vector<Bad> table = {
      {"flow nesting of 100,000", Repeat("[", 100'000), "YAML is not valid"},
      {"map nesting of 100,000", Repeat("{a: ", 100'000), "YAML is not valid"},
      {"block nesting of 10,000", Repeat("- ", 10'000) + "x", "YAML is not valid"},
      {"65 levels", Repeat("[", 65) + Repeat("]", 65), "more than 64 levels"},
      {"an anchor bomb", Bomb(), "aliases are not supported"},
      {"an anchor to itself", "&a [*a]", "aliases are not supported"},
      {"an alias as a key", "a: &k b\n*k : c", "aliases are not supported"},
      {"duplicate keys", "a: 1\nb:\n  c: 1\n  c: 2\n",
       "line 4, column 3: the key \"c\" is there twice"},
      {"duplicate keys, one of them quoted", "1: a\n\"1\": b\n", "\"1\" is there twice"},
      {"an unclosed double quote at the end", "a: \"b\nc: d\n", "not closed"},
      {"an unclosed double quote with an escape", "a: \"b\\\"\n", "not closed"},
      {"an unclosed single quote at the end", "a: 'it''s\n", "not closed"},
      {"an unclosed quote after a tag", "a: !!str \"b\n", "not closed"},
      {"an unclosed quote after an anchor", "a: &b 'c\n", "not closed"},
      {"an unclosed key", "a: b\n\"c: d\n", "line 2"},
      {"an unclosed quote in a list", "- [a, \"b]\n", "YAML is not valid"},
      {"an unclosed quote without a line end", "a: \"b", "YAML is not valid"},
      {"a merge key", "a: {x: 1}\nb:\n  <<: {x: 2}\n", "merge keys"},
      {"a tab as indent", "a:\n\tb: 1\n", "line 2"},
      {"an undefined anchor", "a: *b\n", "YAML is not valid"},
      {"an open bracket", "a: [1, 2\n", "YAML is not valid"},
      {"a missing colon", "a: 1\nb\n", "line 2, column 1: the key \"b\" has no colon"},
      {"a missing colon behind a quoted key", "a: 1\n'b' # c:\nd: 1\n", "YAML is not valid"},
      {"a missing colon in the middle", "a:\n  b\nc: 1\nd\n", "the key \"d\" has no colon"},
      {"a map behind a list", "- 1\nx: 2\n", "more text after the document"},
      {"a list behind a map", "x: 2\n- 1\n", "YAML is not valid"},
      {"text behind a flow list", "[1] x\n", "more text after the document"},
      {"two flow maps", "{a: 1} {b: 2}\n", "more text after the document"},
      {"two quoted texts", "\"a\" \"b\"\n", "more text after the document"},
      {"a NUL byte", std::string("a: \0b", 5), "NUL byte at byte 3"},
      {"invalid UTF-8", "a: \xff", "not UTF-8 at byte 3"},
      {"UTF-16",
       std::string("\xff\xfe"
                   "a\0:\0",
                   6),
       "YAML is not valid"},
      {"an integer over 64 bits", "a: 9223372036854775808", "quote it"},
      {"an octal of another age", "a: 017", "ambiguous"},
      {"a float over the range", "a: 1e309", "out of range"},
      {"infinity", "a: .inf", "not a JSON number"},
      {"not a number", "a: .NaN", "not a JSON number"},
      {"a binary", "a: !!binary aGVsbG8=", "not supported"},
      {"a foreign tag", "a: !!python/object:os.system ls", "not supported"},
      {"a local tag", "a: !mine b", "not supported"},
      {"a tag on a map", "!!set {a, b}", "not supported"},
      {"a tag that does not fit", "a: !!int b", "does not fit"},
      {"a list as a key", "? [a]\n: b\n", "a key must be a scalar"},
      {"a null key", "~: b\n", "a key must not be null"},
      {"501 documents", Repeat("---\na: 1\n", 501), "more than 500 documents"},
      {"20,001 nodes", "[" + Repeat("1,", 20'001) + "1]", "more than 20000 nodes"},
      {"over 1 MiB", "a: " + std::string(1 << 20, 'b'), "over the limit of 1048576"},
  };
  for (const Bad& row : table) {
    CAPTURE(row.name);
    const auto parsed = codec::ParseYaml(row.text);
    REQUIRE(!parsed);
    CHECK(parsed.error().code == base::Code::kInvalid);
    CAPTURE(parsed.error().message);
    CHECK(parsed.error().message.find(row.says) != std::string::npos);
  }
}

TEST_CASE("ParseYaml reads scalars by the core schema of YAML 1.2") {
  const std::vector<std::pair<const char*, Json>> table = {
      {"yes", "yes"},
      {"no", "no"},
      {"on", "on"},
      {"off", "off"},
      {"y", "y"},
      {"n", "n"},
      {"true", true},
      {"True", true},
      {"FALSE", false},
      {"tRue", "tRue"},
      {"null", nullptr},
      {"~", nullptr},
      {"", nullptr},
      {"0", 0},
      {"-12", -12},
      {"+12", 12},
      {"0x1F", 31},
      {"0o17", 15},
      {"1_000", "1_000"},
      {"12:30:45", "12:30:45"},
      {"1.5", 1.5},
      {"-.5", -0.5},
      {"1.", 1.0},
      {"1e3", 1000.0},
      {"1.2.3", "1.2.3"},
      {"v1", "v1"},
      {"2026-11-21", "2026-11-21"},
      {"\"1\"", "1"},
      {"'true'", "true"},
      {"\"\"", ""},
      {"!!str 12", "12"},
      {"!!int 12", 12},
      {"!!float 12", 12.0},
      {"! 12", "12"},
      {"e", "e"},
      {".", "."},
      {"-", Json::array({nullptr})},
      {"0x", "0x"},
      {"|\n  a\n  b\n", "a\nb\n"},
      {">-\n  a\n  b\n", "a b"},
      {"9223372036854775807", INT64_MAX},
      {"\"it \\\"is\\\"\"", "it \"is\""},
      {"'it''s'", "it's"},
  };
  for (const auto& [text, wanted] : table) {
    CAPTURE(text);
    const auto parsed =
        codec::ParseYaml(std::string("a: ") + (text[0] == '-' && text[1] == '\0' ? "\n- " : text));
    if (!parsed) MESSAGE(parsed.error().message);
    REQUIRE(parsed);
    REQUIRE(parsed->size() == 1);
    CHECK((*parsed)[0]["a"] == wanted);
    CHECK((*parsed)[0]["a"].type_name() == std::string(wanted.type_name()));
  }
}

TEST_CASE("ParseYaml gives one entry a document and texts for plain keys") {
  const auto parsed = codec::ParseYaml(
      "\xEF\xBB\xBF# first\na: {b: [1, 'x'], c: &unused 3}\n---\n- on: true\n  1: one\n...\n---\n");
  REQUIRE(parsed);
  REQUIRE(parsed->size() == 3);
  CHECK((*parsed)[0] == Json{{"a", {{"b", {1, "x"}}, {"c", 3}}}});
  CHECK((*parsed)[1] == Json::array({{{"on", true}, {"1", "one"}}}));
  CHECK((*parsed)[2].is_null());
  const auto keys =
      codec::ParseYaml("a : 1\n? b\n'c d': {e, f: }\n? g\n: 2\n\"h\" :\n&x i: 3\nj\\k: 4\n");
  if (!keys) FAIL(keys.error().message);
  CHECK(keys->at(0) == Json{{"a", 1},
                            {"b", nullptr},
                            {"c d", {{"e", nullptr}, {"f", nullptr}}},
                            {"g", 2},
                            {"h", nullptr},
                            {"i", 3},
                            {"j\\k", 4}});
  CHECK(codec::ParseYaml("%YAML 1.2\n---\na: 1\n...\n# c\nb: 2\n")->size() == 2);
  CHECK(codec::ParseYaml("")->empty());
  CHECK(codec::ParseYaml("# only a comment\n")->empty());
  CHECK(codec::ParseYaml("a: 'b'\r\nc: \"d\"\r\n"));
}

}  // namespace
