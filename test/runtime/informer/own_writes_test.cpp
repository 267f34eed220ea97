#include "runtime/informer/own_writes.hpp"

#include <doctest/doctest.h>

#include "runtime/informer/scripted_list_watch.hpp"
#include "support/fake_clock.hpp"

using namespace runtime_test;  // NOLINT: the vocabulary of these tests.
using base::Code;
using base::Millis;

namespace {

/// An informer that has synced `a@9` (spec s) at version 10, with an open watch.
struct Synced {
  explicit Synced(runtime::InformerOptions options = Quick(false))
      : run(std::move(options), source) {
    source.ListOf("10", {Json("a", "u1", "9")});
    source.WatchStays({});
    run.Start();
    CHECK(run.AwaitVersion("10"));
    CHECK(source.AwaitCalls(2));
    run.ClearSeen();
  }
  ScriptedListWatch source;
  RunningInformer run;
  runtime::Informer<Thing>& informer = run.informer;
};

/// The next watch is silent until `gone`; then its version has been forgotten.
void WatchUntilGone(ScriptedListWatch& source, const std::atomic<bool>& gone) {
  source.OnWatch([&gone](const auto&, const auto&, std::stop_token) -> base::Status {
    Eventually([&] { return gone.load(); });
    return base::MakeError(Code::kGone, "compacted");
  });
}

}  // namespace

TEST_CASE(
    "an own write is visible at once while the watch is held back, and its echo wakes nobody") {
  Synced s;
  s.informer.ObserveWrite(MakeThing("a", "u1", "12", "s", "written"));
  CHECK(s.informer.Get(Key("a"))->status == "written");
  CHECK(s.informer.WaitFor(Key("a"), Millis{0}).has_value());
  s.source.Push(kModified, Json("a", "u1", "12", "s", "written"));
  REQUIRE(s.run.AwaitVersion("12"));
  CHECK(s.run.Seen().empty());
  CHECK(s.informer.Stats().own_writes == 1);
}

TEST_CASE(
    "a foreign edit between our read and our write still wakes, though our answer lies on top") {
  Synced s;
  // The answer of a status patch shows the foreign spec as well: told at once.
  s.informer.ObserveWrite(MakeThing("a", "u1", "12", "foreign", "written"));
  CHECK(s.run.Seen() == Strings{"~a@12"});
  // Its own event comes late: the content does not go back, and somebody looks again.
  s.source.Push(kModified, Json("a", "u1", "11", "foreign"));
  s.source.Push(kModified, Json("a", "u1", "12", "foreign", "written"));
  REQUIRE(s.run.AwaitVersion("12"));
  CHECK(s.run.Seen() == Strings{"~a@12", "~a@12"});
  CHECK(s.informer.Get(Key("a"))->spec == "foreign");
}

TEST_CASE("a foreign status write beneath our own wakes too") {
  Synced s;
  s.informer.ObserveWrite(MakeThing("a", "u1", "12", "s", "ours"));
  CHECK(s.run.Seen().empty());
  s.source.Push(kModified, Json("a", "u1", "11", "s", "theirs"));
  s.source.Push(kModified, Json("a", "u1", "12", "s", "ours"));
  REQUIRE(s.run.AwaitVersion("12"));
  CHECK(s.run.Seen() == Strings{"~a@12"});
  CHECK(s.informer.Get(Key("a"))->status == "ours");
}

TEST_CASE(
    "a late answer does not resurrect what was deleted meanwhile, nor roll back what is newer") {
  Synced s;
  s.source.Push(kDeleted, Json("a", "u1", "15"));
  REQUIRE(s.run.AwaitVersion("15"));
  s.informer.ObserveWrite(MakeThing("a", "u1", "12", "s", "late"));
  CHECK(s.informer.Get(Key("a")) == nullptr);
  s.source.Push(kAdded, Json("b", "u2", "20", "s", "new"));
  REQUIRE(s.run.AwaitVersion("20"));
  s.informer.ObserveWrite(MakeThing("b", "u2", "18", "s", "old"));
  CHECK(s.informer.Get(Key("b"))->status == "new");
  // Nor what the answer of a later write has put there, which the watch has not shown.
  s.informer.ObserveWrite(MakeThing("b", "u2", "30", "s", "second"));
  s.informer.ObserveWrite(MakeThing("b", "u2", "25", "s", "first"));
  CHECK(s.informer.Get(Key("b"))->status == "second");
}

