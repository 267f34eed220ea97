#include "runtime/leader_election.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <limits>
#include <mutex>

#include "base/log.hpp"
#include "runtime/backoff.hpp"
#include "runtime/metrics.hpp"
#include "runtime/timed_wait.hpp"

namespace runtime {
namespace {

constexpr int64_t kNotLeading = std::numeric_limits<int64_t>::min();
/// A record that asks for more than this is not believed: it would end the election for ever.
constexpr base::Millis kLongestDuration{3'600'000};
constexpr base::Millis kReleaseLimit{2'000};
constexpr int kReleaseTries = 3;

base::Error NotLeader(const std::string& name) {
  base::Error error = base::MakeError(
      base::Code::kUnavailable,
      fmt::format("this process does not hold the lease {} (any more): nothing is written", name),
      "NotLeader");
  error.retry_after = base::Millis{1'000};
  return error;
}

}  // namespace

base::Status ValidateLeaderElection(const LeaderElectionOptions& options) {
  const auto invalid = [](std::string message) {
    return base::MakeError(base::Code::kInvalid, std::move(message), "BadLeaderElection");
  };
  if (options.identity.empty()) return invalid("leader election: the identity is empty");
  if (options.retry_period < base::Millis{1})
    return invalid("leader election: the retry period must be positive");
  if (options.renew_deadline * 10 <= options.retry_period * 12)
    return invalid(fmt::format(
        "leader election: the renew deadline ({} ms) must be over 1.2 times the retry period ({} "
        "ms); raise --lease-renew-seconds or lower --lease-retry-seconds",
        options.renew_deadline.count(), options.retry_period.count()));
  if (options.lease_duration <= options.renew_deadline)
    return invalid(fmt::format(
        "leader election: the lease duration ({} ms) must be over the renew deadline ({} ms); "
        "raise --lease-seconds or lower --lease-renew-seconds",
        options.lease_duration.count(), options.renew_deadline.count()));
  return {};
}

struct LeaderElector::State {
  State(LeaderElectionOptions given, LeaseLock& where)
      : options(std::move(given)), lease(where), jitter(options.jitter_seed) {}

  base::MonoTime Now() const { return options.clock->Read().mono; }
  base::WallTime Wall() const { return options.clock->Read().wall; }
  /// When the last renewal that counts was sent; nothing when we do not lead.
  std::optional<base::MonoTime> Renewed() const {
    const int64_t ns = renewed.load();
    if (ns == kNotLeading) return std::nullopt;
    return base::MonoTime{std::chrono::nanoseconds{ns}};
  }
  base::Millis CallLimit() const {
    return std::max(base::Millis{1'000}, options.renew_deadline / 2);
  }
  /// Of a leader's call: not past what is left of its deadline.
  base::Millis LimitOfRenewal() const {
    const auto last = Renewed();
    if (!last) return CallLimit();
    const auto left = std::chrono::ceil<base::Millis>(*last + options.renew_deadline - Now());
    return std::clamp(left, base::Millis{1}, CallLimit());
  }

  bool Contending() const {
    std::lock_guard lock(mutex);
    return contending;
  }
  base::Status Run(const std::stop_token& stop);
  base::MonoTime Look(bool contend, const std::stop_token& stop);
  bool Free(base::MonoTime now) const;
  void Acquire(const std::optional<LeaseRecord>& from, const std::stop_token& stop);
  base::MonoTime Keep(const std::stop_token& stop);
  base::MonoTime AfterFailure(const base::Error& error, base::MonoTime start,
                              const std::stop_token& stop);
  void Recheck(const std::stop_token& stop);
  void Observe(const LeaseRecord& record);
  void Lead(base::MonoTime sent, const LeaseRecord& record);
  void Lose(const std::string& why);
  void Release();
  LeaseRecord OurRecord() const;
  void RegisterMetrics();

  const LeaderElectionOptions options;
  LeaseLock& lease;
  Jitter jitter;                              ///< Of the thread of Run.
  std::atomic<int64_t> renewed{kNotLeading};  ///< Nanoseconds on the clock: the fence.
  mutable std::mutex mutex;
  mutable std::condition_variable changed;
  bool contending = false;  ///< By mutex, as is all below.
  std::string address;      ///< Of our own HTTP API.
  bool known = false;       ///< `observed` was read from the server.
  LeaseRecord observed;
  base::MonoTime observed_at{};  ///< When we saw it change.
  std::optional<base::Error> lost;
  std::string last_trouble;
  Gauge* master = nullptr;
  Counter* slow_path = nullptr;
};

void LeaderElector::State::RegisterMetrics() {
  if (options.metrics == nullptr) return;
  Metrics& m = *options.metrics;
  master = &m.GaugeOf(
      {"leader_election_master_status", "1 while this process holds the lease.", {"name"}},
      {options.name});
  slow_path = &m.CounterOf({"leader_election_slowpath_total",
                            "Renewals that did not succeed at the first attempt.",
                            {"name"}},
                           {options.name});
}

LeaseRecord LeaderElector::State::OurRecord() const {
  std::lock_guard lock(mutex);
  LeaseRecord record = observed;
  record.holder = options.identity;
  record.address = address;
  record.duration = options.lease_duration;
  record.renewed = Wall();
  return record;
}

/// Notes what is stored. It counts from now if it has changed in any way.
void LeaderElector::State::Observe(const LeaseRecord& record) {
  bool new_leader = false;
  {
    std::lock_guard lock(mutex);
    if (known && record == observed) return;
    new_leader = !record.holder.empty() && (!known || record.holder != observed.holder);
    observed = record;
    observed_at = Now();
    known = true;
  }
  if (!new_leader) return;
  base::LogInfo("leader", {{"lease", options.name},
                           {"holder", record.holder},
                           {"ours", record.holder == options.identity ? "true" : "false"}});
  if (options.on_new_leader) options.on_new_leader(record);
}

/// Nobody holds it, or its holder has been silent for as long as the record says, or it is ours by
/// a write whose answer was lost.
bool LeaderElector::State::Free(base::MonoTime now) const {
  std::lock_guard lock(mutex);
  if (observed.holder.empty() || observed.holder == options.identity) return true;
  return now - observed_at >= std::min(observed.duration, kLongestDuration);
}

/// One look by somebody who does not lead; returns when to look again.
base::MonoTime LeaderElector::State::Look(bool contend, const std::stop_token& stop) {
  const auto stored = lease.Get({CallLimit(), stop});
  if (stored) {
    Observe(*stored);
    if (contend && Free(Now())) Acquire(*stored, stop);
  } else if (stored.error().code == base::Code::kNotFound) {
    if (contend) Acquire(std::nullopt, stop);
  } else if (stored.error().code != base::Code::kCancelled) {
    if (stored.error().message != last_trouble)
      base::LogWarning("the lease cannot be read, retrying",
                       {{"lease", options.name}, {"error", stored.error().message}});
    last_trouble = stored.error().message;
  }
  const base::MonoTime now = Now();
  if (Renewed()) return now + options.retry_period;
  // 0.5 to 0.9 of the period, so that a renewal is seen within the period, and the moment at which
  // the record runs out exactly.
  const auto pause = std::chrono::nanoseconds{options.retry_period} * 9 / 10;
  base::MonoTime next = now + std::chrono::nanoseconds{static_cast<int64_t>(
                                  static_cast<double>(pause.count()) * (1 - 0.44 * jitter.Next()))};
  std::lock_guard lock(mutex);
  if (known && !observed.holder.empty()) {
    const base::MonoTime out = observed_at + std::min(observed.duration, kLongestDuration);
    if (out > now) next = std::min(next, out);
  }
  return next;
}

/// Compare-and-swap from what was read; whoever loses it looks again.
void LeaderElector::State::Acquire(const std::optional<LeaseRecord>& from,
                                   const std::stop_token& stop) {
  LeaseRecord record = OurRecord();
  record.acquired = record.renewed;
  record.version.clear();
  record.transitions = 0;
  if (from) {
    record.version = from->version;
    record.transitions = from->transitions + (from->holder == options.identity ? 0 : 1);
  }
  const base::MonoTime sent = Now();
  const LeaseLock::Call call{CallLimit(), stop};
  const auto stored = from ? lease.Update(record, call) : lease.Create(record, call);
  if (stored && stored->holder == options.identity) return Lead(sent, *stored);
  if (stored || stored.error().code == base::Code::kCancelled) return;
  if (stored.error().code == base::Code::kConflict ||
      stored.error().code == base::Code::kAlreadyExists)
    return;
  // Where it is unknown whether the write happened, the next look tells: then the record names us,
  // and runs out like anybody's.
  base::LogWarning("the lease cannot be taken, retrying",
                   {{"lease", options.name}, {"error", stored.error().message}});
}

void LeaderElector::State::Lead(base::MonoTime sent, const LeaseRecord& record) {
  Observe(record);
  if (options.die_at) options.die_at(sent + (options.renew_deadline + options.lease_duration) / 2);
  if (master != nullptr) master->Set(1);
  renewed = sent.time_since_epoch().count();
  std::lock_guard lock(mutex);
  changed.notify_all();
}

void LeaderElector::State::Lose(const std::string& why) {
  renewed = kNotLeading;
  if (master != nullptr) master->Set(0);
  std::lock_guard lock(mutex);
  lost = base::MakeError(base::Code::kUnavailable,
                         fmt::format("lost the lease {}: {}", options.name, why), "LeaseLost");
  changed.notify_all();
}

/// One renewal by the leader; returns when the next one is due.
base::MonoTime LeaderElector::State::Keep(const std::stop_token& stop) {
  const base::MonoTime start = Now();
  const base::MonoTime give_up = *Renewed() + options.renew_deadline;
  if (start >= give_up) {
    Lose(fmt::format("not renewed for {} ms",
                     std::chrono::duration_cast<base::Millis>(start - *Renewed()).count()));
    return start;
  }
  const auto left = std::chrono::ceil<base::Millis>(give_up - start);
  const auto stored = lease.Update(OurRecord(), {std::min(CallLimit(), left), stop});
  if (!stored) return AfterFailure(stored.error(), start, stop);
  Lead(start, *stored);
  return start + options.retry_period;
}

base::MonoTime LeaderElector::State::AfterFailure(const base::Error& error, base::MonoTime start,
                                                  const std::stop_token& stop) {
  if (error.code == base::Code::kCancelled) return start + options.retry_period;
  if (slow_path != nullptr) slow_path->Add();
  base::LogWarning("the lease is not renewed, retrying",
                   {{"lease", options.name}, {"error", error.message}});
  if (error.code == base::Code::kConflict || error.code == base::Code::kNotFound) {
    Recheck(stop);
    return Now() + options.retry_period / 20;
  }
  // An attempt that used up its time is repeated at once.
  return std::max(start + options.retry_period, Now());
}

/// A renewal found something else than what we knew. Either somebody else leads, or a renewal of
/// ours happened whose answer was lost, or the Lease was deleted: then all may create it, and one
/// succeeds.
void LeaderElector::State::Recheck(const std::stop_token& stop) {
  const auto stored = lease.Get({LimitOfRenewal(), stop});
  if (stored) {
    Observe(*stored);
    if (stored->holder != options.identity)
      Lose(fmt::format("{} holds it", stored->holder.empty() ? "nobody" : stored->holder));
    return;
  }
  if (stored.error().code != base::Code::kNotFound) return;
  LeaseRecord record = OurRecord();
  record.version.clear();
  const base::MonoTime sent = Now();
  if (sent - *Renewed() >= options.renew_deadline) return;
  if (const auto made = lease.Create(record, {LimitOfRenewal(), stop})) Lead(sent, *made);
}

/// The fence closes first: from here on nobody of us writes.
void LeaderElector::State::Release() {
  if (!Renewed()) return;
  renewed = kNotLeading;
  if (master != nullptr) master->Set(0);
  if (options.may_release && !options.may_release()) {
    base::LogWarning("the lease is not given back: some work has not ended; it runs out by itself",
                     {{"lease", options.name}});
    return;
  }
  const base::MonoTime end = Now() + kReleaseLimit;
  LeaseRecord record = OurRecord();
  for (int i = 0; i < kReleaseTries && Now() < end; ++i) {
    record.holder.clear();
    record.address.clear();
    record.duration = base::Millis{1'000};
    if (options.die_at && i == 0) options.die_at(std::nullopt);  // All work has ended.
    const auto left = [&] { return std::chrono::ceil<base::Millis>(end - Now()); };
    const auto released = lease.Update(record, {left(), {}});
    if (released) {
      Observe(*released);
      base::LogInfo("the lease is given back", {{"lease", options.name}});
      return;
    }
    if (released.error().code != base::Code::kConflict) continue;
    auto stored = lease.Get({std::max(base::Millis{1}, left()), {}});
    if (!stored || stored->holder != options.identity) return;
    record = *std::move(stored);
  }
}

base::Status LeaderElector::State::Run(const std::stop_token& stop) {
  std::stop_callback wake(stop, [this] {
    std::lock_guard lock(mutex);
    changed.notify_all();
  });
  while (!stop.stop_requested()) {
    const bool was_contending = Contending();
    base::MonoTime next = Renewed() ? Keep(stop) : Look(was_contending, stop);
    // The end is noticed when it comes, not at the next try: what has to stop gets all the time.
    if (const auto last = Renewed()) next = std::min(next, *last + options.renew_deadline);
    std::unique_lock lock(mutex);
    if (lost) return *lost;
    while (!stop.stop_requested() && contending == was_contending && Now() < next)
      WaitUntil(*options.clock, changed, lock, next);
  }
  Release();
  return {};
}

LeaderElector::LeaderElector(LeaderElectionOptions options, LeaseLock& lock)
    : state_(std::make_unique<State>(std::move(options), lock)) {
  state_->RegisterMetrics();
}
LeaderElector::~LeaderElector() = default;

base::Status LeaderElector::Run(std::stop_token stop) { return state_->Run(stop); }

void LeaderElector::Contend(std::string address) {
  std::lock_guard lock(state_->mutex);
  state_->address = std::move(address);
  state_->contending = true;
  state_->changed.notify_all();
}

base::Status LeaderElector::WaitUntilLeading(std::stop_token stop) const {
  const State& s = *state_;
  std::stop_callback wake(stop, [&s] {
    std::lock_guard lock(s.mutex);
    s.changed.notify_all();
  });
  std::unique_lock lock(s.mutex);
  while (true) {
    if (s.lost) return *s.lost;
    if (stop.stop_requested())
      return base::MakeError(base::Code::kCancelled, "stopped while waiting for the lease");
    if (s.Renewed()) return {};
    WaitUntil(*s.options.clock, s.changed, lock, kNever);
  }
}

base::Result<base::Millis> LeaderElector::MayWrite() const {
  const State& s = *state_;
  const auto renewed = s.Renewed();
  if (!renewed) return NotLeader(s.options.name);
  const base::MonoTime now = s.Now();
  if (now - *renewed >= s.options.renew_deadline) return NotLeader(s.options.name);
  return std::chrono::floor<base::Millis>(*renewed + s.options.lease_duration - now);
}

LeaderView LeaderElector::Leader() const {
  const State& s = *state_;
  const bool leading = Leading();
  const base::MonoTime now = s.Now();
  std::lock_guard lock(s.mutex);
  LeaderView view;
  view.identity = s.observed.holder;
  view.address = s.observed.address;
  view.ours = view.identity == s.options.identity;
  view.valid = view.ours
                   ? leading
                   : !view.identity.empty() &&
                         now - s.observed_at <= std::min(s.observed.duration, kLongestDuration);
  return view;
}

base::Status LeaderElector::Healthy() const {
  const State& s = *state_;
  const auto renewed = s.Renewed();
  if (!renewed || s.Now() - *renewed <= s.options.lease_duration * 3 / 2) return {};
  return base::MakeError(
      base::Code::kTimeout,
      fmt::format("the lease {} has not been renewed for {} ms and the process has not ended",
                  s.options.name,
                  std::chrono::duration_cast<base::Millis>(s.Now() - *renewed).count()),
      "LeaseStuck");
}

}  // namespace runtime
