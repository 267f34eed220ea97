#include <doctest/doctest.h>

#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

TEST_CASE("a report that crosses the error rate of the settings wakes the workspace") {
  OneBox b;
  auto policy = std::make_shared<core::Policy>();
  policy->degraded_at = 0.2;
  policy->recovered_below = 0.1;
  b.in.policy = policy;
  b.Begin();
  const auto slot =
      b.process->fleet.Authenticate(b.machines.at("pod")->Token(), b.clock.Read().mono);
  REQUIRE(slot);
  auto report = [&, sequence = int64_t{0}](double rate) mutable {
    protocol::Heartbeat said;
    said.workspace = b.Stored().meta.uid;
    said.boot_id = "boot";
    said.sequence = ++sequence;
    said.error_rate = rate;
    const auto change = b.process->fleet.Record(*slot, said, b.clock.Read());
    REQUIRE(change);
    return change->error_rate_crossed;
  };
  CHECK_FALSE(report(0.0));
  CHECK(report(0.3));
  CHECK_FALSE(report(0.15));
  CHECK(report(0.05));
}
