#include "runtime/event_recorder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include "base/log.hpp"
#include "base/utf8.hpp"
#include "runtime/backoff.hpp"
#include "runtime/deadline_watch.hpp"
#include "runtime/lru_map.hpp"
#include "runtime/metrics.hpp"
#include "runtime/timed_wait.hpp"

namespace runtime {
namespace {

/// Stands for a text: what is remembered for thousands of objects keeps no texts. Two that are
/// equal by chance (once in 2^64) share a series or a bucket.
using Key = uint64_t;

Key KeyOf(std::string_view text) { return std::hash<std::string_view>{}(text); }

struct Series {
  Event event;
  int32_t count = 1;
  int32_t sent = 0;  ///< The count that the API has.
  base::MonoTime last{};
  base::MonoTime refreshed{};
};

struct Bucket {
  double tokens = 0;
  base::MonoTime filled{};
};

/// Notes about one object that differ in their text only.
struct Similar {
  int texts = 0;
  base::MonoTime begun{};
};

struct Item {
  bool patch = false;
  Key series = 0;
  Event event;
  int tries = 0;
};

std::string ObjectText(const EventObject& object) {
  return fmt::format("{}\n{}\n{}\n{}\n{}", object.api_version, object.kind, object.ns, object.name,
                     object.uid);
}

bool Final(base::Code code) {
  switch (code) {
    case base::Code::kInvalid:
    case base::Code::kForbidden:
    case base::Code::kUnauthorized:
    case base::Code::kNotFound:
    case base::Code::kAlreadyExists:
    case base::Code::kConflict:
      return true;
    default:
      return false;
  }
}

constexpr base::Millis kSweep{30'000};

}  // namespace

struct EventRecorder::State {
  State(EventRecorderOptions given, EventSink& to)
      : options(std::move(given)),
        sink(to),
        jitter(),
        series(options.memory_limit),
        buckets(options.memory_limit),
        similar(options.memory_limit) {}

  void Record(EventNote note);
  Event MakeEvent(EventNote note, base::Now now);
  bool Allowed(Key object, base::MonoTime now);
  double TokensOf(const Bucket& bucket, base::MonoTime now) const;
  bool Join(Key key, base::Now now);
  bool Combined(Key key, base::MonoTime now);
  void Enqueue(Item item);
  void Sweep(base::MonoTime now);
  base::MonoTime NextTime(base::MonoTime now);
  std::optional<Item> TakeDue(base::MonoTime now);
  void Send(Item item, const std::stop_token& stop);
  void Settle(Item item, const base::Status& sent, bool last_chance);
  void Flush();
  void RegisterMetrics();

