#include <doctest/doctest.h>

#include "apiserver/cel/program.hpp"
#include "apiserver/cel/regex.hpp"

using apiserver::CelProgram;
using apiserver::Regex;
using codec::Json;

namespace {

/// The result as JSON text, or "compile: ..." / "error: ...".
std::string Run(const std::string& text, const Json& self = Json::object(),
                const Json* old_self = nullptr) {
  const auto program = CelProgram::Compile(text);
  if (!program) return "compile: " + program.error().message;
  const auto value = program->Evaluate({&self, old_self});
  return value ? value->dump() : "error: " + value.error().message;
}

struct Row {
  const char* text;
  const char* result;
};

}  // namespace

TEST_CASE("expressions give what CEL says they give") {
  const Json self =
      Json::parse(R"({"a":1,"s":"Hello","list":[1,2,3],"items":[{"n":"x","v":1},{"n":"y","v":2}],
    "map":{"k":"v"},"real":1.5,"yes":true,"none":null,"dash-name":7,"umlaut":"äöü"})");
  constexpr Row kRows[] = {
      {"1 + 2 * 3", "7"},
      {"(1 + 2) * 3", "9"},
      {"7 / 2", "3"},
      {"-7 / 2", "-3"},
      {"7 % 3", "1"},
      {"2 - 3 - 4", "-5"},
      {"1.5 + 2.0", "3.5"},
      {"1u + 2u", "3"},
      {"'a' + 'b'", "\"ab\""},
      {"[1] + [2]", "[1,2]"},
      {"0x10", "16"},
      {"-9223372036854775808", "-9223372036854775808"},
      {"1 == 1.0", "true"},
      {"1 < 1.5", "true"},
      {"'a' < 'b'", "true"},
      {"1 == 'a'", "false"},
      {"self.none == null", "true"},
      {"self.a == 1 && self.s == 'Hello'", "true"},
      {"!self.yes || self.a > 0", "true"},
      {"self.a > 0 ? 'p' : 'n'", "\"p\""},
      {"has(self.a)", "true"},
      {"has(self.zzz)", "false"},
      {"!has(self.zzz) || self.zzz == 1", "true"},
      {"self['dash-name']", "7"},
      {"2 in self.list", "true"},
      {"9 in self.list", "false"},
      {"'k' in self.map", "true"},
      {"self.list[1]", "2"},
      {"size(self.list)", "3"},
      {"self.umlaut.size()", "3"},
      {"self.s.startsWith('He') && self.s.endsWith('lo') && self.s.contains('ell')", "true"},
      {"self.s.matches('^H.*o$')", "true"},
      {"self.s.lowerAscii()", "\"hello\""},
      {"'a,b,c'.split(',')", R"(["a","b","c"])"},
      {"'a,b,c'.split(',', 2)", R"(["a","b,c"])"},
      {"['a','b'].join('-')", "\"a-b\""},
      {"' x '.trim()", "\"x\""},
      {"'aXbX'.replace('X','.')", "\"a.b.\""},
      {"'aXbX'.replace('X','.',1)", "\"a.bX\""},
      {"'hello'.substring(1,3)", "\"el\""},
      {"'hello'.indexOf('l')", "2"},
      {"'hello'.lastIndexOf('l')", "3"},
      {"'äb'.charAt(1)", "\"b\""},
      {"self.list.all(x, x > 0)", "true"},
      {"self.list.exists(x, x == 2)", "true"},
      {"self.items.exists_one(i, i.n == 'x')", "true"},
      {"self.list.map(x, x * 2)", "[2,4,6]"},
      {"self.list.filter(x, x > 1)", "[2,3]"},
      {"self.list.map(x, x > 1, x * 10)", "[20,30]"},
      {"self.items.all(i, self.items.exists_one(j, j.n == i.n))", "true"},
      {"self.map.all(k, self.map[k] == 'v')", "true"},
      {"int('42') + 1", "43"},
      {"string(42)", "\"42\""},
      {"double('1.5')", "1.5"},
      {"uint(3)", "3"},
      {"bool('true')", "true"},
      {"duration('1h30m') == duration('90m')", "true"},
      {"duration('1h').getMinutes()", "60"},
      {"timestamp('2026-01-02T03:04:05Z').getFullYear()", "2026"},
      {"timestamp('2026-01-01T00:00:00Z') + duration('1h') > timestamp('2026-01-01T00:30:00Z')",
       "true"},
      {"type(1) == int", "true"},
      {"{'a': 1}.a", "1"},
      {"[3,1,2].max()", "3"},
      {"[1,2].sum()", "3"},
      {"r'\\d'", R"("\\d")"},
      {"\"\\u00e4\"", "\"ä\""},
      {"true // comment\n && true", "true"},
  };
  for (const Row& row : kRows) {
    INFO(row.text);
    CHECK(Run(row.text, self) == row.result);
  }
}

TEST_CASE("a decisive operand absorbs errors on either side, an undecided one passes them on") {
  CHECK(Run("self.zzz == 1 || true") == "true");
  CHECK(Run("true || self.zzz == 1") == "true");
  CHECK(Run("self.zzz == 1 && false") == "false");
  CHECK(Run("self.zzz == 1 || false") == "error: no such key: zzz");
  CHECK(Run("[1, 2].exists(x, self.zzz == 1 || x == 2)") == "true");
  CHECK(Run("[1].all(x, self.zzz == x)") == "error: no such key: zzz");
  CHECK(Run("false ? self.zzz : 1") == "1");
}

