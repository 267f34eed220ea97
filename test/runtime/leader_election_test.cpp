#include "runtime/leader_election.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

#include "runtime/metrics.hpp"
#include "support/eventually.hpp"
#include "support/fake_clock.hpp"

namespace {

using base::Millis;
using runtime::LeaderElectionOptions;
using runtime::LeaderElector;
using runtime::LeaseRecord;
using support::Eventually;
using support::FakeClock;

/// One Lease on a server: compare-and-swap by version; each write is noted.
struct LeaseServer {
  struct Write {
    LeaseRecord record;
    base::MonoTime at;
  };
  explicit LeaseServer(FakeClock& its_clock) : clock(its_clock) {}

  FakeClock& clock;
  std::mutex mutex;
  std::optional<LeaseRecord> stored;  ///< By mutex, as is all below.
  int64_t version = 100;
  std::vector<Write> writes;
  size_t gets = 0;
  std::vector<base::MonoTime> get_times;

  LeaseRecord Put(LeaseRecord record) {  // Caller holds the mutex.
    record.version = std::to_string(++version);
    stored = record;
    writes.push_back({record, clock.Read().mono});
    return record;
  }
  void Foreign(const std::string& holder, Millis duration, base::WallTime renewed) {
    std::lock_guard lock(mutex);
    LeaseRecord record = stored.value_or(LeaseRecord{});
    record.holder = holder;
    record.duration = duration;
    record.renewed = renewed;
    record.version = std::to_string(++version);
    stored = record;
  }
  void Remove() {
    std::lock_guard lock(mutex);
    stored.reset();
  }
  std::optional<LeaseRecord> Stored() {
    std::lock_guard lock(mutex);
    return stored;
  }
  size_t Writes() {
    std::lock_guard lock(mutex);
    return writes.size();
  }
  size_t Gets() {
    std::lock_guard lock(mutex);
    return gets;
  }
  LeaseRecord LastWrite() {
    std::lock_guard lock(mutex);
    return writes.back().record;
  }
};

/// How one call ends other than well.
struct Fault {
  base::Code code = base::Code::kUnavailable;
  bool happens = false;  ///< The write is made all the same; only its answer is lost.
  bool hangs = false;    ///< The call takes all of its time.
  Millis slow{0};        ///< Not 0: the write is made and answered well, after this long.
};

class Lock final : public runtime::LeaseLock {
 public:
  explicit Lock(LeaseServer& server) : server_(server) {}
  std::atomic<int> entered{0};  ///< Writes begun.
  void FailWrites(std::deque<Fault> faults) {
    std::lock_guard lock(server_.mutex);
    faults_ = std::move(faults);
  }
  void FailAll(bool fail) {
    std::lock_guard lock(server_.mutex);
    down_ = fail;
  }
  std::atomic<int64_t> look_takes{0};  ///< Milliseconds of each Get.
  base::Result<LeaseRecord> Get(const Call&) override {
    if (look_takes > 0) server_.clock.Advance(Millis{look_takes});
    std::lock_guard lock(server_.mutex);
    ++server_.gets;
    server_.get_times.push_back(server_.clock.Read().mono);
    if (down_) return Down();
    if (!server_.stored) return base::MakeError(base::Code::kNotFound, "no lease");
    return *server_.stored;
  }
  base::Result<LeaseRecord> Create(const LeaseRecord& record, const Call& call) override {
    return Write(call, [&]() -> base::Result<LeaseRecord> {
      if (server_.stored) return base::MakeError(base::Code::kAlreadyExists, "there is one");
      return server_.Put(record);
    });
  }
  base::Result<LeaseRecord> Update(const LeaseRecord& record, const Call& call) override {
    return Write(call, [&]() -> base::Result<LeaseRecord> {
      if (!server_.stored) return base::MakeError(base::Code::kNotFound, "no lease");
      if (server_.stored->version != record.version)
        return base::MakeError(base::Code::kConflict, "the object has been modified");
      return server_.Put(record);
    });
  }

