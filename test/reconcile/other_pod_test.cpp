#include <doctest/doctest.h>

#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

namespace {

/// A workspace whose box is somebody else's Pod; who reports for it is written here.
struct Bench : OneBox {
  Bench() { Begin(); }
  /// What the state is after such a report, and the pass that follows.
  std::string After(const std::string& box, const std::string& boot) {
    protocol::Heartbeat said;
    said.workspace = Stored().meta.uid;
    said.boot_id = boot;
    said.sequence = ++sequence;
    said.box_identity = box;
    const auto slot = process->fleet.Authenticate(machines.at("pod")->Token(), clock.Read().mono);
    REQUIRE(slot);
    REQUIRE(process->fleet.Record(*slot, said, clock.Read()));
    Pass();
    return Stored().status.state;
  }

  int64_t sequence = 0;
};

}  // namespace

TEST_CASE("a heartbeat that names another Pod makes nobody Online; one that names none does") {
  {
    Bench b;
    CAPTURE(b.trace.Text());
    CHECK(b.After("pod:dead0000", "old") == "Provisioning");
    CHECK(b.After("pod:dead0000", "old") == "Provisioning");
    CHECK(b.After("pod:0c0ffee0", "new") == "Online");
    CHECK(b.After("pod:dead0000", "older") == "Online");
    CHECK(b.process->fleet.Counts().refused == 3);
  }
  Bench b;
  CHECK(b.After("", "untold") == "Online");
}
