#include <doctest/doctest.h>

#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

TEST_CASE(
    "a box is asked at least once to give its plugins back, however late its operator comes") {
  OneBox b;
  b.machines["pod"]->Bring("alpha", 'a', true);
  b.MakeWorkspace();
  b.Declare("alpha");
  b.Lead();
  b.process->PassOfWorkspace();  // The finalizer.
  b.clock.Advance(base::Millis{1});
  b.process->PassOfWorkspace();
  REQUIRE(b.Stored().status.plugins.size() == 1);
  // Nobody is there to clean up, for longer than that may take; or a clock is ahead by as much.
  b.process.reset();
  REQUIRE(b.store.Delete(WorkspaceRef("pod")));
  b.clock.Advance(base::Seconds{1'200});
  Process next(b.in, 2, b.folder / "other");
  next.Lead();
  for (int i = 0; i < 3 && b.store.Find(WorkspaceRef("pod")) != nullptr; ++i) {
    next.Resync();
    b.clock.Advance(base::Seconds{1});
    next.PassOfWorkspace();
  }
  CAPTURE(b.trace.Text());
  CHECK(b.store.Find(WorkspaceRef("pod")) == nullptr);
  CHECK_FALSE(b.machines["pod"]->Has("alpha"));
}
