#include <doctest/doctest.h>

#include "api/declared_plugin.hpp"

namespace {

using api::LabelRequirement;
using api::LabelSelector;

TEST_CASE("a label selector matches as metav1.LabelSelector does") {
  const std::map<std::string, std::string> labels = {{"team", "a"}, {"tier", ""}};
  struct Row {
    const char* name;
    LabelSelector selector;
    bool matches;
  };
  const std::vector<Row> table = {
      {"an empty selector matches everything", {}, true},
      {"an equal label", {{{"team", "a"}}, {}}, true},
      {"another value", {{{"team", "b"}}, {}}, false},
      {"an absent label", {{{"zone", "a"}}, {}}, false},
      {"an empty value is a value", {{{"tier", ""}}, {}}, true},
      {"In with the value", {{}, {{"team", "In", {"b", "a"}}}}, true},
      {"In without the value", {{}, {{"team", "In", {"b"}}}}, false},
      {"In of an absent label", {{}, {{"zone", "In", {"a"}}}}, false},
      {"NotIn with the value", {{}, {{"team", "NotIn", {"a"}}}}, false},
      {"NotIn of an absent label", {{}, {{"zone", "NotIn", {"a"}}}}, true},
      {"Exists", {{}, {{"team", "Exists", {}}}}, true},
      {"Exists of an absent label", {{}, {{"zone", "Exists", {}}}}, false},
      {"DoesNotExist", {{}, {{"zone", "DoesNotExist", {}}}}, true},
      {"DoesNotExist of a label that is there", {{}, {{"team", "DoesNotExist", {}}}}, false},
      {"an unknown operator matches nothing", {{}, {{"team", "Near", {"a"}}}}, false},
      {"all must hold", {{{"team", "a"}}, {{"zone", "Exists", {}}}}, false},
  };
  for (const Row& row : table) {
    CAPTURE(row.name);
    CHECK(api::Matches(row.selector, labels) == row.matches);
  }
}

TEST_CASE("what no label selector may say is named with its field and a remedy") {
  const std::string name63(63, 'a'), name64(64, 'a'), dns253(253, 'd');
  struct Row {
    const char* name;
    LabelSelector selector;
    const char* says;  ///< A part of it; empty: nothing is wrong.
  };
  const std::vector<Row> table = {
      {"an empty selector", {}, ""},
      {"keys with and without a prefix",
       {{{"team", "a"}, {"example.com/team_A.b-c", ""}}, {{name63, "Exists", {}}}},
       ""},
      {"each operator",
       {{}, {{"a", "In", {"x", ""}}, {"a", "NotIn", {name63}}, {"a", "DoesNotExist", {}}}},
       ""},
      {"a key with a space",
       {{{"my team", "a"}}, {}},
       "s.matchLabels: no label can have the key `my team`; set one of"},
      {"an empty key", {{{"", "a"}}, {}}, "s.matchLabels: no label can have the key ``"},
      {"a key that is too long", {{{name64, "a"}}, {}}, "no label can have the key"},
      {"a key that ends in a dot", {{{"a.", "a"}}, {}}, "no label can have the key `a.`"},
      {"two slashes", {{{"a/b/c", "a"}}, {}}, "no label can have the key"},
      {"no name after the slash", {{{"example.com/", "a"}}, {}}, "no label can have the key"},
      {"no prefix before the slash", {{{"/team", "a"}}, {}}, "no label can have the key"},
      {"a prefix in capitals", {{{"Example.com/team", "a"}}, {}}, "no label can have the key"},
      {"a prefix with an empty part", {{{"a..b/team", "a"}}, {}}, "no label can have the key"},
      {"a prefix that is too long", {{{dns253 + "d/team", "a"}}, {}}, "no label can have the key"},
      {"a value with a space",
       {{{"team", "a b"}}, {}},
       "s.matchLabels[team]: no label can have the value `a b`; set one of"},
      {"a value that is too long", {{{"team", name64}}, {}}, "s.matchLabels[team]: no label can"},
      {"a key of an expression",
       {{}, {{"a", "Exists", {}}, {"b!", "Exists", {}}}},
       "s.matchExpressions[1].key: no label can have the key `b!`"},
      {"a value of an expression",
       {{}, {{"a", "NotIn", {"x", "-y"}}}},
       "s.matchExpressions[0].values: no label can have the value `-y`"},
      {"an unknown operator",
       {{}, {{"a", "Near", {"x"}}}},
       "s.matchExpressions[0].operator: `Near` is none; set In"},
      {"In without values",
       {{}, {{"a", "In", {}}}},
       "s.matchExpressions[0].values: operator In needs an element"},
      {"NotIn without values", {{}, {{"a", "NotIn", {}}}}, "operator NotIn needs an element"},
      {"Exists with values",
       {{}, {{"a", "Exists", {"x"}}}},
       "operator Exists takes none; remove them"},
      {"DoesNotExist with values",
       {{}, {{"a", "DoesNotExist", {"x"}}}},
       "operator DoesNotExist takes none"},
  };
  for (const Row& row : table) {
    CAPTURE(row.name);
    const std::string problem = api::SelectorProblem(row.selector, "s");
    CAPTURE(problem);
    CHECK(problem.empty() == std::string_view(row.says).empty());
    CHECK(problem.starts_with(problem.empty() ? "" : "s.match"));
    CHECK(problem.find(row.says) != std::string::npos);
    CHECK(problem.size() < 400);
  }
}

}  // namespace