 private:
  static base::Error Down() {
    return base::MakeError(base::Code::kUnavailable, "the server is down");
  }
  base::Result<LeaseRecord> Write(const Call& call,
                                  const std::function<base::Result<LeaseRecord>()>& write) {
    Fault fault;
    ++entered;
    {
      std::lock_guard lock(server_.mutex);
      if (down_) return Down();
      if (faults_.empty()) return write();
      fault = faults_.front();
      faults_.pop_front();
      if (fault.happens) (void)write();
    }
    if (fault.slow > Millis{0}) {
      server_.clock.Advance(fault.slow);
      std::lock_guard lock(server_.mutex);
      return write();
    }
    if (fault.hangs) server_.clock.Advance(call.deadline);
    return base::MakeError(fault.code, "as scripted");
  }

  LeaseServer& server_;
  std::deque<Fault> faults_;
  bool down_ = false;
};

/// One process: an elector that runs on a thread of its own.
class Candidate {
 public:
  Candidate(LeaseServer& server, const std::string& identity,
            std::function<void(LeaderElectionOptions&)> change = nullptr)
      : lock(server), name(identity) {
    LeaderElectionOptions options;
    options.name = "election";
    options.identity = identity;
    options.clock = &server.clock;
    options.metrics = &metrics;
    options.jitter_seed = std::hash<std::string>{}(identity) | 1;
    if (change) change(options);
    elector.emplace(options, lock);
  }
  ~Candidate() { Stop(); }
  void Start(bool contend = true) {
    if (contend) elector->Contend("http://" + name);
    thread_ = std::jthread([this](std::stop_token stop) {
      ended = elector->Run(stop);
      over = true;
    });
  }
  void Stop() {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    thread_.join();
  }
  bool Leads() const { return elector->Leading(); }

  Lock lock;
  const std::string name;
  runtime::Metrics metrics;
  std::optional<LeaderElector> elector;
  base::Status ended;
  std::atomic<bool> over{false};

 private:
  std::jthread thread_;
};

struct OneCandidate {
  FakeClock clock;
  LeaseServer server{clock};
  Candidate a{server, "a"};
};

struct Leader : OneCandidate {
  Leader() {
    a.Start();
    REQUIRE(Eventually([&] { return a.Leads(); }));
  }
};

/// Moves time in small steps until `holds`, at most `limit` of it; how much it took, or nothing.
std::optional<Millis> AdvanceUntil(FakeClock& clock, Millis limit,
                                   const std::function<bool()>& holds, Millis step = Millis{50}) {
  Millis passed{0};
  while (!holds()) {
    if (passed > limit) return std::nullopt;
    clock.AwaitWaiters(1);
    clock.Advance(step);
    passed += step;
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  }
  return passed;
}

}  // namespace

