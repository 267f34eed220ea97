#include "fleet/heartbeat_table.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <random>
#include <thread>

#include "support/fake_clock.hpp"

namespace {

using base::Millis;

base::Now At(int64_t millis) {
  return {base::WallTime{Millis{millis}}, base::MonoTime{Millis{1'000'000 + millis}}};
}

protocol::Heartbeat Beat(const std::string& boot_id, int64_t sequence) {
  protocol::Heartbeat heartbeat;
  heartbeat.workspace = "uid-1";
  heartbeat.boot_id = boot_id;
  heartbeat.sequence = sequence;
  return heartbeat;
}

fleet::SlotSettings Settings(const std::string& n, const std::string& token) {
  fleet::SlotSettings settings;
  settings.uid = "uid-" + n;
  settings.key = {"team", "ws-" + n};
  settings.token_hash = base::Sha256Of(token);
  settings.timeout = Millis{10'000};
  return settings;
}

/// A table that has taken over, with one workspace uid-1 (token `one`).
struct Fixture {
  std::vector<std::string> expired;
  fleet::HeartbeatTable table{
      {.tick = Millis{250}}, [this](const meta::ObjectKey& key) { expired.push_back(key.Text()); }};
  fleet::Slot slot;
  Fixture() {
    table.TakeOver(At(0));
    table.Upsert(Settings("1", "one"), At(0));
    slot = *table.Authenticate("one", At(0).mono);
  }
  base::Result<fleet::Change> Record(protocol::Heartbeat heartbeat, int64_t at = 0) {
    return table.Record(slot, heartbeat, At(at));
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a token opens its own slot and no other") {
  table.Upsert(Settings("2", "two"), At(0));
  const auto second = table.Authenticate("two", At(0).mono);
  REQUIRE(second.has_value());
  CHECK(table.Names(*second, "uid-2"));
  CHECK(table.Names(*second, "team.ws-2"));
  for (const char* other : {"uid-1", "team.ws-1", "team/ws-2", "team.ws-22", "", "team.", "ws-2"}) {
    CHECK_FALSE(table.Names(*second, other));
  }
  for (const char* bad : {"", "three", "one ", "On"}) {
    const auto result = table.Authenticate(bad, At(0).mono);
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().code == base::Code::kUnauthorized);
  }
  auto foreign = Beat("b", 1);
  const auto result = table.Record(*second, foreign, At(0));
  REQUIRE_FALSE(result.has_value());
  CHECK(result.error().code == base::Code::kForbidden);
  CHECK_FALSE(table.Snapshot("uid-1")->last.has_value());
}

TEST_CASE("before the take-over an unknown token cannot be judged, and is never let in") {
  fleet::HeartbeatTable table({}, nullptr);
  const auto result = table.Authenticate("one", At(0).mono);
  REQUIRE_FALSE(result.has_value());
  CHECK(result.error().code == base::Code::kUnavailable);
  CHECK(result.error().retry_after.has_value());
  table.TakeOver(At(0));
  CHECK(table.Authenticate("one", At(0).mono).error().code == base::Code::kUnauthorized);
}

TEST_CASE("an unknown token may be the one that could not be read yet") {
  fleet::HeartbeatTable table({}, nullptr);
  const auto code = [&] { return table.Authenticate("one", At(0).mono).error().code; };
  auto unread = Settings("1", "one");
  unread.token_hash.reset();
  unread.token_unread = true;
  table.Upsert(unread, At(0));
  table.Upsert(Settings("2", "two"), At(0));
  table.TakeOver(At(0));
  table.Upsert(unread, At(0));
  CHECK(code() == base::Code::kUnavailable);
  CHECK(table.Authenticate("one", At(0).mono).error().retry_after.has_value());
  CHECK(table.Authenticate("", At(0).mono).error().code == base::Code::kUnauthorized);
  CHECK(table.Authenticate("two", At(0).mono).has_value());
  SUBCASE("until it is read") {
    table.Upsert(Settings("1", "another"), At(0));
    table.Upsert(Settings("1", "another"), At(0));
  }
  SUBCASE("or its workspace is gone") { table.Remove("uid-1"); }
  SUBCASE("or made anew under its name") {
    auto other = Settings("3", "three");
    other.key = unread.key;
    table.Upsert(other, At(0));
  }
  CHECK(code() == base::Code::kUnauthorized);
}

TEST_CASE("the previous token works until the current one is used, at most a day") {
  const auto rotated = [] {
    auto settings = Settings("1", "new");
    settings.previous_token_hash = base::Sha256Of("old");
    return settings;
  };
  fleet::HeartbeatTable table({}, nullptr);
  table.TakeOver(At(0));
  table.Upsert(Settings("1", "old"), At(0));
  table.Upsert(rotated(), At(0));
  CHECK(table.Authenticate("old", At(0).mono).has_value());
  CHECK(table.Authenticate("new", At(0).mono).has_value());
  CHECK_FALSE(table.Authenticate("old", At(0).mono).has_value());
  table.Upsert(rotated(), At(1));  // a resync of the same Secret brings it not back
  CHECK_FALSE(table.Authenticate("old", At(1).mono).has_value());

  fleet::HeartbeatTable unused({}, nullptr);
  unused.TakeOver(At(0));
  unused.Upsert(rotated(), At(0));
  const int64_t day = 24 * 3600 * 1000;
  CHECK(unused.Authenticate("old", At(day - 1).mono).has_value());
  CHECK_FALSE(unused.Authenticate("old", At(day).mono).has_value());
}

TEST_CASE_FIXTURE(
    Fixture, "a removed workspace's token and slot are void, also when its place is used again") {
  table.Remove("uid-1");
  CHECK_FALSE(table.Authenticate("one", At(0).mono).has_value());
  table.Upsert(Settings("2", "two"), At(0));
  CHECK(Record(Beat("b", 1)).error().code == base::Code::kNotFound);
  CHECK_FALSE(table.Snapshot("uid-1").has_value());
}

TEST_CASE_FIXTURE(Fixture, "a workspace made again under its name starts anew") {
  REQUIRE(Record(Beat("b", 1)).has_value());
  auto again = Settings("9", "nine");
  again.key = {"team", "ws-1"};
  table.Upsert(again, At(0));
  CHECK_FALSE(table.Authenticate("one", At(0).mono).has_value());
  CHECK_FALSE(table.Snapshot("uid-9")->last.has_value());
}

TEST_CASE_FIXTURE(Fixture, "older never overwrites newer") {
  REQUIRE(Record(Beat("a", 5)).has_value());
  CHECK(Record(Beat("a", 5)).error().reason == "StaleSequence");
  CHECK(Record(Beat("a", 4)).error().reason == "StaleSequence");
  REQUIRE(Record(Beat("b", 0)).has_value());
  CHECK(Record(Beat("a", 6)).error().reason == "SupersededBoot");
  CHECK(Record(Beat("a", 6)).error().code == base::Code::kConflict);
  CHECK(table.Snapshot("uid-1")->last->boot_id == "b");
  CHECK(table.Counts().refused == 4);
}

TEST_CASE_FIXTURE(Fixture, "a late report of an earlier start does not keep the present one out") {
  const auto at = [&](int64_t millis, const std::string& boot, int64_t sequence) {
    return Record(Beat(boot, sequence), millis);
  };
  const int64_t half = Settings("1", "one").timeout.count() / 2;
  // A new leader knows nothing of "a" when its last report comes after the first of "b".
  REQUIRE(at(0, "b", 1));
  REQUIRE(at(1, "a", 7));
  CHECK(at(2, "b", 2).error().reason == "SupersededBoot");
  CHECK(at(2 + half, "b", 2).error().reason == "SupersededBoot");  // A replay proves nothing.
  const auto heard = at(3 + half, "b", 3);
  REQUIRE(heard);
  CHECK(heard->boot_changed);
  CHECK(at(4 + half, "b", 4));
  CHECK(at(5 + half, "a", 8).error().reason == "SupersededBoot");
  CHECK(table.Snapshot("uid-1")->last->boot_id == "b");
}

TEST_CASE_FIXTURE(Fixture, "of two agents that go on reporting the newer one counts") {
  const int64_t period = Settings("1", "one").timeout.count() / 3;
  REQUIRE(Record(Beat("a", 1), 0));
  for (int i = 0; i < 20; ++i) {
    CHECK(Record(Beat("b", i), i * period + 1));
    CHECK(Record(Beat("a", 10 + i), (i + 1) * period).error().reason == "SupersededBoot");
  }
}

TEST_CASE_FIXTURE(Fixture, "in any order of arrival the slot only moves forward") {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    table.Remove("uid-1");
    table.Upsert(Settings("1", "one"), At(0));
    slot = *table.Authenticate("one", At(0).mono);
    std::vector<std::pair<int, int>> beats;
    for (int boot = 0; boot < 4; ++boot) {
      for (int n = 0; n < 5; ++n) beats.emplace_back(boot, n);
    }
    std::shuffle(beats.begin(), beats.end(), random);
    std::vector<int> boots_seen;
    std::pair<int, int> current{-1, -1};
    for (const auto& [boot, n] : beats) {
      const bool accepted = Record(Beat(fmt::format("boot-{}", boot), n)).has_value();
      const bool known = std::count(boots_seen.begin(), boots_seen.end(), boot) > 0;
      const bool newer = boot == current.first ? n > current.second : !known;
      CHECK(accepted == newer);
      if (!accepted) continue;
      current = {boot, n};
      boots_seen.push_back(boot);
    }
    const auto last = *table.Snapshot("uid-1")->last;
    CHECK(last.boot_id == fmt::format("boot-{}", current.first));
    CHECK(last.sequence == current.second);
  }
}

TEST_CASE_FIXTURE(Fixture, "what changed is named, and what nobody acts on does not matter") {
  using Edit = void (*)(protocol::Heartbeat&);
  struct Row {
    const char* name;
    Edit edit;
    bool fleet::Change::*flag;  ///< Null: must not matter.
  };
  const Row rows[] = {
      {"the same again", [](protocol::Heartbeat&) {}, nullptr},
      {"task, spend and a low error rate",
       [](protocol::Heartbeat& h) {
         h.current_task = "other";
         h.monthly_spend = 3;
         h.error_rate = 0.49;
       },
       nullptr},
      {"busy to idle while no restart waits", [](protocol::Heartbeat& h) { h.active_tasks = 0; },
       nullptr},
      {"another boot", [](protocol::Heartbeat& h) { h.boot_id = "b"; },
       &fleet::Change::boot_changed},
      {"management", [](protocol::Heartbeat& h) { h.management_present = true; },
       &fleet::Change::gate_changed},
      {"model", [](protocol::Heartbeat& h) { h.model_present = false; },
       &fleet::Change::gate_changed},
      {"tools", [](protocol::Heartbeat& h) { h.loaded_tools = {"t"}; },
       &fleet::Change::gate_changed},
      {"inventory digest", [](protocol::Heartbeat& h) { h.inventory_digest = "d"; },
       &fleet::Change::inventory_changed},
      {"inventory without a digest",
       [](protocol::Heartbeat& h) {
         h.inventory = {{"p", "", "d", true}};
       },
       &fleet::Change::inventory_changed},
      {"error rate over the threshold", [](protocol::Heartbeat& h) { h.error_rate = 0.5; },
       &fleet::Change::error_rate_crossed},
      {"boot install",
       [](protocol::Heartbeat& h) {
         h.boot_install = protocol::BootInstall{protocol::BootInstallState::kFailed, "e"};
       },
       &fleet::Change::boot_install_changed},
  };
  REQUIRE(Record(Beat("a", 1))->first_report);
  int64_t sequence = 2;
  for (const Row& row : rows) {
    INFO(std::string(row.name));
    table.Remove("uid-1");
    table.Upsert(Settings("1", "one"), At(0));
    slot = *table.Authenticate("one", At(0).mono);
    REQUIRE(Record(Beat("a", sequence++))->Matters());
    auto heartbeat = Beat("a", sequence++);
    row.edit(heartbeat);
    const auto change = Record(heartbeat);
    REQUIRE(change.has_value());
    CHECK(change->Matters() == (row.flag != nullptr));
    if (row.flag != nullptr) {
      CHECK((*change).*row.flag);
      CHECK(change->key.name == "ws-1");
    }
  }
}

TEST_CASE_FIXTURE(Fixture,
                  "idle matters only while a restart waits for it; an absent count is busy") {
  table.SetAnswer("uid-1", {.state = "Online", .restart_waits = true});
  REQUIRE(Record(Beat("a", 1)).has_value());
  auto busy = Beat("a", 2);
  busy.active_tasks = 3;
  CHECK_FALSE(Record(busy)->Matters());
  auto idle = Beat("a", 3);
  idle.active_tasks = 0;
  CHECK(Record(idle)->Matters());
  CHECK(Record(Beat("a", 4))->Matters());
}

TEST_CASE_FIXTURE(Fixture, "the error rate has hysteresis") {
  const std::pair<double, bool> steps[] = {{0.49, false}, {0.5, true},  {0.4, false},
                                           {0.31, false}, {0.29, true}, {0.49, false}};
  int64_t sequence = 1;
  REQUIRE(Record(Beat("a", sequence++)).has_value());
  for (const auto& [rate, crosses] : steps) {
    auto heartbeat = Beat("a", sequence++);
    heartbeat.error_rate = rate;
    CHECK(Record(heartbeat)->error_rate_crossed == crosses);
  }
}

TEST_CASE_FIXTURE(
    Fixture, "an inventory is kept while its digest stays, and asked for when it is not held") {
  auto full = Beat("a", 1);
  full.inventory = {{"p", "c", "sha256:1", true}};
  full.inventory_digest = "d1";
  REQUIRE(Record(full).has_value());
  auto brief = Beat("a", 2);
  brief.inventory_digest = "d1";
  CHECK_FALSE(Record(brief)->Matters());
  REQUIRE(table.Snapshot("uid-1")->last->inventory.has_value());
  CHECK(table.Snapshot("uid-1")->last->inventory->front().name == "p");
  CHECK(protocol::DecodeHeartbeatAnswer(table.Answer(slot))->inventory_digest == "d1");
  auto other = Beat("a", 3);
  other.inventory_digest = "d2";
  CHECK(Record(other)->inventory_changed);
  CHECK_FALSE(table.Snapshot("uid-1")->last->inventory.has_value());
  CHECK(protocol::DecodeHeartbeatAnswer(table.Answer(slot))->inventory_digest.empty());
}

TEST_CASE_FIXTURE(Fixture, "a report comes back from the table as it was sent") {
  auto full = Beat("6f1c7d36-9e3b-4b53-8f5e-1e0d4a1f3c11", 7);
  full.workspace = "team.ws-1";
  full.time = base::WallTime{Millis{1'795'000'000'123}};
  full.agent_version = "0.1.0";
  full.runtime = "claude-code";
  full.active_tasks = 3;
  full.current_task = std::string("issue \0 9", 9);
  full.error_rate = 0.29;
  full.sample_error = "e";
  full.uptime_seconds = int64_t{1} << 40;
  full.monthly_spend = 1e12 / 7;
  full.management_present = true;
  full.model_present = false;
  full.loaded_tools = {{"a", "", "b"}};
  full.boot_install = {protocol::BootInstallState::kFailed, "why"};
  full.inventory = {{"p", "c", "sha256:" + std::string(64, 'a'), true},
                    {"q", "", "sha256:A", false},
                    {"s", "", "", false, false},
                    {"t", "", "", false, true}};
  // What looks like a digest and is none, and digests of other lengths.
  for (const char* digest : {"", "sha256:", "sha256:0", "sha256:0f", "sha256:0F", "sha256:0g",
                             "sha256:g0", "sha256:00ff00/0", "sha256:\xff\xff", "sha512:00"})
    full.inventory->push_back({"r", "", digest, true});
  full.inventory_digest = "sha256:" + std::string(63, '0') + "f";
  REQUIRE(Record(full).has_value());
  CHECK(table.Snapshot("uid-1")->last == full);
  auto brief = Beat("6f1c7d36-9e3b-4b53-8f5e-1e0d4a1f3c11", 8);
  REQUIRE(Record(brief).has_value());
  CHECK(table.Snapshot("uid-1")->last == brief);
}

TEST_CASE_FIXTURE(Fixture, "the same plugin in many answers names each workspace in its own path") {
  for (const char* uid : {"uid-1", "uid-2"})
    table.SetAnswer(uid, {.plugins_known = true,
                          .plugins = {{"p", "c", "sha256:1", fmt::format("/w/{}/p", uid), "s"}},
                          .remove = {"a", "b\""}});
  const auto answer = *protocol::DecodeHeartbeatAnswer(table.Answer(slot));
  REQUIRE(answer.plugins.size() == 1);
  CHECK(answer.plugins[0].path == "/w/uid-1/p");
  CHECK(answer.plugins[0].source == "s");
  CHECK(answer.remove == std::vector<std::string>{"a", "b\""});
}

TEST_CASE_FIXTURE(Fixture, "silence is noticed once, one tick late at most, and its end is told") {
  REQUIRE(Record(Beat("a", 1), 1'000).has_value());
  CHECK(table.Tick(At(10'999).mono) == 0);
  CHECK(table.Tick(At(11'500).mono) == 1);
  CHECK(expired == std::vector<std::string>{"team/ws-1"});
  CHECK(table.Snapshot("uid-1")->expired);
  CHECK(table.Tick(At(60'000).mono) == 0);
  CHECK(Record(Beat("a", 2), 60'000)->resumed);
  CHECK_FALSE(table.Snapshot("uid-1")->expired);
  CHECK(table.Tick(At(69'000).mono) == 0);
  CHECK(table.Tick(At(70'500).mono) == 1);
}

TEST_CASE("silence is counted from the take-over") {
  int count = 0;
  fleet::HeartbeatTable table({.tick = Millis{250}}, [&](const meta::ObjectKey&) { ++count; });
  table.Upsert(Settings("1", "one"), At(0));
  CHECK(table.Tick(At(50'000).mono) == 0);
  table.TakeOver(At(50'000));
  CHECK(table.Tick(At(59'900).mono) == 0);
  CHECK(table.Tick(At(60'500).mono) == 1);
  CHECK(count == 1);
}

TEST_CASE("a timeout beyond the wheel's horizon, a changed one and a long sleep of the machine") {
  fleet::HeartbeatTable table({.tick = Millis{250}}, nullptr);
  table.TakeOver(At(0));
  auto settings = Settings("1", "one");
  settings.timeout = Millis{3'600'000};
  table.Upsert(settings, At(0));
  for (int64_t t = 0; t < 3'600'000; t += 10'000) REQUIRE(table.Tick(At(t).mono) == 0);
  CHECK(table.Tick(At(3'600'500).mono) == 1);
  table.Upsert(Settings("2", "two"), At(3'600'500));
  auto shorter = Settings("2", "two");
  shorter.timeout = Millis{1'000};
  table.Upsert(shorter, At(3'600'600));
  CHECK(table.Tick(At(3'602'000).mono) == 1);
  table.Upsert(Settings("3", "three"), At(3'602'000));
  CHECK(table.Tick(At(90'000'000).mono) == 1);
}

TEST_CASE_FIXTURE(Fixture, "ten a second and a burst of twenty; a flood stops nobody else") {
  table.Upsert(Settings("2", "two"), At(0));
  const auto second = *table.Authenticate("two", At(0).mono);
  int admitted = 0;
  for (int i = 0; i < 100; ++i) admitted += table.Admit(slot, At(0).mono).has_value() ? 1 : 0;
  CHECK(admitted == 20);
  const auto refused = table.Admit(slot, At(0).mono);
  CHECK(refused.error().reason == "TooManyRequests");
  CHECK(refused.error().retry_after->count() == 100);
  CHECK(table.Admit(second, At(0).mono).has_value());
  CHECK(table.Admit(slot, At(100).mono).has_value());
  CHECK_FALSE(table.Admit(slot, At(100).mono).has_value());
  admitted = 0;
  for (int i = 0; i < 1000; ++i) admitted += table.Admit(slot, At(10'000 + i).mono).has_value();
  CHECK(admitted == 20 + 9);
}

TEST_CASE_FIXTURE(
    Fixture, "the answer carries the decision, and a restart request until another boot reports") {
  CHECK(protocol::DecodeHeartbeatAnswer(table.Answer(slot))->state.empty());
  table.SetAnswer("uid-1", {.state = "Online",
                            .reason = "R",
                            .plugins_known = true,
                            .plugins = {{"p", "c", "sha256:1", "/x", "local://p"}}});
  REQUIRE(Record(Beat("a", 1)).has_value());
  const auto whole = *protocol::DecodeHeartbeatAnswer(table.Answer(slot));
  CHECK(whole.state == "Online");
  CHECK(protocol::DecodeHeartbeatAnswer(table.Answer(slot, whole.tag))->unchanged);
  CHECK_FALSE(protocol::DecodeHeartbeatAnswer(table.Answer(slot, "other"))->unchanged);
  CHECK_FALSE(table.RequestRestart("uid-1", "older"));
  CHECK_FALSE(table.RequestRestart("nobody", "a"));
  CHECK(table.RequestRestart("uid-1", "a"));
  const auto asked = *protocol::DecodeHeartbeatAnswer(table.Answer(slot));
  CHECK(asked.restart_expected_boot_id == "a");
  CHECK_FALSE(protocol::DecodeHeartbeatAnswer(table.Answer(slot, whole.tag))->unchanged);
  CHECK(asked.plugins.size() == 1);
  REQUIRE(Record(Beat("a", 2)).has_value());
  CHECK(table.Snapshot("uid-1")->restart_requested == "a");
  REQUIRE(Record(Beat("b", 0)).has_value());
  CHECK_FALSE(protocol::DecodeHeartbeatAnswer(table.Answer(slot))->restart_expected_boot_id);
  CHECK_FALSE(table.RequestRestart("uid-1", "a"));
}

TEST_CASE_FIXTURE(Fixture, "a register also tells who the box is") {
  const auto tell = [&](int64_t sequence, const std::string& box) {
    protocol::Register body{Beat("a", sequence), true, "10.0.0.1"};
    body.heartbeat.box_identity = box;
    return *table.RecordRegister(slot, body, At(0));
  };
  CHECK(tell(1, "box-1").box_changed);
  CHECK_FALSE(tell(2, "box-1").Matters());
  CHECK(tell(3, "box-2").key.name == "ws-1");
  CHECK(table.Snapshot("uid-1")->box_identity == "box-2");
  // A heartbeat that does not say it leaves it; one that does is as good as a register.
  CHECK_FALSE(Record(Beat("a", 4))->Matters());
  CHECK(table.Snapshot("uid-1")->box_identity == "box-2");
  auto beat = Beat("a", 5);
  beat.box_identity = "box-3";
  CHECK(Record(beat)->key.name == "ws-1");
  CHECK(table.Snapshot("uid-1")->box_identity == "box-3");
}

TEST_CASE_FIXTURE(Fixture,
                  "a report of a Pod that is not there changes nothing, and is looked into once") {
  const auto beat = [&](const std::string& pod, const std::string& boot, int64_t sequence) {
    auto heartbeat = Beat(boot, sequence);
    heartbeat.box_identity = pod;
    return *Record(heartbeat);
  };
  table.SetPresentBox("uid-1", "pod:new/");
  table.SetPresentBox("nobody", "pod:new/");
  const fleet::Change other = beat("pod:old", "o1", 1);
  CHECK(other.box_changed);
  CHECK(other.key.name == "ws-1");
  CHECK_FALSE(beat("pod:old", "o1", 2).Matters());
  CHECK(beat("pod:older", "o0", 1).Matters());
  CHECK_FALSE(table.Snapshot("uid-1")->last);
  CHECK(beat("pod:new", "n1", 1).first_report);
  table.SetPresentBox("uid-1", "pod:new/c1");
  // Not for another start of it, nor by a register.
  CHECK(beat("pod:old", "o2", 1).Matters());
  protocol::Register body{Beat("o3", 1), true, "10.0.0.9"};
  body.heartbeat.box_identity = "pod:old";
  CHECK_FALSE(table.RecordRegister(slot, body, At(0))->Matters());
  CHECK_FALSE(table.Snapshot("uid-1")->pull);
  CHECK(table.Snapshot("uid-1")->last->boot_id == "n1");
  CHECK_FALSE(beat("pod:new", "n1", 2).Matters());
  // An agent that was not told which Pod it is in counts as before.
  CHECK(beat("", "n2", 1).boot_changed);
  CHECK(beat("64768:2", "n3", 1).boot_changed);
  // Another Pod is there: what was strange is at home, and the other way round.
  table.SetPresentBox("uid-1", "pod:old/c9");
  CHECK(beat("pod:new", "n4", 1).Matters());
  CHECK(beat("pod:old", "o3", 2).boot_changed);
  CHECK(table.Snapshot("uid-1")->box_identity == "pod:old");
}

TEST_CASE_FIXTURE(
    Fixture,
    "an agent that another Pod's has superseded is heard once it is known which is there") {
  const auto beat = [&](const std::string& pod, const std::string& boot, int64_t sequence) {
    auto heartbeat = Beat(boot, sequence);
    heartbeat.box_identity = pod;
    return Record(heartbeat);
  };
  REQUIRE(beat("pod:new", "n", 1));
  REQUIRE(beat("pod:old", "o", 1));
  CHECK(beat("pod:new", "n", 2).error().reason == "SupersededBoot");
  table.SetPresentBox("uid-1", "pod:new/c1");
  const auto heard = beat("pod:new", "n", 3);
  REQUIRE(heard);
  CHECK(heard->boot_changed);
  CHECK(heard->box_changed);
  REQUIRE(beat("pod:new", "n", 4));
  CHECK(beat("pod:new", "n", 4).error().reason == "StaleSequence");
  CHECK(beat("pod:old", "o", 2)->Matters());
  CHECK(table.Snapshot("uid-1")->last->boot_id == "n");
}

TEST_CASE("many threads report, rotate and expire without harm") {
  std::atomic<int> expired{0};
  fleet::HeartbeatTable table({.tick = Millis{1}}, [&](const meta::ObjectKey&) { ++expired; });
  table.TakeOver(At(0));
  for (int i = 0; i < 64; ++i) {
    table.Upsert(Settings(std::to_string(i), "t" + std::to_string(i)), At(0));
  }
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&table, thread] {
      for (int n = 0; n < 3000; ++n) {
        const std::string id = std::to_string((n * 7 + thread) % 64);
        const auto slot = table.Authenticate("t" + id, At(n).mono);
        if (!slot) continue;
        auto heartbeat = Beat(fmt::format("boot-{}", thread), n);
        heartbeat.workspace = "uid-" + id;
        (void)table.Record(*slot, heartbeat, At(n));
        (void)table.Answer(*slot);
        if (n % 100 == 0) table.SetAnswer("uid-" + id, {.state = std::to_string(n)});
        if (n % 500 == 0) table.Remove("uid-" + id);
        if (n % 50 == 0) (void)table.Snapshot("uid-" + id);
      }
    });
  }
  for (int t = 0; t < 3000; ++t) table.Tick(At(t).mono);
  threads.clear();
  table.Tick(At(1'000'000).mono);
  const auto counts = table.Counts();
  CHECK(counts.reporting == 0);
  CHECK(counts.recorded > 0);
}

TEST_CASE("time in which the process did not run is nobody's silence") {
  support::FakeClock clock;
  std::atomic<int> expired{0};
  fleet::HeartbeatTable table({.tick = Millis{1}}, [&](const meta::ObjectKey&) { ++expired; });
  table.TakeOver(clock.Read());
  table.Upsert(Settings("1", "one"), clock.Read());
  auto beat = Beat("boot", 1);
  REQUIRE(table.Record(*table.Authenticate("one", clock.Read().mono), beat, clock.Read()));
  const auto seen = [&] { return table.Snapshot("uid-1")->seen.mono; };
  const base::MonoTime before = seen();
  table.ForgiveDeafness(clock.Read().mono + Millis{5'000});  // Nothing runs yet.
  CHECK(seen() == before);

  auto brief = Settings("2", "two");
  brief.timeout = Millis{1};
  table.Upsert(brief, clock.Read());
  std::jthread run([&](std::stop_token stop) { table.Run(clock, stop); });
  clock.Advance(Millis{5});
  while (expired == 0) std::this_thread::yield();  // Run has begun.

  clock.Advance(Millis{3'600'000});
  table.ForgiveDeafness(clock.Read().mono);
  CHECK(clock.Read().mono - seen() < Millis{1'000});
  CHECK(table.Tick(clock.Read().mono) == 0);
  // It runs all the time, and hears nothing.
  for (int step = 0; step < 12; ++step) {
    clock.Advance(Millis{1'000});
    table.ForgiveDeafness(clock.Read().mono);
    table.Tick(clock.Read().mono);
  }
  CHECK(table.Snapshot("uid-1")->expired);
}
