#include <doctest/doctest.h>

#include "runtime/informer/scripted_list_watch.hpp"
#include "support/fake_clock.hpp"

using namespace runtime_test;  // NOLINT: the vocabulary of these tests.
using base::Code;
using base::Millis;

TEST_CASE(
    "the initial stream is published at its marker, whatever bookmarks and versions come before") {
  ScriptedListWatch source;
  source.WatchStays({{kAdded, Json("a", "u1", "9")},
                     {kBookmark, Bookmark("50")},  // Not the end.
                     {kAdded, Json("b", "u2", "7")},
                     {kAdded, Json("c", "u3", "3")},
                     {kBookmark, Bookmark("20", true)}});
  RunningInformer run(Quick(true), source);
  run.Start();
  REQUIRE(run.AwaitVersion("20"));  // The marker's, not an object's.
  CHECK(run.informer.HasSynced());
  CHECK(run.Content() == "a@9 b@7 c@3");
  CHECK(run.Seen().size() == 3);
  source.Push(kModified, Json("b", "u2", "21"));
  REQUIRE(run.AwaitVersion("21"));
  CHECK(run.Seen().back() == "~b@21");
  CHECK(source.Calls() == Strings{"watch rv= initial"});  // One connection for both.
}

TEST_CASE("only a bookmark whose own annotation says true ends the initial stream") {
  const std::string mark = R"("annotations":{"k8s.io/initial-events-end":"true"})";
  const auto bookmark = [](const std::string& members) {
    return R"({"metadata":{"resourceVersion":"50")" + members + "}";
  };
  std::string marked = Json("a", "u1", "9");
  marked.insert(marked.find(R"("name")"), mark + ",");
  ScriptedListWatch source;
  source.WatchStays(
      {{kAdded, marked},  // An object that bears it is an object.
       {kBookmark, bookmark(R"(,"annotations":{"k8s.io/initial-events-end":"false"}})")},
       {kBookmark, bookmark(R"(,"annotations":{"k8s.io/initial-events-end":true}})")},
       {kBookmark, bookmark(R"(,"annotations":{"k8s.io/initial-events-end":""}})")},
       {kBookmark, bookmark(R"(,"annotations":{"k8s.io/initial-events":"true"}})")},
       {kBookmark, bookmark(R"(,"labels":{"k8s.io/initial-events-end":"true"}})")},
       {kBookmark, bookmark("}," + mark)},  // Beside the metadata.
       {kAdded, Json("b", "u2", "7")},
       {kBookmark, Bookmark("20", true)}});
  RunningInformer run(Quick(true), source);
  run.Start();
  REQUIRE(run.AwaitVersion("20"));
  // Had the set ended before b, it would have been told as something new.
  CHECK(run.Seen() == Strings{"+b@7*", "+a@9*"});
  CHECK(source.Calls() == Strings{"watch rv= initial"});
}

TEST_CASE("nothing of an initial stream is visible before its marker, and a cut drops it") {
  ScriptedListWatch source;
  source.WatchOf({{kAdded, Json("a", "u1", "9")}, {kAdded, Json("b", "u2", "8")}},
                 base::MakeError(Code::kUnavailable, "cut"));
  source.WatchStays({{kAdded, Json("a", "u1", "9")}, {kBookmark, Bookmark("30", true)}});
  RunningInformer run(Quick(true), source);
  run.Start();
  REQUIRE(run.AwaitVersion("30"));
  CHECK(run.Content() == "a@9");
  CHECK(run.Seen() == Strings{"+a@9*"});
  CHECK(source.Calls() == Strings{"watch rv= initial", "watch rv= initial"});
}

TEST_CASE("what is modified or deleted inside of the initial stream is staged so") {
  ScriptedListWatch source;
  source.WatchStays({{kAdded, Json("a", "u1", "1")},
                     {kAdded, Json("b", "u2", "2")},
                     {kModified, Json("a", "u1", "3")},
                     {kDeleted, Json("b", "u2", "4")},
                     {kBookmark, Bookmark("4", true)}});
  RunningInformer run(Quick(true), source);
  run.Start();
  REQUIRE(run.AwaitVersion("4"));
  CHECK(run.Content() == "a@3");
  CHECK(run.Seen() == Strings{"+a@3*"});
}

TEST_CASE("a refused initial stream falls back to one list at once") {
  for (const Code code : {Code::kInvalid, Code::kNotFound, Code::kForbidden}) {
    ScriptedListWatch source;
    source.WatchFails(code);
    source.ListOf("10", {Json("a", "u1", "5")});
    RunningInformer run(Quick(true), source);
    run.Start();
    REQUIRE(source.AwaitCalls(3));
    CHECK(source.Calls() == Strings{"watch rv= initial", "list rv= page=500", "watch rv=10"});
    CHECK(run.Content() == "a@5");
    CHECK(run.informer.Stats().listing == (code == Code::kInvalid));
  }
}