TEST_CASE(
    "a late answer resurrects nothing that a relist has lost, nor a late relist our deletion") {
  ScriptedListWatch source;
  source.ListOf("10", {Json("a", "u1", "9"), Json("b", "u2", "8")});
  std::atomic<bool> gone{false};
  WatchUntilGone(source, gone);
  source.ListOf("15", {Json("b", "u2", "8")});
  source.WatchStays({});
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(run.AwaitVersion("10"));
  run.informer.ObserveDelete(Key("b"), "u2");
  run.ClearSeen();
  gone = true;
  REQUIRE(run.AwaitVersion("15"));
  run.informer.ObserveWrite(MakeThing("a", "u1", "12", "s", "late"));
  run.informer.ObserveWrite(MakeThing("b", "u2", "16", "s", "late"));
  source.Push(kModified, Json("b", "u2", "16", "s", "late"));
  source.Push(kDeleted, Json("b", "u2", "17"));
  source.Push(kAdded, Json("b", "u3", "18"));
  REQUIRE(run.AwaitVersion("18"));
  CHECK(run.Seen() == Strings{"-a@9?", "+b@18"});
  // The answer of that deletion comes late, too.
  run.informer.ObserveDelete(Key("b"), "u2");
  CHECK(run.Content() == "b@18");
}

TEST_CASE("an own create is in the cache at once and its echo is no second add") {
  Synced s;
  s.informer.ObserveWrite(MakeThing("n", "u5", "12"));
  REQUIRE(s.informer.Get(Key("n")) != nullptr);
  s.source.Push(kAdded, Json("n", "u5", "12"));
  REQUIRE(s.run.AwaitVersion("12"));
  CHECK(s.run.Seen() == Strings{"+n@12"});
  // Created by us, deleted by another before the watch showed either.
  s.informer.ObserveWrite(MakeThing("m", "u6", "14"));
  s.source.Push(kAdded, Json("m", "u6", "14"));
  s.source.Push(kDeleted, Json("m", "u6", "15"));
  REQUIRE(s.run.AwaitVersion("15"));
  CHECK(s.informer.Get(Key("m")) == nullptr);
}

TEST_CASE("an own delete drops the object at once and late events do not bring it back") {
  Synced s;
  s.informer.ObserveDelete(Key("a"), "u1");
  CHECK(s.informer.Get(Key("a")) == nullptr);
  s.informer.ObserveWrite(MakeThing("a", "u1", "11"));  // The answer of a write before it.
  CHECK(s.informer.Get(Key("a")) == nullptr);
  s.source.Push(kModified, Json("a", "u1", "11"));
  s.source.Push(kDeleted, Json("a", "u1", "12"));
  s.source.Push(kAdded, Json("a", "u2", "13"));
  REQUIRE(s.run.AwaitVersion("13"));
  CHECK(s.run.Seen() == Strings{"-a@9", "+a@13"});
}

