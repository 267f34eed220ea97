#include <doctest/doctest.h>

#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

namespace {

const char* StateOfCondition(const api::Workspace& workspace, const char* type) {
  const meta::Condition* found = meta::FindCondition(workspace.status.conditions, type);
  if (found == nullptr) return "";
  return found->status == meta::ConditionStatus::kTrue    ? "True"
         : found->status == meta::ConditionStatus::kFalse ? "False"
                                                          : "Unknown";
}

}  // namespace

TEST_CASE("what no waiting mends fails at once, what another object may bring is waited for") {
  struct Row {
    const char* reason;
    bool fails;
  };
  for (const Row& row :
       {Row{"AgentImageMissing", true}, Row{"AgentURLMissing", true},
        Row{"RuntimeCommandUnknown", true}, Row{"BoxTypeUnavailable", true},
        Row{"BoxPathNotAllowed", true}, Row{"SpecInvalid", true}, Row{"PodTemplateMissing", false},
        Row{"PodTemplateInvalid", false}, Row{"PodForeign", false}, Row{"Invalid", false}}) {
    CAPTURE(row.reason);
    OneBox b;
    b.machines.at("pod")->Stop();
    b.in.provide = [&]() -> base::Status {
      return base::MakeError(base::Code::kInvalid, "no such thing", row.reason);
    };
    b.Begin();
    api::Workspace seen = b.Stored();
    CHECK(seen.status.state == (row.fails ? "Failed" : "Provisioning"));
    CHECK(StateOfCondition(seen, "Ready") == std::string(row.fails ? "False" : "Unknown"));
    CHECK(StateOfCondition(seen, "Stalled") == std::string(row.fails ? "True" : "False"));
    CHECK(StateOfCondition(seen, "Reconciling") == std::string(row.fails ? "False" : "True"));
    b.in.provide = nullptr;
    b.Pass();
    seen = b.Stored();
    CHECK(seen.status.state == "Provisioning");
    CHECK(StateOfCondition(seen, "Stalled") == std::string("False"));
  }
}
