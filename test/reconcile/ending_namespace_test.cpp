#include <doctest/doctest.h>

#include "reconcile/simulation/one_box.hpp"
#include "support/captured_log.hpp"

using namespace simulation;

namespace {

/// Two workspaces in a namespace of their own.
struct Bench : OneBox {
  Bench() {
    const Json held{{"name", kNamespace}, {"finalizers", {"kubernetes"}}};
    REQUIRE(store.Create({kube::kNamespaces, ""}, {{"metadata", held}}));
    MakeWorkspace();
    machines["other"] = std::make_unique<Machine>("other", Machine::Form::kPod, trace);
    machines["other"]->NewContainer(true);
    api::Workspace other;
    other.meta.name = "other";
    other.spec.box.type = api::BoxType::kDirectory;
    REQUIRE(store.Create({kube::kWorkspaces, kNamespace}, codec::EncodeWorkspace(other)));
    Lead();
  }
  void Pass(base::Millis later = base::Seconds{600}) {
    Hear();
    clock.Advance(later);
    process->Resync();
    while (process->workspace_line.Ready()) process->PassOfWorkspace();
  }
};

}  // namespace

TEST_CASE("in a namespace that is being deleted nothing is made, and that is told once") {
  bool with_tokens = false;
  SUBCASE("their tokens") {}
  SUBCASE("their boxes") { with_tokens = true; }
  CAPTURE(with_tokens);
  Bench b;
  if (with_tokens) b.Pass();
  REQUIRE(b.trace.Count("create secrets") == (with_tokens ? 2 : 0));
  b.in.provide = [] {
    return base::Status(
        base::MakeError(base::Code::kForbidden, "no new Pod", kube::kNamespaceTerminating));
  };
  REQUIRE(b.store.Delete({kube::kNamespaces, "", kNamespace}));
  std::string told;
  size_t tries = 0;
  {
    const support::CapturedLog log;
    b.Pass();
    for (int i = 0; i < 5; ++i) b.Pass(base::Seconds{59});
    tries = b.trace.Count("create secrets") + b.trace.Count("provide -> NamespaceTerminating");
    b.Pass(base::Seconds{6});  // Its end may be held up for long.
    told = log.Text();
  }
  CAPTURE(b.trace.Text());
  CAPTURE(told);
  // That is how it is found out.
  CHECK(tries == (with_tokens ? 4 : 2));
  CHECK(b.trace.Count("create secrets") + b.trace.Count("provide -> NamespaceTerminating") ==
        tries + 2);
  CHECK(b.trace.Count("failed:") == 0);
  const size_t first = told.find("a namespace is being deleted");
  CHECK(first != std::string::npos);
  CHECK(told.find("a namespace is being deleted", first + 1) == std::string::npos);
  // Then they are deleted, and cleaned up as ever.
  for (const char* name : {"pod", "other"}) REQUIRE(b.store.Delete(WorkspaceRef(name)));
  for (int i = 0; i < 3; ++i) b.Pass();
  for (const char* name : {"pod", "other"}) CHECK(b.store.Find(WorkspaceRef(name)) == nullptr);
}
