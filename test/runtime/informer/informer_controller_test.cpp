#include <doctest/doctest.h>

#include <map>
#include <mutex>

#include "runtime/informer/scripted_list_watch.hpp"
#include "runtime/running_controller.hpp"

using runtime::Requeue;
using namespace runtime_test;  // NOLINT: the vocabulary of these tests.

TEST_CASE(
    "informer, queue and controller together: a watch event becomes a run, an own write does not") {
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

TEST_CASE(
    "a watch that is added to a running controller wakes it for what there is and what comes") {
  std::mutex mutex;
  std::map<std::string, int> runs;
  Running run([&](const meta::ObjectKey& key, auto) -> base::Result<Requeue> {
    const std::lock_guard lock(mutex);
    ++runs[key.name];
    return Requeue::None();
  });
  const auto ran = [&](const std::string& name, int times) {
    return Eventually([&] {
      const std::lock_guard lock(mutex);
      return runs[name] == times;
    });
  };
  run.Start();
  run.controller.Queue().Add(Key("first"));
  REQUIRE(ran("first", 1));  // It runs, and knows of no watch.
  const auto connect = [&](RunningInformer& informer) {
    informer.informer.AddHandler([&](const runtime::ObjectEvent<Thing>& event) {
      run.controller.Queue().Add(event.key, event.WakePriority());
    });
  };
  // One that is connected before it starts, one that runs already, and of each what it has now.
  ScriptedListWatch early, late;
  early.ListOf("10", {Json("a", "u1", "9")});
  early.WatchStays({});
  RunningInformer started(Quick(false), early);
  started.Start();
  REQUIRE(started.AwaitVersion("10"));
  connect(started);
  CHECK(ran("a", 1));
  late.ListOf("20", {Json("b", "u2", "19")});
  late.WatchStays({});
  RunningInformer other(Quick(false), late);
  connect(other);
  other.Start();
  CHECK(ran("b", 1));
  early.Push(kModified, Json("a", "u1", "11", "edited"));
  late.Push(kDeleted, Json("b", "u2", "21"));
  late.Push(kAdded, Json("c", "u3", "22"));
  CHECK(ran("a", 2));
  CHECK(ran("b", 2));
  CHECK(ran("c", 1));
  // One of them ends: the other one and the controller go on.
  other.Stop();
  early.Push(kModified, Json("a", "u1", "12", "again"));
  CHECK(ran("a", 3));
  started.Stop();
  run.Stop();
  CHECK(run.ended.has_value());
}
