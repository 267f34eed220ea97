#include <doctest/doctest.h>

#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

namespace {

/// A workspace under Manual, to which a plugin was delivered: it waits for its restart.
struct Bench : OneBox {
  Bench() {
    in.witness = [this](const std::string&, const std::vector<std::string>& names) {
      if (!names.empty()) return;
      ++restarts;
      asked = true;
    };
    MakeWorkspace(api::BoxType::kDirectory);
    const Json manual{{"restart", {{"policy", "Manual"}}}};
    REQUIRE(store.Patch(WorkspaceRef("pod"), {{"spec", manual}}));
    Declare("alpha");
    Lead();
    for (int i = 0; i < 20; ++i) Pass();
  }
  void Pass(base::Millis later = base::Seconds{2}) {
    clock.Advance(later);
    if (asked) machines.at("pod")->Boot();
    asked = false;
    Report();
    process->Resync();
    process->PassOfWorkspace();
    process->resolver.RunDue({});
    Hear();
  }
  void Request(base::Millis ahead) {
    const std::string time = base::FormatTime(clock.Read().wall + ahead);
    const Json asks{{"annotations", {{api::kRestartRequestedAnnotation, time}}}};
    REQUIRE(store.Patch(WorkspaceRef("pod"), {{"metadata", asks}}));
    Pass();
  }
  bool Says(const char* text) const {
    const auto status = Stored().status;
    REQUIRE(status.plugins.size() == 1);
    return status.plugins.front().reason == "AwaitingRestartRequest" &&
           status.plugins.front().message.find(text) != std::string::npos;
  }

  int restarts = 0;
  bool asked = false;
};

}  // namespace

TEST_CASE("a restart that was requested for later than now happens then, and is told until then") {
  Bench b;
  CAPTURE(b.trace.Text());
  REQUIRE(b.Says("to allow the restart"));
  REQUIRE_FALSE(b.Says("a time that has not come"));
  b.Request(base::Seconds{3'600});
  for (int i = 0; i < 10; ++i) b.Pass(base::Seconds{300});
  CHECK(b.restarts == 0);
  CHECK(b.Says("its value now is a time that has not come"));
  for (int i = 0; i < 3; ++i) b.Pass(base::Seconds{300});
  CHECK(b.restarts == 1);
}

TEST_CASE("a restart that was requested for what is no time is told of") {
  Bench b;
  const Json asks{{"annotations", {{api::kRestartRequestedAnnotation, "tomorrow"}}}};
  REQUIRE(b.store.Patch(WorkspaceRef("pod"), {{"metadata", asks}}));
  for (int i = 0; i < 2; ++i) b.Pass();
  CAPTURE(b.trace.Text());
  CHECK(b.restarts == 0);
  CHECK(b.Says("its value now is no such time"));
}

TEST_CASE("the clock of who requests a restart may be some minutes ahead of ours") {
  Bench b;
  CAPTURE(b.trace.Text());
  REQUIRE(b.Says("to allow the restart"));
  b.Request(base::Seconds{200});
  b.Pass();
  CHECK(b.restarts == 1);
}
