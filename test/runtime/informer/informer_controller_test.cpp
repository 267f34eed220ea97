#include <doctest/doctest.h>

#include "runtime/informer/scripted_list_watch.hpp"
#include "runtime/running_controller.hpp"

using runtime::Requeue;

TEST_CASE(
    "informer, queue and controller together: a watch event becomes a run, an own write does not") {
  using namespace runtime_test;  // NOLINT
  ScriptedListWatch source;
  source.ListOf("10", {Json("a", "u1", "9"), Json("b", "u2", "8")});
  source.WatchStays({});
  runtime::Metrics metrics;
  auto informer_options = Quick(false);
  informer_options.metrics = &metrics;
  RunningInformer informer(informer_options, source);
  std::atomic<int> version{20};
  Running run(
      [&](const meta::ObjectKey& key, auto) -> base::Result<Requeue> {
        const auto thing = informer.informer.Get(key);
        if (!thing || thing->status == "done " + thing->spec) return Requeue::None();
        // A status patch: the answer is observed, its echo comes later.
        const std::string next = std::to_string(++version);
        informer.informer.ObserveWrite(
            MakeThing(key.name, thing->meta.uid, next, thing->spec, "done " + thing->spec));
        source.Push(kModified,
                    Json(key.name, thing->meta.uid, next, thing->spec, "done " + thing->spec));
        return Requeue::None();
      },
      [&](auto& options) {
        options.workers = 1;
        options.wait_for = {
            {"things", [&](std::stop_token stop) { return informer.informer.WaitForSync(stop); }}};
      });
  informer.informer.AddHandler([&](const runtime::ObjectEvent<Thing>& event) {
    run.controller.Queue().Add(event.key, event.WakePriority());
  });
  run.Start();
  informer.Start();
  REQUIRE(run.AwaitIdle(2));
  REQUIRE(informer.AwaitVersion("22"));
  CHECK(run.AwaitIdle(2));  // The echoes woke nobody.
  source.Push(kModified, Json("a", "u1", std::to_string(++version), "edited", "done s"));
  REQUIRE(run.AwaitIdle(3));
  CHECK(informer.informer.Get(Key("a"))->status == "done edited");
  CHECK(metrics.Text().find("informer_event_seconds_count{informer=\"" + informer_options.name +
                            "\"} ") != std::string::npos);
  run.Stop();
  informer.Stop();
}