TEST_CASE("faults at run time are errors in CEL's words") {
  constexpr Row kRows[] = {{"1 / 0", "error: division by zero"},
                           {"9223372036854775807 + 1", "error: integer overflow"},
                           {"[1][5]", "error: index out of bounds: 5"},
                           {"1 + 'a'", "error: no such overload: _+_"},
                           {"int('x')", "error: type conversion error from `x` to int"},
                           {"self.size() > 'a'", "error: no such overload: _>_"},
                           {"'abc'.substring(9)", "error: index out of range: 9"},
                           {"1 && true", "error: no such overload: &&"}};
  for (const Row& row : kRows) {
    INFO(row.text);
    CHECK(Run(row.text) == row.result);
  }
}

TEST_CASE("what is not understood is refused when compiled, never at run time") {
  for (const char* text : {"foo(1)",
                           "self.frob()",
                           "selff.a",
                           "self.a ==",
                           "1 +",
                           "has(1)",
                           "[1,2].all(x)",
                           "'unterminated",
                           "self.?a",
                           "b'x'",
                           "self.x.matches('(')",
                           "size()",
                           "a.b.c",
                           "quantity('1')",
                           "isURL('x')",
                           "self.in",
                           "1 1",
                           "\"\\q\"",
                           "1e",
                           ""}) {
    INFO(text);
    CHECK(Run(text).starts_with("compile: "));
  }
}

TEST_CASE("hostile expressions end by a bound, not by a crash or a hang") {
  CHECK(Run(std::string(5000, '(') + "1" + std::string(5000, ')')).starts_with("compile: "));
  CHECK(Run(std::string(8000, '!') + "true").starts_with("compile: "));
  CHECK(Run(std::string(9000, '[')).starts_with("compile: "));
  Json list = Json::array();
  for (int i = 0; i < 300; ++i) list.push_back(i);
  CHECK(Run("self.all(a, self.all(b, self.all(c, a + b + c >= 0)))", list) ==
        "error: operation cancelled: actual cost limit exceeded");
  // The bound is not an error that || could absorb.
  CHECK(Run("self.all(a, self.all(b, self.all(c, a + b + c >= 0))) || true", list) ==
        "error: operation cancelled: actual cost limit exceeded");
}

TEST_CASE("a transition rule knows that it is one") {
  const Json self = {{"kind", "Agent"}};
  const Json old_self = {{"kind", "Platform"}};
  const char* rule =
      "(has(self.kind) ? self.kind : 'Agent') == (has(oldSelf.kind) ? oldSelf.kind : 'Agent')";
  CHECK(CelProgram::Compile(rule)->UsesOldSelf());
  CHECK_FALSE(CelProgram::Compile("self.kind == 'Agent'")->UsesOldSelf());
  CHECK(Run(rule, self, &old_self) == "false");
  CHECK(Run(rule, self, &self) == "true");
}

TEST_CASE("regular expressions match as RE2 does") {
  struct Match {
    const char* pattern;
    const char* text;
    bool found;
  };
  constexpr Match kRows[] = {{"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-b", true},
                             {"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-", false},
                             {"b", "abc", true},
                             {"^b", "abc", false},
                             {"a{2,3}$", "aa", true},
                             {"^a{2,3}$", "aaaa", false},
                             {"^(a|bc)+$", "abcbca", true},
                             {"^\\d+$", "12a", false},
                             {"^[^/]+$", "a/b", false},
                             {"(?i)^abc$", "ABC", true},
                             {"^.$", "ä", true},
                             {"\\bfoo\\b", "a foo b", true},
                             {"\\bfoo\\b", "afoo", false},
                             {"^[[:alpha:]]+$", "abC", true},
                             {"^$", "", true},
                             {"a|^$", "", true},
                             {"^(ssh-ed25519|ssh-rsa) [A-Za-z0-9+/]+=?=?$", "ssh-rsa AAA=", true},
                             {"(^|/)[.][.]?(/|$)", "/a/../b", true},
                             {"(^|/)[.][.]?(/|$)", "/a/..b", false},
                             {"^[!-~]+$", "x y", false},
                             {"x*", "", true},
                             {"^a\\.b$", "a.b", true},
                             {"^a\\x2eb$", "a.b", true},
                             {"^(?:a)(?P<n>b)$", "ab", true},
                             {"^a{,2}$", "a{,2}", true}};
  for (const Match& row : kRows) {
    INFO(row.pattern << " on " << row.text);
    const auto regex = Regex::Compile(row.pattern);
    REQUIRE(regex);
    CHECK(regex->Search(row.text) == row.found);
  }
  for (const char* bad : {"(", ")", "[a", "a**", "*a", "(?=a)", "\\p{L}", "a{1001}", "[z-a]", "\\",
                          "(a{999}){999}"}) {
    INFO(bad);
    CHECK_FALSE(Regex::Compile(bad));
  }
}

TEST_CASE("no pattern is slow: the classic killers take linear time") {
  const std::string text(20'000, 'a');
  CHECK_FALSE(Regex::Compile("^(a+)+$")->Search(text + "b"));
  CHECK_FALSE(Regex::Compile("^(a|aa)+$")->Search(text + "b"));
  CHECK_FALSE(Regex::Compile("^(a?){50}b$")->Search(text.substr(0, 2'000)));
}