TEST_CASE("timings that cannot work are refused, and the message names the flags") {
  LeaderElectionOptions options;
  options.identity = "a";
  CHECK(runtime::ValidateLeaderElection(options).has_value());
  options.renew_deadline = Millis{15'000};
  auto bad = runtime::ValidateLeaderElection(options);
  REQUIRE_FALSE(bad);
  CHECK(bad.error().message.find("--lease-seconds") != std::string::npos);
  options.renew_deadline = Millis{2'400};
  CHECK_FALSE(runtime::ValidateLeaderElection(options));
  options.renew_deadline = Millis{2'401};
  CHECK(runtime::ValidateLeaderElection(options).has_value());
  options.retry_period = Millis{0};
  CHECK_FALSE(runtime::ValidateLeaderElection(options));
  options.retry_period = Millis{2'000};
  options.identity.clear();
  CHECK_FALSE(runtime::ValidateLeaderElection(options));
}

TEST_CASE_FIXTURE(Leader, "a lease that nobody has made is made and led at once") {
  const LeaseRecord stored = *server.Stored();
  CHECK(stored.holder == "a");
  CHECK(stored.address == "http://a");
  CHECK(stored.duration == Millis{15'000});
  CHECK(stored.transitions == 0);
  CHECK(stored.acquired == stored.renewed);
  CHECK(a.elector->Leader().ours);
  CHECK(a.metrics.Text().find("leader_election_master_status{name=\"election\"} 1") !=
        std::string::npos);
}

TEST_CASE_FIXTURE(OneCandidate, "nothing is written before the caches are warm") {
  a.Start(false);
  REQUIRE(AdvanceUntil(
      clock, Millis{60'000}, [&] { return server.Gets() >= 5; }, Millis{500}));
  CHECK(server.Writes() == 0);
  CHECK_FALSE(a.Leads());
  a.elector->Contend();
  CHECK(Eventually([&] { return a.Leads(); }));
}

TEST_CASE("a lease that is free is not taken either before the caches are warm") {
  FakeClock clock;
  LeaseServer server(clock);
  server.Foreign("", Millis{1'000}, clock.Read().wall);  // Given back.
  Candidate a(server, "a");
  a.Start(false);
  REQUIRE(AdvanceUntil(
      clock, Millis{60'000}, [&] { return server.Gets() >= 5; }, Millis{500}));
  server.Foreign("other", Millis{3'000}, clock.Read().wall);  // Then held, then run out.
  const size_t gets = server.Gets();
  REQUIRE(AdvanceUntil(
      clock, Millis{60'000}, [&] { return server.Gets() >= gets + 8; }, Millis{500}));
  CHECK(server.Writes() == 0);
  CHECK_FALSE(a.Leads());
  a.elector->Contend();
  CHECK(AdvanceUntil(clock, Millis{10'000}, [&] { return a.Leads(); }));
}

TEST_CASE_FIXTURE(OneCandidate,
                  "the fence counts from when a renewal was sent, not from when it was answered") {
  a.lock.FailWrites({{.slow = Millis{4'000}}});
  a.Start();
  REQUIRE(Eventually([&] { return a.Leads(); }));
  // The acquisition was on its way for four seconds of its fifteen.
  CHECK(*a.elector->MayWrite() == Millis{11'000});
  std::deque<Fault> faults(200);  // Then none gets through.
  faults.front().slow = Millis{4'500};
  a.lock.FailWrites(faults);
  const size_t before = server.Writes();
  REQUIRE(clock.AwaitWaiters(1));
  clock.Advance(Millis{2'000});
  REQUIRE(Eventually([&] { return server.Writes() > before; }));
  REQUIRE(Eventually([&] { return *a.elector->MayWrite() == Millis{10'500}; }));
  clock.Advance(Millis{5'499});
  CHECK(a.Leads());
  clock.Advance(Millis{1});
  CHECK_FALSE(a.Leads());
}

TEST_CASE_FIXTURE(Leader,
                  "a lease that was deleted is not made again once the deadline has passed") {
  const size_t writes = server.Writes();
  server.Remove();
  a.lock.look_takes = 11'000;  // The look that finds it gone takes longer than the leader has.
  REQUIRE(clock.AwaitWaiters(1));
  clock.Advance(Millis{2'000});
  REQUIRE(AdvanceUntil(clock, Millis{15'000}, [&] { return a.over.load(); }));
  CHECK(a.ended.error().reason == "LeaseLost");
  CHECK(server.Writes() == writes);
  CHECK_FALSE(server.Stored());
}

TEST_CASE("a held lease is taken its own duration after it was last seen to change") {
  FakeClock clock;
  LeaseServer server(clock);
  // The holder's clock is a year off, and its duration is not ours.
  for (const int years : {-1, 1}) {
    server.Foreign("other", Millis{7'000},
                   clock.Read().wall + std::chrono::hours{24 * 365 * years});
    Candidate a(server, "a");
    a.Start();
    REQUIRE(Eventually([&] { return !a.elector->Leader().identity.empty(); }));
    const int64_t before = server.Stored()->transitions;
    const auto took = AdvanceUntil(clock, Millis{30'000}, [&] { return a.Leads(); });
    REQUIRE(took);
    CHECK(*took >= Millis{7'000});
    CHECK(*took <= Millis{7'600});  // At the moment itself, not at the next look.
    CHECK(server.Stored()->transitions == before + 1);
    a.Stop();
  }
}

TEST_CASE("a holder that renews is never overtaken, whatever its stamps say") {
  FakeClock clock;
  LeaseServer server(clock);
  server.Foreign("other", Millis{5'000}, base::WallTime{});
  Candidate a(server, "a");
  a.Start();
  for (int i = 0; i < 20; ++i) {
    const size_t gets = server.Gets();
    REQUIRE(AdvanceUntil(clock, Millis{10'000}, [&] { return server.Gets() > gets + 1; }));
    server.Foreign("other", Millis{5'000}, base::WallTime{});  // Renewed; the stamp does not move.
  }
  CHECK_FALSE(a.Leads());
  CHECK(server.Writes() == 0);
  const auto view = a.elector->Leader();
  CHECK(view.identity == "other");
  CHECK_FALSE(view.ours);
}

TEST_CASE("looks are spread by jitter and never further apart than the retry period") {
  FakeClock clock;
  LeaseServer server(clock);
  server.Foreign("other", Millis{3'000'000}, clock.Read().wall);
  Candidate a(server, "a");
  a.Start();
  REQUIRE(AdvanceUntil(clock, Millis{120'000}, [&] { return server.Gets() >= 25; }));
  std::lock_guard lock(server.mutex);
  std::set<int64_t> gaps;
  for (size_t i = 1; i < server.get_times.size(); ++i) {
    const auto gap =
        std::chrono::duration_cast<Millis>(server.get_times[i] - server.get_times[i - 1]);
    CHECK(gap >= Millis{950});
    CHECK(gap <= Millis{2'000});
    gaps.insert(gap.count() / 100);
  }
  CHECK(gaps.size() >= 4);
}

TEST_CASE_FIXTURE(Leader, "a renewal moves its stamp alone") {
  const LeaseRecord first = *server.Stored();
  REQUIRE(AdvanceUntil(clock, Millis{30'000}, [&] { return server.Writes() >= 4; }));
  const LeaseRecord later = *server.Stored();
  CHECK(later.acquired == first.acquired);
  CHECK(later.transitions == first.transitions);
  CHECK(later.renewed >= first.renewed + Millis{3 * 2'000});
}

TEST_CASE_FIXTURE(Leader, "one renewal that hangs does not lose the lease") {
  a.lock.FailWrites({{.code = base::Code::kTimeout, .hangs = true}});
  const size_t before = server.Writes();
  REQUIRE(AdvanceUntil(clock, Millis{30'000}, [&] { return server.Writes() > before; }));
  CHECK(a.Leads());
  CHECK_FALSE(a.over);
  CHECK(a.metrics.Text().find("leader_election_slowpath_total{name=\"election\"} 1") !=
        std::string::npos);
}

TEST_CASE_FIXTURE(Leader, "a renewal whose answer was lost is recognised as ours") {
  a.lock.FailWrites({{.code = base::Code::kTimeout, .happens = true}});
  const size_t before = server.Writes();
  REQUIRE(AdvanceUntil(clock, Millis{30'000}, [&] { return server.Writes() >= before + 3; }));
  CHECK(a.Leads());
  CHECK_FALSE(a.over);
}

TEST_CASE_FIXTURE(OneCandidate,
                  "an acquisition whose answer was lost is completed, not waited out") {
  a.lock.FailWrites({{.code = base::Code::kTimeout, .happens = true}});
  a.Start();
  const auto took = AdvanceUntil(clock, Millis{30'000}, [&] { return a.Leads(); });
  REQUIRE(took);
  CHECK(*took <= Millis{2'100});
  CHECK(server.Stored()->transitions == 0);
}

TEST_CASE_FIXTURE(
    Leader, "without a renewal for the deadline the fence closes first and the process must end") {
  a.lock.FailAll(true);
  const size_t writes = server.Writes();
  const auto took = AdvanceUntil(clock, Millis{30'000}, [&] { return !a.Leads(); });
  REQUIRE(took);
  CHECK(*took <= Millis{10'100});
  REQUIRE(AdvanceUntil(clock, Millis{150}, [&] { return a.over.load(); }));
  CHECK_FALSE(a.ended);
  CHECK(a.ended.error().reason == "LeaseLost");
  a.lock.FailAll(false);
  a.Stop();
  CHECK(server.Writes() == writes);  // Nothing is given back that may be another's.
  CHECK_FALSE(a.elector->WaitUntilLeading({}));
  CHECK(a.metrics.Text().find("leader_election_master_status{name=\"election\"} 0") !=
        std::string::npos);
}

TEST_CASE_FIXTURE(Leader, "another holder ends the leader at its next renewal") {
  server.Foreign("b", Millis{15'000}, clock.Read().wall);
  REQUIRE(AdvanceUntil(clock, Millis{5'000}, [&] { return a.over.load(); }));
  CHECK(a.ended.error().reason == "LeaseLost");
  CHECK(a.ended.error().message.find("b holds it") != std::string::npos);
  CHECK(server.Stored()->holder == "b");
}

TEST_CASE_FIXTURE(OneCandidate,
                  "a process that was paused refuses writes in the moment it goes on") {
  a.Start();
  REQUIRE(Eventually([&] { return a.Leads() && server.Writes() >= 1; }));
  CHECK(*a.elector->MayWrite() <= Millis{15'000});
  REQUIRE(clock.AwaitWaiters(1));
  const int before = a.lock.entered;
  {
    std::lock_guard paused(server.mutex);  // The renewal hangs: only the clock moves.
    clock.Advance(Millis{2'000});
    REQUIRE(Eventually([&] { return a.lock.entered > before; }));
    clock.Advance(Millis{7'999});
    const auto left = a.elector->MayWrite();
    REQUIRE(left);
    CHECK(*left == Millis{5'001});  // A write may not outlive the lease.
    clock.Advance(Millis{1});
    const auto refused = a.elector->MayWrite();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().reason == "NotLeader");
    clock.Advance(Millis{50'000});
    CHECK_FALSE(a.Leads());
  }
}

TEST_CASE_FIXTURE(Leader, "a paused leader sends no renewal after it goes on") {
  REQUIRE(clock.AwaitWaiters(1));
  const size_t writes = server.Writes();
  clock.Advance(Millis{60'000});
  REQUIRE(Eventually([&] { return a.over.load(); }));
  CHECK(server.Writes() == writes);
  CHECK(a.ended.error().reason == "LeaseLost");
}

TEST_CASE_FIXTURE(OneCandidate,
                  "the lease is given back at the stop, over a conflict with our own renewal too") {
  Candidate b(server, "b");
  a.Start();
  REQUIRE(Eventually([&] { return a.Leads(); }));
  b.Start();
  REQUIRE(Eventually([&] { return b.elector->Leader().identity == "a"; }));
  server.Foreign("a", Millis{15'000},
                 clock.Read().wall);  // Ours, by a version that a has not seen.
  a.Stop();
  CHECK(a.ended.has_value());
  CHECK_FALSE(a.Leads());
  CHECK(server.LastWrite().holder.empty());
  CHECK(server.LastWrite().duration == Millis{1'000});
  const auto took = AdvanceUntil(clock, Millis{5'000}, [&] { return b.Leads(); });
  REQUIRE(took);
  CHECK(*took <= Millis{2'000});
}

TEST_CASE("the lease is not given back while work of the leader goes on") {
  FakeClock clock;
  LeaseServer server(clock);
  Candidate a(server, "a",
              [](LeaderElectionOptions& options) { options.may_release = [] { return false; }; });
  a.Start();
  REQUIRE(Eventually([&] { return a.Leads(); }));
  a.Stop();
  CHECK(server.Stored()->holder == "a");
  CHECK_FALSE(a.Leads());
}

TEST_CASE("a process that never led stops without a write") {
  FakeClock clock;
  LeaseServer server(clock);
  server.Foreign("other", Millis{15'000}, clock.Read().wall);
  Candidate a(server, "a");
  a.Start();
  REQUIRE(Eventually([&] { return server.Gets() >= 1; }));
  std::stop_source stop;
  stop.request_stop();
  CHECK(a.elector->WaitUntilLeading(stop.get_token()).error().code == base::Code::kCancelled);
  a.Stop();
  CHECK(a.ended.has_value());
  CHECK(server.Writes() == 0);
}

TEST_CASE_FIXTURE(Leader, "a lease that is deleted under its holder is made again") {
  server.Remove();
  REQUIRE(AdvanceUntil(clock, Millis{9'000}, [&] { return server.Stored().has_value(); }));
  CHECK(server.Stored()->holder == "a");
  CHECK(a.Leads());
}

TEST_CASE_FIXTURE(OneCandidate, "of two that make a deleted lease exactly one leads") {
  Candidate b(server, "b");
  a.Start();
  REQUIRE(Eventually([&] { return a.Leads(); }));
  b.Start();
  REQUIRE(Eventually([&] { return b.elector->Leader().identity == "a"; }));
  for (int i = 0; i < 5; ++i) {
    server.Remove();
    REQUIRE(AdvanceUntil(clock, Millis{9'000}, [&] { return server.Stored().has_value(); }));
    REQUIRE(AdvanceUntil(clock, Millis{9'000}, [&] { return a.over || !b.Leads(); }));
    CHECK((a.Leads() ? 1 : 0) + (b.Leads() ? 1 : 0) <= 1);
    if (a.over) break;
  }
}

TEST_CASE("many candidates with failing calls never lead two at a time") {
  FakeClock clock;
  LeaseServer server(clock);
  std::vector<std::unique_ptr<Candidate>> all;
  for (int i = 0; i < 12; ++i) {
    all.push_back(std::make_unique<Candidate>(server, "c" + std::to_string(i)));
    all.back()->Start();
  }
  std::set<std::string> leaders;
  uint64_t random = 12345;
  for (int round = 0; round < 600; ++round) {
    random = random * 6364136223846793005ULL + 1442695040888963407ULL;
    if (round % 7 == 0) {
      auto& victim = all[(random >> 33) % all.size()];
      victim->lock.FailAll((random >> 20) % 2 == 0);
    }
    if (round % 150 == 149)  // Whoever leads is cut off: somebody else must come.
      for (auto& one : all) one->lock.FailAll(one->Leads());
    clock.AwaitWaiters(1);
    clock.Advance(Millis{static_cast<int64_t>((random >> 40) % 900)});
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
    int leading = 0;
    for (auto& one : all) {
      if (!one->Leads()) continue;
      ++leading;
      leaders.insert(one->elector->Leader().identity);
    }
    REQUIRE(leading <= 1);
  }
  CHECK(leaders.size() >= 2);
}

TEST_CASE_FIXTURE(OneCandidate, "liveness fails when a leader has neither renewed nor ended") {
  CHECK(a.elector->Healthy().has_value());
  a.Start();
  REQUIRE(Eventually([&] { return a.Leads(); }));
  REQUIRE(clock.AwaitWaiters(1));
  const int before = a.lock.entered;
  {
    std::lock_guard stuck(server.mutex);
    clock.Advance(Millis{2'000});
    REQUIRE(Eventually([&] { return a.lock.entered > before; }));
    clock.Advance(Millis{20'500});
    CHECK(a.elector->Healthy().has_value());
    clock.Advance(Millis{1});
    const auto dead = a.elector->Healthy();
    REQUIRE_FALSE(dead);
    CHECK(dead.error().reason == "LeaseStuck");
  }
}

TEST_CASE("a new leader is told once") {
  FakeClock clock;
  LeaseServer server(clock);
  std::mutex mutex;
  std::vector<std::string> told;
  server.Foreign("other", Millis{3'000}, clock.Read().wall);
  Candidate a(server, "a", [&](LeaderElectionOptions& options) {
    options.on_new_leader = [&](const LeaseRecord& record) {
      std::lock_guard lock(mutex);
      told.push_back(record.holder);
    };
  });
  a.Start();
  REQUIRE(AdvanceUntil(clock, Millis{20'000}, [&] { return server.Writes() >= 3; }));
  std::lock_guard lock(mutex);
  CHECK(told == std::vector<std::string>{"other", "a"});
}

TEST_CASE("each renewal puts off the end of the process to before anybody else can lead") {
  FakeClock clock;
  LeaseServer server(clock);
  std::mutex mutex;
  std::vector<std::optional<base::MonoTime>> ends;
  Candidate a(server, "a", [&](LeaderElectionOptions& options) {
    options.die_at = [&](std::optional<base::MonoTime> at) {
      std::lock_guard lock(mutex);
      ends.push_back(at);
    };
  });
  const base::MonoTime start = clock.Read().mono;
  a.Start();
  REQUIRE(AdvanceUntil(
      clock, Millis{20'000}, [&] { return server.Writes() >= 2; }, Millis{500}));
  a.Stop();
  std::lock_guard lock(mutex);
  REQUIRE(ends.size() >= 3);
  CHECK(ends[0] == start + Millis{12'500});
  CHECK(ends[1] == start + Millis{14'500});
  CHECK_FALSE(ends.back());  // Given back: the danger is over.
}
