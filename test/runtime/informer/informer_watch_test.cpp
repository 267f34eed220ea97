#include <doctest/doctest.h>

#include <map>
#include <random>

#include "runtime/informer/scripted_list_watch.hpp"
#include "runtime/metrics.hpp"
#include "support/fake_clock.hpp"

using namespace runtime_test;  // NOLINT: the vocabulary of these tests.
using base::Code;
using base::Millis;

TEST_CASE("a watch that ended orderly goes on from the version of the last event of any kind") {
  ScriptedListWatch source;
  source.ListOf("10", {});
  source.WatchOf({{kAdded, Json("a", "u1", "11")}});
  source.WatchOf({{kModified, Json("a", "u1", "12")}});
  source.WatchOf({{kBookmark, Bookmark("15")}});
  source.WatchOf({{kDeleted, Json("a", "u1", "16")}});
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(source.AwaitCalls(6));
  CHECK(source.Calls() == Strings{"list rv= page=500", "watch rv=10", "watch rv=11", "watch rv=12",
                                  "watch rv=15", "watch rv=16"});
  CHECK(run.Seen() == Strings{"+a@11", "~a@12", "-a@16"});
}

TEST_CASE("a busy server is asked again from the same version without a list") {
  ScriptedListWatch source;
  source.ListOf("10", {});
  source.WatchOf({{kError, StatusJson(429, "TooManyRequests")}});
  for (int i = 0; i < 5; ++i) source.WatchFails(Code::kUnavailable);
  source.WatchFails(Code::kTimeout);
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(source.AwaitCalls(9));
  CHECK(run.informer.Stats().lists == 1);
  CHECK(source.Calls().back() == "watch rv=10");
}

TEST_CASE("a stream that breaks three times without an event makes a list") {
  const ScriptedListWatch::Events kinds[] = {
      {{kError, StatusJson(500, "InternalError")}},
      {{kAdded, "{\"metadata\":{\"name\":\"a"}},            // Cut inside of a string.
      {{kModified, std::string("{\"metadata\":\0}", 14)}},  // NUL.
      {{kError, "<html>"}},
      {{kBookmark, "{"}},
  };
  for (const auto& events : kinds) {
    ScriptedListWatch source;
    source.ListOf("10", {});
    for (int i = 0; i < 3; ++i) source.WatchOf(events);
    source.ListOf("20", {});
    RunningInformer run(Quick(false), source);
    run.Start();
    REQUIRE(source.AwaitCalls(6));
    CHECK(source.Calls() == Strings{"list rv= page=500", "watch rv=10", "watch rv=10",
                                    "watch rv=10", "list rv=10 page=0", "watch rv=20"});
  }
}

TEST_CASE("no other error ends the informer: it backs off and lists") {
  for (const int code : {400, 401, 403, 404, 409, 418}) {
    ScriptedListWatch source;
    source.ListOf("10", {});
    source.WatchOf({{kError, StatusJson(code, "Whatever")}});
    source.ListOf("20", {});
    RunningInformer run(Quick(false), source);
    run.Start();
    REQUIRE(source.AwaitCalls(4));
    CHECK(source.Calls().back() == "watch rv=20");
  }
}

TEST_CASE("a watch that closes at once and empty is a failure and makes a list") {
  ScriptedListWatch source;
  source.ListOf("10", {});
  source.WatchOf({});
  source.ListOf("20", {});
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(source.AwaitCalls(4));
  CHECK(source.Calls() ==
        Strings{"list rv= page=500", "watch rv=10", "list rv=10 page=0", "watch rv=20"});
}