TEST_CASE("a write known only by its version is waited for, and its echo is recognised") {
  support::FakeClock clock;
  auto options = Quick(false);
  options.clock = &clock;
  Synced s(options);
  s.informer.ObserveWrite(Key("a"), "12");
  const auto early = s.informer.WaitFor(Key("a"), Millis{0});
  REQUIRE_FALSE(early);
  CHECK(early.error().code == Code::kTimeout);
  CHECK(early.error().message.find("ns/a") != std::string::npos);
  base::Status waited = base::MakeError(Code::kInternal, "not run");
  std::jthread waiter([&] { waited = s.informer.WaitFor(Key("a"), Millis{60'000}); });
  s.source.Push(kModified, Json("a", "u1", "12", "s", "written"));
  waiter.join();
  CHECK(waited.has_value());
  CHECK(s.run.Seen().empty());
  CHECK(s.informer.Get(Key("a"))->status == "written");
}

TEST_CASE("a foreign status change before the echo of a known version wakes") {
  Synced s;
  s.informer.ObserveWrite(Key("a"), "12");
  s.source.Push(kModified, Json("a", "u1", "11", "s", "theirs"));
  s.source.Push(kModified, Json("a", "u1", "12", "s", "ours"));
  REQUIRE(s.run.AwaitVersion("12"));
  CHECK(s.run.Seen() == Strings{"~a@11"});
  CHECK(s.informer.Stats().own_writes == 1);
}

TEST_CASE("an own write that no list shows is believed for a minute and no longer") {
  for (const bool late : {false, true}) {
    CAPTURE(late);
    support::FakeClock clock;
    auto options = Quick(false);
    options.clock = &clock;
    options.liveness = Millis{100'000'000};
    ScriptedListWatch source;
    source.ListOf("10", {Json("a", "u1", "9")});
    std::atomic<bool> gone{false};
    WatchUntilGone(source, gone);
    source.ListOf("15", {Json("a", "u1", "9")});  // Of a store that was restored, it may be.
    source.WatchStays({});
    RunningInformer run(options, source);
    run.Start();
    REQUIRE(run.AwaitVersion("10"));
    run.informer.ObserveWrite(MakeThing("c", "u3", "21", "s", "created"));
    run.informer.ObserveWrite(MakeThing("a", "u1", "20", "s", "written"));
    clock.Advance(Millis{late ? 60'001 : 59'999});
    gone = true;
    REQUIRE(run.AwaitVersion("15"));
    CHECK(run.Content() == (late ? "a@9" : "a@20 c@21"));
  }
}

TEST_CASE("an echo of a known version that carries more than status is not suppressed") {
  Synced s;
  s.informer.ObserveWrite(Key("a"), "12");
  s.source.Push(kModified, Json("a", "u1", "12", "foreign", "written"));
  REQUIRE(s.run.AwaitVersion("12"));
  CHECK(s.run.Seen() == Strings{"~a@12"});
}

TEST_CASE("another key's bookmark past our version ends the wait") {
  Synced s;
  s.informer.ObserveWrite(Key("a"), "12");
  s.source.Push(kBookmark, Bookmark("13"));
  CHECK(s.informer.WaitFor(Key("a"), Millis{10'000}).has_value());
}

TEST_CASE("a relist suppresses nothing, and keeps an own write that is newer than the list") {
  ScriptedListWatch source;
  source.ListOf("10", {Json("a", "u1", "9"), Json("b", "u2", "8")});
  std::atomic<bool> gone{false};
  WatchUntilGone(source, gone);
  source.ListOf("15", {Json("a", "u1", "12", "s", "ours"), Json("b", "u2", "8")});
  source.WatchStays({});
  RunningInformer run(Quick(false), source);
  run.Start();
  REQUIRE(run.AwaitVersion("10"));
  run.ClearSeen();
  run.informer.ObserveWrite(MakeThing("a", "u1", "12", "s", "ours"));
  run.informer.ObserveWrite(MakeThing("b", "u2", "20", "s", "newer"));
  run.informer.ObserveWrite(MakeThing("c", "u3", "21", "s", "created"));
  CHECK(run.Seen() == Strings{"+c@21"});
  gone = true;
  REQUIRE(run.AwaitVersion("15"));
  CHECK(run.Content() == "a@12 b@20 c@21");
  CHECK(
      run.AwaitSeen({"+c@21", "~a@12"}));  // a's echo passed unseen: a foreign change may have too.
}

TEST_CASE("an echo that came before the answer woke once and is counted as a self trigger") {
  Synced s;
  std::atomic<int> told{0};
  s.informer.OnSelfTrigger([&](const meta::ObjectKey& key) { told += key == Key("a") ? 1 : 100; });
  s.source.Push(kModified, Json("a", "u1", "12", "s", "written"));
  REQUIRE(s.run.AwaitVersion("12"));
  s.informer.ObserveWrite(MakeThing("a", "u1", "12", "s", "written"));
  CHECK(s.run.Seen() == Strings{"~a@12"});
  CHECK(told == 1);
  CHECK(s.informer.Stats().self_triggers == 1);
}

TEST_CASE("an echo that comes while its write is under way wakes nobody, a foreign change does") {
  Synced s;
  {
    const runtime::Informer<Thing>::WriteInFlight flight(s.informer, Key("a"));
    s.source.Push(kModified, Json("a", "u1", "12", "s", "written"));
    REQUIRE(s.run.AwaitVersion("12"));
    CHECK(s.run.Seen().empty());
    CHECK(s.informer.Get(Key("a"))->status == "written");
    s.informer.ObserveWrite(MakeThing("a", "u1", "12", "s", "written"));
  }
  CHECK(s.run.Seen().empty());
  CHECK(s.informer.Stats().self_triggers == 0);
  {
    const runtime::Informer<Thing>::WriteInFlight flight(s.informer, Key("a"));
    s.source.Push(kModified, Json("a", "u1", "13", "s", "theirs"));
    s.source.Push(kModified, Json("a", "u1", "14", "s", "ours"));
    REQUIRE(s.run.AwaitVersion("14"));
    s.informer.ObserveWrite(MakeThing("a", "u1", "14", "s", "ours"));
    CHECK(s.run.Seen().empty());
  }
  CHECK(s.run.Seen() == Strings{"~a@14"});
  s.run.ClearSeen();
  {
    const runtime::Informer<Thing>::WriteInFlight outer(s.informer, Key("a"));
    {
      const runtime::Informer<Thing>::WriteInFlight inner(s.informer, Key("a"));
      s.source.Push(kModified, Json("a", "u1", "15", "s", "of a call whose answer was lost"));
      REQUIRE(s.run.AwaitVersion("15"));
    }
    CHECK(s.run.Seen().empty());
    s.source.Push(kModified, Json("a", "u1", "16", "another spec", "x"));
    REQUIRE(s.run.AwaitVersion("16"));
    CHECK(s.run.Seen() == Strings{"~a@16"});
  }
  CHECK(s.run.AwaitSeen({"~a@16", "~a@16"}));
}

TEST_CASE("of own writes whose echo never comes only so many are remembered, the newest of a key") {
  runtime::OwnWrites own;
  constexpr int kAll = 25'000;
  for (int i = 0; i < kAll; ++i) own.Add(Key(std::to_string(i)), "5", {});
  int known = 0;
  for (int i = 0; i < kAll; ++i) known += own.Any(Key(std::to_string(i)));
  CHECK(known == 20'000);
  // Those that were written last: nothing older than them may be taken for the newest.
  for (int i = kAll - 20'000; i < kAll; ++i) {
    REQUIRE(own.Any(Key(std::to_string(i))));
    REQUIRE(own.NewerThan(Key(std::to_string(i)), "4", {}));
  }
  own.Add(Key("5000"), "6", {});
  own.Add(Key("one more"), "6", {});
  CHECK(own.Any(Key("5000")));
  CHECK_FALSE(own.Any(Key("5001")));
  runtime::OwnWrites of_one;
  for (int i = 1; i <= 100; ++i) of_one.Add(Key("a"), std::to_string(i), {});
  CHECK(of_one.Newest(Key("a")) == "100");
  CHECK_FALSE(of_one.Take(Key("a"), "50"));
  CHECK(of_one.Take(Key("a"), "93"));
  CHECK(of_one.Take(Key("a"), "100"));
  CHECK_FALSE(of_one.Any(Key("a")));
}

TEST_CASE("of deletions and status changes only the newest are remembered, so many of each") {
  constexpr int kAll = 5'000, kKept = 4'096;
  Synced s;
  const auto push = [&](WatchEventType type, int base, const std::string& status) {
    for (int i = 0; i < kAll; ++i)
      s.source.Push(type, Json(std::to_string(i), "u", std::to_string(base + i), "s", status));
    REQUIRE(s.run.AwaitVersion(std::to_string(base + kAll - 1)));
  };
  push(kAdded, 10'000, "");
  push(kModified, 20'000, "theirs");
  std::atomic<int> first{kAll};
  s.informer.OnSelfTrigger([&](const meta::ObjectKey& key) {
    if (first == kAll) first = std::stoi(key.name);
  });
  for (int i = 0; i < kAll; ++i)
    s.informer.ObserveWrite(Key(std::to_string(i)), std::to_string(20'000 + i));
  CHECK(s.informer.Stats().self_triggers == kKept);
  CHECK(first == kAll - kKept);
  for (int i = 0; i < kAll; ++i) s.informer.ObserveDelete(Key(std::to_string(i)), "u");
  CHECK(s.run.Content() == "a@9");
  push(kModified, 30'000, "late");
  CHECK(s.informer.Stats().objects == 1 + kAll - kKept);
  CHECK(s.informer.Get(Key(std::to_string(kAll - kKept - 1))) != nullptr);
  CHECK(s.informer.Get(Key(std::to_string(kAll - kKept))) == nullptr);
}

TEST_CASE("of the changes held back for a write under way only so many are remembered") {
  constexpr int kKept = 4'096;
  Synced s;
  const runtime::Informer<Thing>::WriteInFlight flight(s.informer, Key("a"));
  for (int i = 0; i <= kKept; ++i)
    s.source.Push(kModified, Json("a", "u1", std::to_string(40'000 + i), "s", std::to_string(i)));
  REQUIRE(s.run.AwaitVersion(std::to_string(40'000 + kKept)));
  for (const int at : {kKept - 1, kKept})
    s.informer.ObserveWrite(Key("a"), std::to_string(40'000 + at));
  CHECK(s.informer.Stats().own_writes == 1);
}
