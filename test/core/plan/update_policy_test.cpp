#include <doctest/doctest.h>

#include <functional>

#include "core/world.hpp"

using world::Digest;
using world::World;
using namespace std::chrono_literals;

TEST_SUITE("behaviour.md section 4: Pin and Manual") {
  TEST_CASE("a moved ref is only reported under Pin and Manual; an edited source is followed") {
    for (const auto policy : {api::UpdatePolicy::kPin, api::UpdatePolicy::kManual}) {
      World w;
      w.DeclareObject("p", 'a').spec.update.policy = policy;
      w.Settle(3);
      REQUIRE(w.Row("p")->digest == Digest('a'));
      const size_t before = w.done.size();
      w.Publish(World::Source("p"), 'b');
      w.Settle(2);
      CHECK(w.done.size() == before);
      CHECK(w.Reason("p") == "UpdateAvailable");
      CHECK(w.Condition("Ready") == "True");
      w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = "now";
      w.Settle(2);
      CHECK(w.Row("p")->digest == Digest(policy == api::UpdatePolicy::kManual ? 'b' : 'a'));
      w.declared[0].spec.source = World::Source("p", ".1");
      w.Publish(World::Source("p", ".1"), 'c');
      w.Settle(2);
      CHECK(w.Row("p")->digest == Digest('c'));
    }
  }
  TEST_CASE("an update that was asked for is remembered until it is there, whatever it waits for") {
    struct Case {
      const char* waits_for;
      std::function<void(World&)> begin, end;
    };
    const Case cases[] = {
        {"GatheringChanges",
         [](World& w) { w.policy.gather = w.policy.gather_limit = base::Seconds{100}; },
         [](World&) {}},
        {"AwaitingIdle",
         [](World& w) {
           w.ws.spec.restart.policy = api::RestartPolicy::kWhenIdle;
           w.hb.active_tasks = 2;
         },
         [](World& w) { w.hb.active_tasks = 0; }},
        {"BoxStopped", [](World& w) { w.box_state = core::BoxState::kStopped; },
         [](World& w) { w.box_state = core::BoxState::kRunning; }},
        {"Resolving", [](World& w) { w.sources[World::Source("p")] = {}; },
         [](World& w) { w.Publish(World::Source("p"), 'b'); }},
    };
    for (const Case& it : cases) {
      CAPTURE(it.waits_for);
      World w;
      w.DeclareObject("p", 'a').spec.update.policy = api::UpdatePolicy::kManual;
      w.Settle(3);
      REQUIRE(w.Row("p")->digest == Digest('a'));
      w.Publish(World::Source("p"), 'b');
      w.Settle(2);
      it.begin(w);
      w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = "now";
      w.Pass();
      w.Advance(30s);
      w.Pass();
      CHECK(w.box["p"].digest == Digest('a'));
      it.end(w);
      w.Settle(6);
      CHECK(w.box["p"].digest == Digest('b'));
      CHECK(w.Row("p")->approved_digest.empty());
      CHECK(w.ws.status.last_handled_reconcile_at == "now");
      // Of what comes later nothing was said.
      w.Publish(World::Source("p"), 'c');
      w.Settle(6);
      CHECK(w.box["p"].digest == Digest('b'));
      CHECK(w.Reason("p") == "UpdateAvailable");
    }
  }
  TEST_CASE("what was asked for is installed, not what its source has become meanwhile") {
    World w;
    w.ws.spec.restart.policy = api::RestartPolicy::kWhenIdle;
    w.hb.active_tasks = 0;
    w.DeclareObject("p", 'a').spec.update.policy = api::UpdatePolicy::kManual;
    w.Settle(3);
    w.Publish(World::Source("p"), 'b');
    w.hb.active_tasks = 2;
    w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = "now";
    w.Settle(2);
    w.Publish(World::Source("p"), 'c');
    w.Settle(2);
    CHECK(w.Row("p")->approved_digest == Digest('b'));
    w.hb.active_tasks = 0;
    w.Settle(4);
    CHECK(w.box["p"].digest == Digest('b'));
    CHECK(w.Reason("p") == "UpdateAvailable");
    // An edited source, or Track, needs no consent.
    w.hb.active_tasks = 2;
    w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = "again";
    w.Settle(2);
    CHECK(w.Row("p")->approved_digest == Digest('c'));
    w.declared[0].spec.update.policy = api::UpdatePolicy::kTrack;
    w.Settle(2);
    CHECK(w.Row("p")->approved_digest.empty());
  }
  TEST_CASE("Pin puts back what was approved when it vanishes, not what the ref says now") {
    World w;
    w.DeclareObject("p", 'a').spec.update.policy = api::UpdatePolicy::kPin;
    w.Settle(3);
    w.Publish(World::Source("p"), 'b');
    w.box.clear();
    w.Settle(3);
    CHECK(w.box["p"].digest == Digest('a'));
  }
  TEST_CASE("what is put back is fetched first where its bytes are not at hand, and says why not") {
    core::ResolutionView known;
    known.commit = std::string(40, 'a');
    const auto fetched = [&](char digest) {
      known.state = core::ResolutionView::State::kFetched;
      known.digest = Digest(digest);
      return known;
    };
    core::ResolutionView failed;
    failed.state = core::ResolutionView::State::kFailed;
    failed.error = base::MakeError(base::Code::kUnavailable, "no route", "SourceUnreachable");
    struct Case {
      core::ResolutionView known;
      std::string reason;
    };
    const Case cases[] = {{known, "Fetching"},
                          {failed, "SourceUnreachable"},
                          {fetched('e'), "RevisionGone"},
                          {fetched('a'), "UpdateAvailable"}};
    for (const bool drifts : {false, true})
      for (const auto& [state, reason] : cases) {
        CAPTURE(drifts);
        CAPTURE(reason);
        World w;
        w.DeclareObject("p", 'a').spec.update.policy = api::UpdatePolicy::kPin;
        w.Settle(3);
        w.Publish(World::Source("p"), 'b');
        if (drifts)
          w.box["p"].digest = Digest('d');
        else
          w.box.clear();
        w.put_back["p"] = state;
        w.Settle(3);
        CHECK(w.Reason("p") == reason);
        const bool there = w.box.contains("p") && w.box["p"].digest == Digest('a');
        CHECK(there == (reason == "UpdateAvailable"));
        if (reason != "RevisionGone") continue;
        // As its message says.
        w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = "now";
        w.Settle(3);
        CHECK(w.Reason("p") == "Loaded");
        CHECK(w.box["p"].digest == Digest('b'));
      }
  }
  TEST_CASE(
      "a box that cannot tell is asked on while the bytes of the safety net are not at hand") {
    World w;
    w.DeclareObject("p", 'a').spec.update.policy = api::UpdatePolicy::kPin;
    w.Settle(3);
    w.Publish(World::Source("p"), 'b');
    w.unknown.insert("p");
    w.put_back["p"].commit = std::string(40, 'a');
    for (int i = 0; i < 6; ++i) {
      w.Advance(2s);
      w.Pass();
    }
    CHECK(w.Reason("p") == "ProbeUnknown");
    CHECK(w.plan.next_check - w.now.mono <= 30s);
  }
}