TEST_CASE("a silent watch is cut and goes on from the last version") {
  support::FakeClock clock;
  auto options = Quick(false);
  options.clock = &clock;
  ScriptedListWatch source;
  source.ListOf("10", {});
  source.WatchStays({{kBookmark, Bookmark("12")}});
  RunningInformer run(options, source);
  run.Start();
  REQUIRE(run.AwaitVersion("12"));
  clock.Advance(Millis{89'000});
  CHECK(source.Calls().size() == 2);
  REQUIRE(Eventually([&] {
    clock.Advance(Millis{1'000});
    return source.Calls().size() >= 3;
  }));
  CHECK(source.Calls()[2] == "watch rv=12");
  CHECK(run.informer.Stats().lists == 1);
  CHECK(run.informer.Stats().last_error == "");  // A kind of which nothing is told is no trouble.
}

TEST_CASE("a watch with any byte within the time is left alone") {
  support::FakeClock clock;
  auto options = Quick(false);
  options.clock = &clock;
  ScriptedListWatch source;
  source.ListOf("10", {});
  std::function<void()> on_bytes;
  std::atomic<bool> open{false};
  source.OnWatch([&](const runtime::WatchOptions& watch, const auto&, std::stop_token stop) {
    CHECK(watch.timeout_seconds >= 180);
    CHECK(watch.timeout_seconds <= 230);
    on_bytes = watch.on_bytes;
    open = true;
    Eventually([&] { return stop.stop_requested(); });
    return base::Status(base::MakeError(Code::kCancelled, "stopped"));
  });
  RunningInformer run(options, source);
  run.Start();
  REQUIRE(Eventually([&] { return open.load(); }));
  for (int i = 0; i < 10; ++i) {
    clock.Advance(Millis{80'000});
    on_bytes();
  }
  CHECK(source.Calls().size() == 2);
  run.Stop();
}

TEST_CASE("the time that a watch is asked to last is spread over the range that was set") {
  for (const bool set : {false, true}) {
    CAPTURE(set);
    auto options = Quick(false);
    if (set) options.watch_timeout_min = 60, options.watch_timeout_max = 63;
    const int least = set ? 60 : 180, most = set ? 63 : 230;
    ScriptedListWatch source;
    source.ListOf("10", {});
    std::vector<int> asked;
    constexpr int kWatches = 400;
    for (int i = 0; i < kWatches; ++i)
      source.OnWatch([&](const runtime::WatchOptions& watch, const auto& sink, std::stop_token) {
        asked.push_back(watch.timeout_seconds);
        return sink(kBookmark, Bookmark("11"));
      });
    RunningInformer run(options, source);
    run.Start();
    REQUIRE(source.AwaitCalls(kWatches + 2));
    REQUIRE(asked.size() == kWatches);
    std::map<int, int> counts;
    for (const int seconds : asked) ++counts[seconds];
    CHECK(counts.begin()->first >= least);
    CHECK(counts.rbegin()->first <= most);
    // Watches of many replicas must not end together: no second of the range is left out or liked.
    CHECK(counts.size() >= (set ? 4u : 45u));
    for (const auto& [seconds, count] : counts) CHECK(count <= (set ? 150 : 30));
  }
  // Load balancers are known to drop what they take for idle after 240 s.
  CHECK(runtime::InformerOptions{}.watch_timeout_max < 240);
}

TEST_CASE("the numbers of an informer follow its events, its bookmarks and its silence") {
  support::FakeClock clock;
  runtime::Metrics metrics;
  auto options = Quick(true);
  options.clock = &clock;
  options.metrics = &metrics;
  ScriptedListWatch source;
  source.WatchStays({{kAdded, Json("a", "u1", "7")}, {kBookmark, Bookmark("20", true)}});
  RunningInformer run(options, source);
  const auto shows = [&](const std::string& name, const std::string& value) {
    return metrics.Text().find("\n" + name + "{informer=\"things\"} " + value + "\n") !=
           std::string::npos;
  };
  CHECK(shows("informer_synced", "0"));
  run.Start();
  REQUIRE(run.AwaitVersion("20"));
  CHECK(shows("informer_synced", "1"));
  CHECK(shows("informer_resource_version", "20"));  // The marker's.
  CHECK(shows("informer_objects", "1"));
  clock.Advance(Millis{30'000});
  CHECK(shows("informer_seconds_since_contact", "30"));
  source.Push(kBookmark, Bookmark("25"));
  REQUIRE(run.AwaitVersion("25"));
  CHECK(shows("informer_resource_version", "25"));
  CHECK(shows("informer_seconds_since_contact", "0"));
  CHECK(shows("informer_event_seconds_count", "0"));
  run.informer.AddHandler([&](const auto& event) {
    if (!event.initial) clock.Advance(Millis{2'000});  // A slow one.
  });
  source.Push(kAdded, Json("b", "u2", "26"));
  source.Push(kDeleted, Json("a", "u1", "27"));
  REQUIRE(run.AwaitVersion("27"));
  CHECK(shows("informer_resource_version", "27"));
  CHECK(shows("informer_objects", "1"));
  CHECK(shows("informer_events_total", "3"));
  REQUIRE(Eventually([&] { return shows("informer_event_seconds_count", "2"); }));
  CHECK(shows("informer_event_seconds_sum", "4"));
  CHECK(shows("informer_watches_total", "1"));
  CHECK(shows("informer_lists_total", "0"));
}

TEST_CASE(
    "failures back off with full jitter from 800 ms to 30 s and the stop does not wait for it") {
  support::FakeClock clock;
  auto options = Quick(false);
  options.clock = &clock;
  options.backoff = runtime::InformerOptions{}.backoff;
  ScriptedListWatch source;
  for (int i = 0; i < 50; ++i) source.ListFails(Code::kUnavailable);
  RunningInformer run(options, source);
  run.Start();
  double longest = 0;
  for (size_t attempt = 1; attempt < 12; ++attempt) {
    REQUIRE(source.AwaitCalls(attempt));
    REQUIRE(clock.AwaitWaiters(1));
    const auto before = clock.Read().mono;
    // The keeper waits for the liveness only while a call is under way: the next deadline is the
    // back-off's.
    REQUIRE(Eventually([&] {
      if (source.Calls().size() > attempt) return true;
      clock.Advance(Millis{250});
      return false;
    }));
    const std::chrono::duration<double> waited = clock.Read().mono - before;
    longest = std::max(longest, waited.count());
    CHECK(waited.count() <= 0.8 * static_cast<double>(1u << std::min<size_t>(attempt, 16)) + 5.0);
  }
  CHECK(longest < 40.0);
  REQUIRE(clock.AwaitWaiters(1));
  run.Stop();  // Would hang for ever if the sleep could not be cancelled: this clock stands still.
}

TEST_CASE("a watch that lasted two minutes ends the back-off of what failed before") {
  support::FakeClock clock;
  auto options = Quick(false);
  options.clock = &clock;
  options.backoff = runtime::InformerOptions{}.backoff;
  options.jitter_seed = 3;  // Four waits of 53 s in all if the back-off went on.
  ScriptedListWatch source;
  for (int i = 0; i < 10; ++i) source.ListFails(Code::kUnavailable);
  source.ListOf("10", {});
  source.OnWatch([&](const runtime::WatchOptions& watch, const auto&, std::stop_token) {
    for (int i = 0; i < 13; ++i) {
      clock.Advance(Millis{10'000});
      watch.on_bytes();
    }
    return base::Status(base::MakeError(Code::kGone, "as scripted"));
  });
  for (int i = 0; i < 4; ++i) source.ListFails(Code::kUnavailable);
  RunningInformer run(options, source);
  run.Start();
  const auto await = [&](size_t calls) {
    return Eventually([&] {
      if (source.Calls().size() >= calls) return true;
      clock.Advance(Millis{100});
      return false;
    });
  };
  REQUIRE(await(13));  // Ten lists that fail, one that does not, the long watch, a list.
  const auto before = clock.Read().mono;
  REQUIRE(await(17));
  const std::chrono::duration<double> waited = clock.Read().mono - before;
  // At most 0.8, 1.6, 3.2 and 6.4 s, and each wait may be noticed late.
  CHECK(waited.count() < 16);
}

TEST_CASE("repeated and older events change nothing and wake nobody") {
  ScriptedListWatch source;
  source.ListOf("10", {Json("a", "u1", "9")});
  source.WatchStays({{kModified, Json("a", "u1", "11")},
                     {kModified, Json("a", "u1", "11")},
                     {kModified, Json("a", "u1", "10")},
                     {kAdded, Json("a", "u0", "5")},    // Another life, long past.
                     {kDeleted, Json("a", "u0", "6")},  // Its end.
                     {kBookmark, Bookmark("12")}});
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(run.AwaitVersion("12"));
  CHECK(run.Seen() == Strings{"+a@9*", "~a@11"});
  CHECK(run.Content() == "a@11");
}

TEST_CASE("a new uid in one update is told as delete and add") {
  ScriptedListWatch source;
  source.ListOf("10", {Json("a", "u1", "9")});
  source.WatchStays({{kModified, Json("a", "u2", "11")}});
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(run.AwaitSeen({"+a@9*", "-a@9", "+a@11"}));
}

TEST_CASE("a late handler gets everything as adds and then the live events, none twice") {
  ScriptedListWatch source;
  source.ListOf("10", {Json("a", "u1", "10"), Json("b", "u2", "8")});
  source.WatchStays({});
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(run.AwaitVersion("10"));
  std::mutex mutex;
  std::map<std::string, std::string> folded;
  int adds = 0;
  std::jthread pusher([&] {
    for (int i = 11; i < 200; ++i) source.Push(kModified, Json("a", "u1", std::to_string(i)));
  });
  run.informer.AddHandler([&](const runtime::ObjectEvent<Thing>& event) {
    std::lock_guard lock(mutex);
    if (event.kind == runtime::ObjectEventKind::kAdded) ++adds;
    const auto& old_version = folded[event.key.name];
    const auto& version = event.object->meta.resource_version;
    if (!old_version.empty()) CHECK(std::stoi(version) == std::stoi(old_version) + 1);
    if (!old_version.empty()) CHECK(event.old_object->meta.resource_version == old_version);
    folded[event.key.name] = version;
  });
  REQUIRE(run.AwaitVersion("199"));
  std::lock_guard lock(mutex);
  CHECK(adds == 2);
  CHECK(folded == std::map<std::string, std::string>{{"a", "199"}, {"b", "8"}});
}

TEST_CASE("the cache has a change before a handler is told of it") {
  ScriptedListWatch source;
  source.ListOf("10", {Json("a", "u1", "9"), Json("x", "u9", "8")});
  source.WatchStays({});
  RunningInformer run(Quick(false), source);
  std::atomic<int> right{0}, wrong{0};
  run.informer.AddHandler([&](const runtime::ObjectEvent<Thing>& event) {
    const auto cached = run.informer.Get(event.key);
    const bool same =
        event.kind == runtime::ObjectEventKind::kDeleted
            ? cached == nullptr
            : cached && cached->meta.resource_version == event.object->meta.resource_version;
    ++(same ? right : wrong);
  });
  run.Start();
  REQUIRE(run.AwaitVersion("10"));
  source.Push(kAdded, Json("b", "u2", "11"));
  source.Push(kModified, Json("b", "u2", "12", "t"));
  source.Push(kDeleted, Json("b", "u2", "13"));
  source.Push(kDeleted, Json("x", "u9", "14"));
  REQUIRE(run.AwaitVersion("14"));
  run.informer.ObserveWrite(MakeThing("c", "u3", "15"));
  run.informer.ObserveDelete(Key("a"), "u1");
  CHECK(right == 8);
  CHECK(wrong == 0);
}

TEST_CASE("a handler that throws is counted and stops nobody") {
  ScriptedListWatch source;
  source.ListOf("10", {Json("a", "u1", "9")});
  RunningInformer run(Quick(false), source);
  run.informer.AddHandler([](const auto&) { throw std::runtime_error("handler bug"); });
  run.Start();
  REQUIRE(run.informer.WaitForSync({}, Millis{10'000}).has_value());
  CHECK(run.Seen() == Strings{"+a@9*"});
  CHECK(run.informer.Stats().handler_failures == 1);
}

TEST_CASE("the resync walks all objects once a period, evenly, without a request") {
  support::FakeClock clock;
  auto options = Quick(false);
  options.clock = &clock;
  options.resync = Millis{100'000};
  options.liveness = Millis{100'000'000};
  ScriptedListWatch source;
  Strings objects;
  for (int i = 0; i < 50; ++i) objects.push_back(Json("o" + std::to_string(i), "u", "1"));
  source.ListOf("10", objects);
  source.WatchStays({});
  RunningInformer run(options, source);
  run.Start();
  REQUIRE(run.AwaitVersion("10"));
  run.ClearSeen();
  int waves = 0;
  const auto start = clock.Read().mono;
  REQUIRE(Eventually([&] {
    const size_t before = run.Seen().size();
    clock.Advance(Millis{1'000});
    if (run.Seen().size() > before) ++waves;
    return run.Seen().size() >= 50;
  }));
  Strings seen = run.Seen();
  seen.resize(50);
  std::sort(seen.begin(), seen.end());
  CHECK(std::unique(seen.begin(), seen.end()) == seen.end());  // Each once.
  CHECK(seen[0][0] == '=');
  CHECK(clock.Read().mono - start >= Millis{80'000});
  CHECK(source.Calls().size() == 2);
}

TEST_CASE("an informer can be stopped and started again many times") {
  ScriptedListWatch source;
  RunningInformer run(Quick(false), source);
  for (int i = 1; i <= 100; ++i) {
    source.ListOf(std::to_string(i), {Json("a", "u1", std::to_string(i))});
    run.Start();
    REQUIRE(run.AwaitVersion(std::to_string(i)));
    run.Stop();
  }
  CHECK(run.Content() == "a@100");
}

namespace {

/// A server with a history, that answers a list or watch with every kind of trouble.
class TroubledServer : public runtime::ListWatch {
 public:
  explicit TroubledServer(unsigned seed) : random_(seed) {}

  /// One random change.
  void Change() {
    std::lock_guard lock(mutex_);
    const std::string name = "o" + std::to_string(random_() % 8);
    const std::string version = std::to_string(++version_);
    auto found = objects_.find(name);
    if (found == objects_.end()) {
      const std::string uid = "u" + version;
      objects_[name] = {uid, version};
      history_.push_back({kAdded, Json(name, uid, version)});
    } else if (random_() % 3 == 0) {
      history_.push_back({kDeleted, Json(name, found->second.first, version)});
      objects_.erase(found);
    } else {
      found->second.second = version;
      history_.push_back({kModified, Json(name, found->second.first, version)});
    }
    changed_.notify_all();
  }
  void Calm() {
    std::lock_guard lock(mutex_);
    calm_ = true;
    changed_.notify_all();
  }
  std::string Content() {
    std::lock_guard lock(mutex_);
    std::string text;
    for (const auto& [name, object] : objects_) {
      text += (text.empty() ? "" : " ") + name + "@" + object.second;
    }
    return text;
  }
  base::Result<std::string> List(const runtime::ListOptions&, const runtime::ListSink& sink,
                                 std::stop_token) override {
    std::lock_guard lock(mutex_);
    for (const auto& [name, object] : objects_) {
      if (Trouble(20)) return base::MakeError(Code::kUnavailable, "cut");
      if (auto status = sink(Json(name, object.first, object.second)); !status) {
        return status.error();
      }
    }
    return std::to_string(version_);
  }
  base::Status Watch(const runtime::WatchOptions& options, const runtime::WatchSink& sink,
                     std::stop_token stop) override {
    std::stop_callback wake(stop, [this] {
      std::lock_guard lock(mutex_);
      changed_.notify_all();
    });
    size_t at = 0;
    if (options.send_initial_events) {
      auto listed = List(
          {}, [&](std::string_view object) { return sink(kAdded, object); }, stop);
      if (!listed) return listed.error();
      if (auto status = sink(kBookmark, Bookmark(*listed, true)); !status) return status;
      at = std::stoul(*listed);
    } else {
      at = std::stoul(options.resource_version);
    }
    while (true) {
      std::pair<WatchEventType, std::string> event;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock,
                      [&] { return stop.stop_requested() || at < history_.size() || Trouble(5); });
        if (stop.stop_requested()) return base::MakeError(Code::kCancelled, "stopped");
        if (Trouble(8)) return {};
        if (Trouble(12)) return base::MakeError(Code::kGone, "compacted");
        if (Trouble(12)) return base::MakeError(Code::kUnavailable, "reset");
        if (at >= history_.size()) continue;
        if (Trouble(10) && at > 0) --at;  // A duplicate.
        event = history_[at++];
      }
      if (auto status = sink(event.first, event.second); !status) return status;
    }
  }

 private:
  bool Trouble(unsigned one_in) { return !calm_ && random_() % one_in == 0; }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::mt19937 random_;
  std::vector<std::pair<WatchEventType, std::string>> history_;  ///< Index + 1 is the version.
  std::map<std::string, std::pair<std::string, std::string>> objects_;
  uint64_t version_ = 0;
  bool calm_ = false;
};

}  // namespace

TEST_CASE(
    "whatever the server does, in the end the cache and the folded events equal its content") {
  for (unsigned seed = 1; seed <= 12; ++seed) {
    TroubledServer server(seed);
    runtime::Informer<Thing> informer(Quick(seed % 2 == 0), ThingFormat(), server);
    std::mutex mutex;
    std::map<std::string, std::string> folded;
    informer.AddHandler([&](const runtime::ObjectEvent<Thing>& event) {
      std::lock_guard lock(mutex);
      if (event.kind == runtime::ObjectEventKind::kDeleted) {
        CHECK(folded.erase(event.key.name) == 1);
      } else {
        CHECK(folded.contains(event.key.name) == (event.kind != runtime::ObjectEventKind::kAdded));
        folded[event.key.name] = event.object->meta.resource_version;
      }
    });
    std::jthread thread([&](std::stop_token stop) { (void)informer.Run(stop); });
    for (int i = 0; i < 300; ++i) server.Change();
    server.Calm();
    const auto content = [&] {
      std::map<std::string, std::string> all;
      informer.Cache().ForEach(
          [&](const Thing& thing) { all[thing.meta.name] = thing.meta.resource_version; });
      std::string text;
      for (const auto& [name, version] : all)
        text += (text.empty() ? "" : " ") + name + "@" + version;
      return text;
    };
    // Its content may have been the same before its last changes, too.
    CHECK(Eventually([&] {
      return informer.Stats().resource_version == "300" && content() == server.Content();
    }));
    thread.request_stop();
    thread.join();
    std::string text;
    for (const auto& [name, version] : folded)
      text += (text.empty() ? "" : " ") + name + "@" + version;
    CHECK(text == server.Content());
  }
}