TEST_CASE("a stream that never ends its initial set demotes the informer to lists") {
  support::FakeClock clock;
  runtime::InformerOptions options = Quick(true);
  options.clock = &clock;
  options.marker_attempts = 2;
  ScriptedListWatch source;
  source.WatchStays({{kAdded, Json("a", "u1", "1")}});
  source.WatchStays({{kAdded, Json("a", "u1", "1")}});
  source.ListOf("10", {Json("a", "u1", "1")});
  RunningInformer run(options, source);
  run.Start();
  REQUIRE(Eventually([&] {
    clock.Advance(Millis{20'000});
    // The stream is alive all the time: it is not silence that ends it.
    source.Push(kModified, Json("a", "u1", "2"));
    return run.informer.HasSynced();
  }));
  CHECK(run.informer.Stats().listing);
  REQUIRE(source.AwaitCalls(4));
  const auto calls = source.Calls();
  CHECK(Strings(calls.begin(), calls.begin() + 4) ==
        Strings{"watch rv= initial", "watch rv= initial", "list rv= page=500", "watch rv=10"});
}

TEST_CASE("an initial stream may take as long as it likes while objects come") {
  support::FakeClock clock;
  runtime::InformerOptions options = Quick(true);
  options.clock = &clock;
  ScriptedListWatch source;
  source.WatchStays({{kAdded, Json("a0", "u0", "1")}});
  RunningInformer run(options, source);
  run.Start();
  for (int i = 1; i <= 10; ++i) {
    REQUIRE(Eventually([&] { return run.informer.Stats().events == static_cast<uint64_t>(i); }));
    clock.Advance(Millis{50'000});
    source.Push(kAdded, Json("a" + std::to_string(i), "u" + std::to_string(i), "1"));
  }
  source.Push(kBookmark, Bookmark("5", true));
  REQUIRE(run.AwaitVersion("5"));
  CHECK(run.Seen().size() == 11);
  CHECK(source.Calls() == Strings{"watch rv= initial"});
}

TEST_CASE("a server that says when to come again is asked for the stream again, however often") {
  ScriptedListWatch source;
  base::Error busy = base::MakeError(Code::kUnavailable, "storage is (re)initializing");
  busy.retry_after = Millis{1};
  for (int i = 0; i < 5; ++i) source.WatchOf({}, busy);
  source.WatchStays({{kAdded, Json("a", "u1", "1")}, {kBookmark, Bookmark("5", true)}});
  runtime::InformerOptions options = Quick(true);
  options.marker_attempts = 2;
  RunningInformer run(options, source);
  run.Start();
  REQUIRE(run.informer.WaitForSync({}, Millis{10'000}).has_value());
  CHECK(run.Content() == "a@1");
  CHECK_FALSE(run.informer.Stats().listing);
  CHECK(run.informer.Stats().lists == 0);
}

TEST_CASE("connections that are lost within the initial stream do not demote the informer") {
  ScriptedListWatch source;
  runtime::InformerOptions options = Quick(true);
  options.marker_attempts = 2;
  // Down, then up: two resets, a list that fails as well, one more, a list that comes through.
  for (int i = 0; i < 3; ++i)
    source.WatchOf({{kAdded, Json("a", "u1", "1")}},
                   base::MakeError(Code::kUnavailable, "connection reset", "ConnectionLost"));
  source.ListFails(Code::kUnavailable);
  source.ListOf("10", {Json("a", "u1", "5")});
  source.WatchOf({{kError, StatusJson(410, "Expired")}});
  source.WatchStays({{kAdded, Json("a", "u1", "5")}, {kBookmark, Bookmark("20", true)}});
  RunningInformer run(options, source);
  run.Start();
  REQUIRE(run.AwaitVersion("20"));
  CHECK_FALSE(run.informer.Stats().listing);
  CHECK(source.Calls() == Strings{"watch rv= initial", "watch rv= initial", "list rv= page=500",
                                  "watch rv= initial", "list rv= page=500", "watch rv=10",
                                  "watch rv= initial"});
}

TEST_CASE("a stop before the sync says what the server said last") {
  ScriptedListWatch source;
  source.ListFails(Code::kForbidden);
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(source.AwaitCalls(2));
  std::stop_source stop;
  stop.request_stop();
  const auto waited = run.informer.WaitForSync(stop.get_token());
  REQUIRE_FALSE(waited);
  CHECK(waited.error().message == "stopped before things synced: list as scripted");
}

TEST_CASE("an empty list counts as synced") {
  ScriptedListWatch source;
  source.ListOf("1", {});
  RunningInformer run(Quick(false), source);
  run.Start();
  CHECK(run.informer.WaitForSync({}, Millis{10'000}).has_value());
  CHECK(run.Seen().empty());
}

TEST_CASE("synced means that every handler has seen the initial set") {
  ScriptedListWatch source;
  source.ListOf("3", {Json("a", "u1", "1"), Json("b", "u2", "2")});
  RunningInformer run(Quick(false), source);
  std::atomic<int> slow{0};
  run.informer.AddHandler([&](const auto& event) {
    CHECK(event.initial);
    CHECK(event.WakePriority() == runtime::Priority::kLow);
    CHECK_FALSE(run.informer.HasSynced());
    ++slow;
  });
  run.Start();
  REQUIRE(run.informer.WaitForSync({}, Millis{10'000}).has_value());
  CHECK(slow == 2);
  CHECK(run.Seen().size() == 2);
}

TEST_CASE("a failed page publishes nothing and keeps the old content") {
  ScriptedListWatch source;
  source.ListOf("10", {Json("a", "u1", "5"), Json("b", "u2", "6")});
  source.WatchFails(Code::kGone);
  source.ListFails(Code::kUnavailable, {Json("a", "u1", "5")});  // Cut after the first object.
  source.ListOf("12", {Json("a", "u1", "5"), Json("c", "u3", "11")});
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(run.AwaitVersion("12"));
  // b went once, with the complete list; a was never told again.
  Strings seen = run.Seen();
  std::sort(seen.begin(), seen.begin() + 2);
  CHECK(seen == Strings{"+a@5*", "+b@6*", "+c@11", "-b@6?"});
}

TEST_CASE("an expired continuation makes one full list without pages") {
  ScriptedListWatch source;
  source.ListFails(Code::kGone, {Json("a", "u1", "5")});
  source.ListOf("10", {Json("b", "u2", "6")});
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(source.AwaitCalls(3));
  CHECK(source.Calls() == Strings{"list rv= page=500", "list rv= page=0", "watch rv=10"});
  CHECK(run.Content() == "b@6");
}

TEST_CASE("a relist asks for a state not older than the last one, then for any") {
  for (const Code code : {Code::kGone, Code::kTimeout, Code::kInvalid}) {
    ScriptedListWatch source;
    source.ListOf("10", {});
    source.WatchFails(Code::kGone);
    source.ListFails(code);
    source.ListOf("8", {Json("a", "u1", "4")});  // The store went back: a restored etcd.
    RunningInformer run(Quick(false), source);
    run.Start();
    REQUIRE(source.AwaitCalls(5));
    CHECK(source.Calls() == Strings{"list rv= page=500", "watch rv=10", "list rv=10 page=0",
                                    "list rv= page=500", "watch rv=8"});
    CHECK(run.Content() == "a@4");
  }
}

TEST_CASE("410 in every form lists again and is never fatal") {
  const auto in_stream = [](int code, const char* reason) {
    return ScriptedListWatch::Events{{kError, StatusJson(code, reason)}};
  };
  for (int form = 0; form < 4; ++form) {
    ScriptedListWatch source;
    source.ListOf("10", {Json("a", "u1", "5")});
    if (form == 0) source.WatchFails(Code::kGone);
    if (form == 1) source.WatchOf(in_stream(410, "Expired"));
    if (form == 2) source.WatchOf(in_stream(410, "Gone"));
    if (form == 3) source.WatchOf(in_stream(0, "Expired"));
    source.ListOf("20", {Json("a", "u1", "15")});
    RunningInformer run(Quick(false), source);
    run.Start();
    REQUIRE(run.AwaitVersion("20"));
    CHECK(run.Seen() == Strings{"+a@5*", "~a@15"});
  }
}

TEST_CASE("a relist tells of what vanished, changed and was replaced, and is silent on the rest") {
  ScriptedListWatch source;
  source.ListOf("10", {Json("gone", "u1", "1"), Json("same", "u2", "2"), Json("changed", "u3", "3"),
                       Json("reborn", "u4", "4")});
  source.WatchFails(Code::kGone);
  source.ListOf("20", {Json("same", "u2", "2"), Json("changed", "u3", "13", "t"),
                       Json("reborn", "u5", "14"), Json("fresh", "u6", "15")});
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(run.AwaitVersion("20"));
  Strings seen = run.Seen();
  seen.erase(seen.begin(), seen.begin() + 4);
  const auto at = [&](const std::string& text) {
    return std::find(seen.begin(), seen.end(), text) - seen.begin();
  };
  CHECK(seen.size() == 5);
  CHECK(at("-reborn@4?") < at("+reborn@14"));
  CHECK(at("+reborn@14") < 5);
  CHECK(at("~changed@13") < 5);
  CHECK(at("+fresh@15") < 5);
  CHECK(at("-gone@1?") < 5);
  // The index moved with the store.
  CHECK(run.informer.Cache().ByIndex("t").size() == 1);
  CHECK(run.informer.Cache().ByIndex("s").size() == 3);
}

TEST_CASE("an object that cannot be decoded is set aside and the others flow") {
  for (const char* bad : {"BAD", "THROW"}) {
    ScriptedListWatch source;
    source.ListOf("10", {Json("a", "u1", "1"), Json("b", "u2", "2", bad), Json("c", "u3", "3")});
    source.WatchStays({});
    RunningInformer run(Quick(false), source);
    run.Start();
    REQUIRE(run.AwaitVersion("10"));
    CHECK(run.Content() == "a@1 c@3");
    REQUIRE(run.informer.Quarantine().size() == 1);
    CHECK(run.informer.Quarantine()[0].key == Key("b"));
    CHECK(run.informer.Quarantine()[0].resource_version == "2");
    source.Push(kModified, Json("b", "u2", "11"));
    REQUIRE(run.AwaitVersion("11"));
    CHECK(run.informer.Quarantine().empty());
    CHECK(run.Content() == "a@1 b@11 c@3");
    // It gets bad again: the last good version stays, until it is deleted.
    source.Push(kModified, Json("b", "u2", "12", bad));
    REQUIRE(run.AwaitVersion("12"));
    CHECK(run.Content() == "a@1 b@11 c@3");
    source.Push(kDeleted, Json("b", "u2", "13", bad));
    REQUIRE(run.AwaitVersion("13"));
    CHECK(run.Content() == "a@1 c@3");
    CHECK(run.Seen().back() == "-b@11");
    CHECK(run.informer.Quarantine().empty());
  }
}

TEST_CASE("what cannot be decoded is counted, and only so much of it is remembered") {
  ScriptedListWatch source;
  Strings objects;
  for (int i = 0; i < 30; ++i) objects.push_back(Json("b" + std::to_string(i), "u", "1", "BAD"));
  source.ListOf("10", objects);
  source.WatchStays({{kModified, Json("b40", "u", "11", "BAD")}, {kBookmark, Bookmark("12")}});
  auto options = Quick(false);
  options.quarantine_limit = 10;
  RunningInformer run(options, source);
  run.Start();
  REQUIRE(run.AwaitVersion("12"));
  CHECK(run.informer.Quarantine().size() == 10);
  CHECK(run.informer.Stats().quarantined_total == 31);
}

TEST_CASE("a relist does not delete what is there but cannot be decoded") {
  ScriptedListWatch source;
  source.ListOf("10", {Json("a", "u1", "1")});
  source.WatchFails(Code::kGone);
  source.ListOf("20", {Json("a", "u1", "15", "BAD")});
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(run.AwaitVersion("20"));
  CHECK(run.Content() == "a@1");
  CHECK(run.Seen() == Strings{"+a@1*"});
  CHECK(run.informer.Quarantine().size() == 1);
}

TEST_CASE("a missing kind or permission is shown, retried, and mended without a restart") {
  for (const Code code : {Code::kNotFound, Code::kForbidden}) {
    ScriptedListWatch source;
    for (int i = 0; i < 3; ++i) source.ListFails(code);
    std::atomic<bool> installed{false};
    source.OnList([&](const auto&, const auto&) -> base::Result<std::string> {
      Eventually([&] { return installed.load(); });
      return std::string("5");
    });
    RunningInformer run(Quick(false), source);
    run.Start();
    REQUIRE(source.AwaitCalls(4));
    CHECK_FALSE(run.informer.HasSynced());
    CHECK(run.informer.Stats().last_error == "list as scripted");
    const auto waited = run.informer.WaitForSync({}, Millis{0});
    REQUIRE_FALSE(waited);
    CHECK(waited.error().code == Code::kTimeout);
    CHECK(waited.error().message.find("list as scripted") != std::string::npos);
    installed = true;
    CHECK(run.informer.WaitForSync({}, Millis{10'000}).has_value());
    CHECK(run.informer.Stats().last_error.empty());
  }
}
