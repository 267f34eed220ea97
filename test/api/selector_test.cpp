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

}  // namespace
