#include "runtime/informer/informer_core.hpp"

#include <algorithm>
#include <cmath>
#include <thread>

#include "base/log.hpp"
#include "base/thread_name.hpp"
#include "runtime/informer/informer_state.hpp"
#include "runtime/informer/resource_version.hpp"

namespace runtime {
namespace {

constexpr base::Millis kScanTick{100};  ///< The resync scan wakes up at most ten times a second.

}  // namespace

/// The informer's own thread: ends silent attempts, and walks the store at an even pace.
void InformerCore::State::Keep(Reflector& running, const std::stop_token& stop) {
  std::stop_callback wake(stop, [this] {
    std::lock_guard lock(keeper_mutex);
    keeper.notify_all();
  });
  while (!stop.stop_requested()) {
    running.CancelIfSilent();
    const bool was_synced = synced;
    const base::MonoTime scan = Resync(options.clock->Read().mono);
    std::unique_lock lock(keeper_mutex);
    if (stop.stop_requested()) break;
    if (synced != was_synced) continue;
    const base::MonoTime until = std::min(scan, running.Deadline());
    WaitUntil(*options.clock, keeper, lock, until);
  }
}

/// Tells handlers of the objects whose turn has come; returns when to do so again.
base::MonoTime InformerCore::State::Resync(base::MonoTime now) {
  if (options.resync <= base::Millis{0}) return kNever;
  if (!synced) {
    next_scan = kNever;
    return kNever;  // Publish() wakes the keeper.
  }
  if (next_scan == kNever) {
    scanned = now;
    next_scan = now;
  }
  if (now < next_scan) return next_scan;
  if (cursor == 0) {
    const size_t before = cycle;
    cycle = cursor = store.Size();
    due = 0;
    // The time since the last look was measured out for far fewer: no bunch of all that came since.
    if (cycle > 2 * before + 1) scanned = now;
  }
  const std::chrono::duration<double> elapsed = now - scanned;
  const std::chrono::duration<double> period = options.resync;
  scanned = now;
  due += std::min(1.0, elapsed / period) * static_cast<double>(cycle);
  const auto count = static_cast<size_t>(due);
  due -= static_cast<double>(count);
  if (count > 0 && cursor > 0) {
    std::vector<meta::ObjectKey> keys;
    keys.reserve(std::min(count, cursor));
    cursor = store.Scan(cursor, count, [&](const PackedView& view) { keys.push_back(view.Key()); });
    std::lock_guard lock(mutex);
    for (const meta::ObjectKey& key : keys) {
      Deliver({ObjectEventKind::kResync, key, nullptr, nullptr, false, false});
    }
  }
  // As often as there is an object to visit, but at most ten times a second, +-10 %.
  auto tick = std::chrono::duration_cast<std::chrono::nanoseconds>(period) /
              static_cast<int64_t>(std::max<size_t>(cycle, 1));
  tick = std::max<std::chrono::nanoseconds>(tick, kScanTick);
  tick += std::chrono::nanoseconds{
      static_cast<int64_t>(static_cast<double>(tick.count()) * (jitter.Next() * 0.2 - 0.1))};
  next_scan = now + tick;
  return next_scan;
}

void InformerCore::State::RegisterMetrics() {
  if (options.metrics == nullptr) return;
  Metrics& m = *options.metrics;
  const Metrics::Labels names{"informer"}, values{options.name};
  const auto gauge = [&](const char* name, const char* help) {
    return &m.GaugeOf({name, help, names}, values);
  };
  Gauge* objects = gauge("informer_objects", "Objects in the cache.");
  Gauge* bytes = gauge("informer_cache_bytes", "Bytes of the cache.");
  Gauge* is_synced = gauge("informer_synced", "1 when the initial set is in the cache.");
  Gauge* lag = gauge("informer_seconds_since_contact", "Seconds since the last byte of the watch.");
  Gauge* last_version = gauge("informer_resource_version", "The last processed resourceVersion.");
  event_seconds = &m.HistogramOf(
      {"informer_event_seconds", "From a watch event's bytes to the end of its handlers.", names},
      values, ExponentialBounds(4e-6, 4, 10));
  Gauge* unreadable = gauge("informer_quarantined", "Objects that cannot be decoded.");
  struct Totals {
    const char* name;
    const char* help;
    uint64_t InformerStats::*member;
  };
  static constexpr Totals kTotals[] = {
      {"informer_lists_total", "Lists started.", &InformerStats::lists},
      {"informer_watches_total", "Watches started.", &InformerStats::watches},
      {"informer_events_total", "Watch events read.", &InformerStats::events},
      {"informer_relists_total", "Full reloads after the first.", &InformerStats::relists},
      {"informer_own_echoes_total", "Echoes of own writes that woke nobody.",
       &InformerStats::own_writes},
      {"informer_self_triggers_total", "Echoes of own writes that woke somebody.",
       &InformerStats::self_triggers},
      {"informer_quarantine_total", "Times an object could not be decoded.",
       &InformerStats::quarantined_total},
      {"informer_handler_failures_total", "Handlers that threw.", &InformerStats::handler_failures},
  };
  std::vector<std::pair<Counter*, uint64_t InformerStats::*>> totals;
  for (const Totals& total : kTotals) {
    totals.emplace_back(&m.CounterOf({total.name, total.help, names}, values), total.member);
  }
  collector = m.OnScrape([=, this] {
    const InformerStats stats = StatsNow();
    objects->Set(static_cast<double>(stats.objects));
    bytes->Set(static_cast<double>(store.Bytes()));
    is_synced->Set(stats.synced ? 1 : 0);
    lag->Set(static_cast<double>(stats.since_contact.count()) / 1000.0);
    last_version->Set(std::strtod(stats.resource_version.c_str(), nullptr));
    unreadable->Set(static_cast<double>(stats.quarantined));
    for (const auto& [counter, member] : totals) {
      counter->Add(static_cast<double>(stats.*member) - counter->Value());
    }
  });
}

InformerStats InformerCore::State::StatsNow() const {
  std::lock_guard lock(mutex);
  const ReflectorStats from = reflector != nullptr ? reflector->Stats() : last_stats;
  InformerStats stats;
  stats.objects = store.Size();
  stats.synced = synced;
  stats.listing = from.listing;
  stats.resource_version = version;
  stats.last_error = from.last_error;
  if (from.last_contact != base::MonoTime{}) {
    stats.since_contact =
        std::chrono::duration_cast<base::Millis>(options.clock->Read().mono - from.last_contact);
  }
  stats.lists = from.lists;
  stats.watches = from.watches;
  stats.events = from.events;
  stats.bookmarks = from.bookmarks;
  stats.relists = from.relists;
  stats.own_writes = own_echoes;
  stats.self_triggers = self_triggers;
  stats.quarantined_total = quarantined_total;
  stats.quarantined = quarantine.size();
  stats.handler_failures = handler_failures;
  return stats;
}

InformerCore::InformerCore(InformerOptions options, ErasedFormat format, PackedStore& store,
                           ListWatch& source)
    : state_(std::make_unique<State>(std::move(options), std::move(format), store, source)) {
  state_->RegisterMetrics();
}
InformerCore::~InformerCore() = default;

void InformerCore::AddHandler(Handler handler) {
  std::lock_guard lock(state_->mutex);
  // Before the first set is published its events are still to come; afterwards they are replayed
  // here, in order with the live ones.
  if (state_->synced) state_->DeliverAll(&handler);
  state_->handlers.push_back(std::move(handler));
}

base::Status InformerCore::Run(std::stop_token stop) {
  State& s = *state_;
  Reflector reflector(s.options, s.source, s);
  {
    std::lock_guard lock(s.mutex);
    if (s.reflector != nullptr) {
      return base::MakeError(base::Code::kAlreadyExists, "informer " + s.options.name + " runs");
    }
    s.reflector = &reflector;
  }
  {
    std::jthread keeper([&](const std::stop_token& keeper_stop) {
      base::NameThread("keep-" + s.options.name);
      s.Keep(reflector, keeper_stop);
    });
    reflector.Run(stop, [&s] {
      std::lock_guard lock(s.keeper_mutex);
      s.keeper.notify_all();
    });
  }
  std::lock_guard lock(s.mutex);
  s.last_stats = reflector.Stats();
  s.reflector = nullptr;
  s.changed.notify_all();
  return {};
}

bool InformerCore::HasSynced() const { return state_->synced; }

base::Status InformerCore::WaitForSync(std::stop_token stop, base::Millis limit) const {
  State& s = *state_;
  std::stop_callback wake(stop, [&s] {
    std::lock_guard lock(s.mutex);
    s.changed.notify_all();
  });
  std::unique_lock lock(s.mutex);
  const base::MonoTime deadline = s.options.clock->Read().mono + ClampDelay(limit);
  const auto why = [&s] {
    const std::string error = s.reflector != nullptr ? s.reflector->Stats().last_error : "not run";
    return error.empty() ? error : ": " + error;
  };
  while (!s.synced) {
    if (stop.stop_requested()) {
      return base::MakeError(base::Code::kCancelled,
                             "stopped before " + s.options.name + " synced" + why());
    }
    if (s.options.clock->Read().mono >= deadline) {
      return base::MakeError(base::Code::kTimeout,
                             "informer " + s.options.name + " has not synced in time" + why());
    }
    WaitUntil(*s.options.clock, s.changed, lock, deadline);
  }
  return {};
}

void InformerCore::BeginWrite(const meta::ObjectKey& key) {
  std::lock_guard lock(state_->mutex);
  ++state_->flights[key].writes;
}

void InformerCore::EndWrite(const meta::ObjectKey& key) {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  const auto flight = s.flights.find(key);
  if (flight == s.flights.end() || --flight->second.writes > 0) return;
  // Somebody else's change, or ours of a call whose answer was lost.
  const bool foreign = !flight->second.held.empty();
  s.flights.erase(flight);
  const State::Object now = foreign ? s.Load(key) : nullptr;
  if (now) s.Deliver({ObjectEventKind::kUpdated, key, now, now, false, false});
}

void InformerCore::ObserveWrite(ErasedFormat::Decoded written) {
  std::lock_guard lock(state_->mutex);
  state_->Overlay(written);
  state_->changed.notify_all();
}

void InformerCore::ObserveVersion(const meta::ObjectKey& key, const std::string& resource_version) {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  if (s.TakeHeld(key, resource_version)) return;
  s.NoteSelfTrigger(key, resource_version);
  if (AtLeast(s.version, resource_version)) return;
  s.own.Add(key, resource_version, s.options.clock->Read().mono);
}

void InformerCore::ObserveDelete(const meta::ObjectKey& key, const std::string& uid) {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  const auto cached = s.Find(key);
  if (!cached || cached->uid != uid) return;
  s.tombstones.Put(key, uid);
  s.own.Forget(key);
  const State::Object old_object = s.Load(key);
  s.store.Erase(key);
  s.Deliver({ObjectEventKind::kDeleted, key, nullptr, old_object, false, false});
  s.changed.notify_all();
}

base::Status InformerCore::WaitFor(const meta::ObjectKey& key, base::Millis limit,
                                   std::stop_token stop) const {
  State& s = *state_;
  std::stop_callback wake(stop, [&s] {
    std::lock_guard lock(s.mutex);
    s.changed.notify_all();
  });
  std::unique_lock lock(s.mutex);
  const base::MonoTime deadline = s.options.clock->Read().mono + ClampDelay(limit);
  while (true) {
    const std::string wanted = s.own.Newest(key);
    if (wanted.empty() || AtLeast(s.version, wanted)) return {};
    const auto cached = s.Find(key);
    if (cached && AtLeast(cached->version, wanted)) return {};
    if (stop.stop_requested()) {
      return base::MakeError(base::Code::kCancelled, "stopped while waiting for an own write");
    }
    if (s.options.clock->Read().mono >= deadline) {
      return base::MakeError(base::Code::kTimeout, "the watch has not shown our own write of " +
                                                       key.Text() + " at version " + wanted);
    }
    WaitUntil(*s.options.clock, s.changed, lock, deadline);
  }
}

void InformerCore::OnSelfTrigger(std::function<void(const meta::ObjectKey&)> call) {
  std::lock_guard lock(state_->mutex);
  state_->on_self_trigger = std::move(call);
}

std::string InformerCore::LastVersion() const {
  std::lock_guard lock(state_->mutex);
  return state_->version;
}

std::vector<Quarantined> InformerCore::Quarantine() const {
  std::lock_guard lock(state_->mutex);
  std::vector<Quarantined> all;
  for (const auto& [key, entry] : state_->quarantine) all.push_back(entry);
  return all;
}

InformerStats InformerCore::Stats() const { return state_->StatsNow(); }

}  // namespace runtime