  const EventRecorderOptions options;
  EventSink& sink;
  std::mutex mutex;
  std::condition_variable changed;
  Jitter jitter;
  std::deque<Item> queue;
  std::multimap<base::MonoTime, Item> retries;
  LruMap<Key, Series> series;
  LruMap<Key, Bucket> buckets;
  LruMap<Key, Similar> similar;
  base::MonoTime next_sweep{};
  bool flushing = false;
  uint64_t names = 0;
  Stats stats;
  Metrics::Collector collector;
};

void EventRecorder::State::RegisterMetrics() {
  if (options.metrics == nullptr) return;
  Metrics& m = *options.metrics;
  std::vector<std::pair<Counter*, uint64_t Stats::*>> totals;
  const std::pair<const char*, uint64_t Stats::*> outcomes[] = {{"sent", &Stats::sent},
                                                                {"dropped", &Stats::dropped},
                                                                {"suppressed", &Stats::suppressed},
                                                                {"failed", &Stats::failed}};
  for (const auto& [outcome, member] : outcomes) {
    totals.emplace_back(
        &m.CounterOf({"event_recorder_events_total", "Events by what became of them.", {"outcome"}},
                     {outcome}),
        member);
  }
  Gauge* queued = &m.GaugeOf({"event_recorder_queued", "Events that wait to be sent."});
  collector = m.OnScrape([this, totals, queued] {
    std::lock_guard lock(mutex);
    for (const auto& [counter, member] : totals) {
      counter->Add(static_cast<double>(stats.*member) - counter->Value());
    }
    queued->Set(static_cast<double>(queue.size() + retries.size()));
  });
}

Event EventRecorder::State::MakeEvent(EventNote note, base::Now now) {
  Event event;
  event.ns = note.regarding.ns.empty() ? "default" : note.regarding.ns;
  const auto micros =
      std::chrono::duration_cast<std::chrono::microseconds>(now.wall.time_since_epoch()).count();
  event.name = fmt::format("{}.{:x}{:04x}", base::CutUtf8(note.regarding.name, 220), micros,
                           ++names & 0xffff);
  event.event_time = now.wall;
  event.note = std::move(note);
  event.reporting_controller = base::CutUtf8(options.reporting_controller, 128);
  event.reporting_instance = base::CutUtf8(options.reporting_instance, 128);
  return event;
}

/// The token bucket of the regarded object.
bool EventRecorder::State::Allowed(Key object, base::MonoTime now) {
  Bucket* bucket = buckets.Find(object);
  if (bucket == nullptr) {
    bucket = &buckets.Put(object, {static_cast<double>(options.burst), now});
  }
  bucket->tokens = TokensOf(*bucket, now);
  bucket->filled = now;
  if (bucket->tokens < 1) return false;
  bucket->tokens -= 1;
  return true;
}

void EventRecorder::State::Enqueue(Item item) {
  if (queue.size() + retries.size() >= options.queue_limit) {
    ++stats.dropped;
    if (!item.patch) series.Erase(item.series);
    return;
  }
  queue.push_back(std::move(item));
  changed.notify_one();
}

/// True if the note goes on with a series.
bool EventRecorder::State::Join(Key key, base::Now now) {
  Series* known = series.Find(key);
  if (known == nullptr || now.mono - known->last > options.series_idle) return false;
  ++known->count;
  known->last = now.mono;
  known->event.series_count = known->count;
  known->event.series_last_observed = now.wall;
  if (known->count == 2) Enqueue({true, key, known->event});
  return true;
}

/// Counts a new text; true if there are too many of its kind.
bool EventRecorder::State::Combined(Key key, base::MonoTime now) {
  Similar* known = similar.Find(key);
  if (known == nullptr || now - known->begun > options.similar_window)
    known = &similar.Put(key, {0, now});
  return ++known->texts > options.similar_limit;
}

void EventRecorder::State::Record(EventNote note) {
  note.reason = base::CutUtf8(std::move(note.reason), 128);
  note.action = base::CutUtf8(std::move(note.action), 128);
  note.note = base::CutUtf8(std::move(note.note), 1024);
  const std::string object = ObjectText(note.regarding);
  const std::string kind =
      fmt::format("{}\n{}\n{}\n{}\n{}\n", object, note.related ? ObjectText(*note.related) : "",
                  note.type == EventType::kWarning, note.reason, note.action);
  Key key = KeyOf(kind + note.note);
  std::lock_guard lock(mutex);
  ++stats.recorded;
  const base::Now now = options.clock->Read();
  if (Join(key, now)) return;
  if (const Key similar_ones = KeyOf(kind); Combined(similar_ones, now.mono)) {
    key = similar_ones;  // No note is empty.
    if (Join(key, now)) return;
    note.note = base::CutUtf8("(combined from similar events): " + note.note, 1024);
  }
  if (!Allowed(KeyOf(object), now.mono)) {
    ++stats.suppressed;
    return;
  }
  Event event = MakeEvent(std::move(note), now);
  series.Put(key, {event, 1, 0, now.mono, now.mono});
  Enqueue({false, key, std::move(event)});
}

double EventRecorder::State::TokensOf(const Bucket& bucket, base::MonoTime now) const {
  const std::chrono::duration<double> passed = now - bucket.filled;
  const std::chrono::duration<double> refill = std::max(options.refill, base::Millis{1});
  return std::min(static_cast<double>(options.burst), bucket.tokens + passed / refill);
}

/// Writes counts that the API does not have: of running series now and then, of ended ones once
/// more. Forgets what says no more than an object that was never heard of.
void EventRecorder::State::Sweep(base::MonoTime now) {
  if (now < next_sweep) return;
  next_sweep = now + std::min({kSweep, options.series_idle, options.series_refresh});
  auto& all = series.All();
  for (auto& [key, entry] : all) {
    const bool over = now - entry.last > options.series_idle;
    const bool behind = entry.count > 2 && entry.count > entry.sent;
    if (behind && (over || now - entry.refreshed >= options.series_refresh)) {
      entry.refreshed = now;
      Enqueue({true, key, entry.event});
    }
  }
  series.EraseIf([&](const Series& entry) { return now - entry.last > options.series_idle; });
  buckets.EraseIf([&](const Bucket& bucket) { return TokensOf(bucket, now) >= options.burst; });
  similar.EraseIf([&](const Similar& one) { return now - one.begun > options.similar_window; });
}

base::MonoTime EventRecorder::State::NextTime(base::MonoTime now) {
  if (!queue.empty()) return now;
  const bool rests = series.Size() + buckets.Size() + similar.Size() == 0;
  const base::MonoTime sweep = rests ? kNever : next_sweep;
  return retries.empty() ? sweep : std::min(sweep, retries.begin()->first);
}

std::optional<Item> EventRecorder::State::TakeDue(base::MonoTime now) {
  std::optional<Item> item;
  if (!retries.empty() && retries.begin()->first <= now) {
    item = std::move(retries.begin()->second);
    retries.erase(retries.begin());
  } else if (!queue.empty()) {
    item = std::move(queue.front());
    queue.pop_front();
  }
  if (item && item->patch) {
    // The newest count, if the series goes on.
    if (const Series* known = series.Find(item->series)) item->event = known->event;
  }
  return item;
}

void EventRecorder::State::Send(Item item, const std::stop_token& stop) {
  ++item.tries;
  base::Status sent =
      item.patch ? sink.PatchSeries(item.event, stop) : sink.Create(item.event, stop);
  if (item.patch && !sent && sent.error().code == base::Code::kNotFound) {
    item.patch = false;
    sent = sink.Create(item.event, stop);
  }
  Settle(std::move(item), sent, stop.stop_requested());
}

void EventRecorder::State::Settle(Item item, const base::Status& sent, bool last_chance) {
  std::lock_guard lock(mutex);
  if (sent) {
    ++stats.sent;
    Series* known = series.Find(item.series);
    if (known != nullptr) known->sent = std::max(known->sent, std::max(1, item.event.series_count));
    return;
  }
  // Cut short by the stop: there is time for it yet, in Flush.
  if (last_chance && !flushing && sent.error().code == base::Code::kCancelled)
    return queue.push_front(std::move(item));
  if (last_chance || Final(sent.error().code) || item.tries >= options.tries ||
      queue.size() + retries.size() >= options.queue_limit) {
    ++stats.failed;
    base::LogDebug("event not sent", {{"event", item.event.ns + "/" + item.event.name},
                                      {"error", sent.error().message}});
    return;
  }
  const double factor = 0.75 + 0.5 * jitter.Next();
  const auto delay =
      base::Millis{static_cast<int64_t>(static_cast<double>(options.retry_delay.count()) * factor)};
  retries.emplace(options.clock->Read().mono + delay, std::move(item));
}

/// What is still queued at the end, within its limit.
void EventRecorder::State::Flush() {
  DeadlineWatch deadlines(*options.clock);
  DeadlineWatch::Guard guard(deadlines, options.flush_limit, {});
  {
    const std::lock_guard lock(mutex);
    flushing = true;
  }
  while (!guard.Expired()) {
    std::optional<Item> item;
    {
      std::lock_guard lock(mutex);
      item = TakeDue(base::MonoTime::max());  // Those that wait for their next try, too.
    }
    if (!item) return;
    item->tries = options.tries;
    Send(std::move(*item), guard.Token());
  }
}

EventRecorder::EventRecorder(EventRecorderOptions options, EventSink& sink)
    : state_(std::make_unique<State>(std::move(options), sink)) {
  state_->RegisterMetrics();
}
EventRecorder::~EventRecorder() = default;

void EventRecorder::Record(EventNote note) noexcept {
  try {
    state_->Record(std::move(note));
  } catch (...) {
    // Out of memory at worst: an event is not worth a process.
  }
}

base::Status EventRecorder::Run(std::stop_token stop) {
  State& s = *state_;
  {
    std::stop_callback wake(stop, [&s] {
      std::lock_guard lock(s.mutex);
      s.changed.notify_all();
    });
    while (!stop.stop_requested()) {
      std::optional<Item> item;
      {
        std::unique_lock lock(s.mutex);
        const base::MonoTime now = s.options.clock->Read().mono;
        s.Sweep(now);
        item = s.TakeDue(now);
        if (!item && !stop.stop_requested()) {
          WaitUntil(*s.options.clock, s.changed, lock, s.NextTime(now));
        }
      }
      if (item) s.Send(std::move(*item), stop);
    }
  }
  s.Flush();
  return {};
}

EventRecorder::Stats EventRecorder::GetStats() const {
  std::lock_guard lock(state_->mutex);
  Stats stats = state_->stats;
  stats.queued = state_->queue.size() + state_->retries.size();
  stats.remembered = state_->series.Size() + state_->buckets.Size() + state_->similar.Size();
  return stats;
}

}  // namespace runtime
