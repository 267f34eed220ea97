#include <doctest/doctest.h>

#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

namespace {

/// A workspace whose box has brought a plugin that is declared, so that it is removed with it.
struct Bench : OneBox {
  Bench() {
    machines.at("pod")->Bring("alpha", 'a', true);
    MakeWorkspace(api::BoxType::kDirectory);
    Declare("alpha");
    Lead();
    Pass();  // The finalizer.
  }
  bool IsThere() const { return store.Find(WorkspaceRef("pod")) != nullptr; }
  const Machine& Box() const { return *machines.at("pod"); }
};

}  // namespace

TEST_CASE("who has lost the Lease gives no token to a box") {
  Bench b;
  b.weather.LoseLeaseAfter("create secrets");
  b.Pass();
  CAPTURE(b.trace.Text());
  REQUIRE_FALSE(b.weather.Leads());
  CHECK(b.Box().Token().empty());
  b.weather.TakeLease();
  b.Pass();
  CHECK_FALSE(b.Box().Token().empty());
}

TEST_CASE("who has lost the Lease takes nothing from the box of a deleted Workspace") {
  Bench b;
  b.Pass();
  REQUIRE(b.Stored().status.plugins.size() == 1);
  REQUIRE(b.store.Delete(WorkspaceRef("pod")));
  const size_t before = b.Box().Changes();
  SUBCASE("its plugins, when it was stopped while it asked for the namespace") {
    b.weather.LoseLeaseAfter("get namespaces");
    b.Pass();
    CHECK(b.Box().Has("alpha"));
    CHECK(b.Box().Changes() == before);
  }
  SUBCASE("its token, when it was stopped while it removed the plugins") {
    b.weather.LoseLeaseAfter("remove");
    b.Pass();
    CHECK_FALSE(b.Box().Has("alpha"));
  }
  CAPTURE(b.trace.Text());
  REQUIRE_FALSE(b.weather.Leads());
  CHECK_FALSE(b.Box().Token().empty());
  REQUIRE(b.IsThere());
  b.weather.TakeLease();
  for (int i = 0; i < 3 && b.IsThere(); ++i) b.Pass();
  CHECK_FALSE(b.IsThere());
  CHECK_FALSE(b.Box().Has("alpha"));
  CHECK(b.Box().Token().empty());
}
