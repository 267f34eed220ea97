#include "runtime/work_queue.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "runtime/metrics.hpp"
#include "runtime/timed_wait.hpp"

namespace runtime {
namespace {

constexpr size_t kNotInHeap = SIZE_MAX;

struct Entry {
  const meta::ObjectKey* key = nullptr;  ///< In the map's node.
  // While it waits, or is to wait after Done:
  bool queued = false;
  Priority priority = Priority::kNormal;
  base::MonoTime ready_at{};
  uint64_t sequence = 0;  ///< Order of equal ready times.
  size_t position = kNotInHeap;
  // While a worker has it:
  bool processing = false;
  bool early = false;  ///< Handed out before the end of its back-off.
  Priority run_priority = Priority::kNormal;
  base::MonoTime started{};
  // Back-off:
  uint32_t failures = 0;
  base::MonoTime backoff_until{};
};

/// A binary heap by ready time whose entries know their place, so that an entry can be moved or
/// taken out in O(log n) without a search.
class ReadyHeap {
 public:
  bool Empty() const { return entries_.empty(); }
  size_t Size() const { return entries_.size(); }
  Entry* Top() const { return entries_.empty() ? nullptr : entries_.front(); }
  const std::vector<Entry*>& All() const { return entries_; }

  void Push(Entry* entry) {
    entries_.push_back(entry);
    Place(entry, entries_.size() - 1);
    Up(entry->position);
  }
  void Erase(Entry* entry) {
    const size_t at = entry->position;
    Entry* last = entries_.back();
    entries_.pop_back();
    entry->position = kNotInHeap;
    if (last != entry) {
      Place(last, at);
      Restore(at);
    }
    // Capacity of a burst is given back.
    if (entries_.capacity() > 1024 && entries_.size() < entries_.capacity() / 8) {
      entries_.shrink_to_fit();
    }
  }
  void Moved(Entry* entry) { Restore(entry->position); }

 private:
  static bool Before(const Entry* a, const Entry* b) {
    return a->ready_at != b->ready_at ? a->ready_at < b->ready_at : a->sequence < b->sequence;
  }
  void Place(Entry* entry, size_t at) {
    entries_[at] = entry;
    entry->position = at;
  }
  void Restore(size_t at) {
    Entry* entry = entries_[at];
    Up(at);
    Down(entry->position);
  }
  void Up(size_t at) {
    Entry* entry = entries_[at];
    for (; at > 0 && Before(entry, entries_[(at - 1) / 2]); at = (at - 1) / 2) {
      Place(entries_[(at - 1) / 2], at);
    }
    Place(entry, at);
  }
  void Down(size_t at) {
    Entry* entry = entries_[at];
    while (true) {
      size_t child = 2 * at + 1;
      if (child >= entries_.size()) break;
      if (child + 1 < entries_.size() && Before(entries_[child + 1], entries_[child])) ++child;
      if (!Before(entries_[child], entry)) break;
      Place(entries_[child], at);
      at = child;
    }
    Place(entry, at);
  }

  std::vector<Entry*> entries_;
};

double SecondsOf(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

struct WorkQueue::State {
  explicit State(WorkQueueOptions given) : options(std::move(given)), jitter(options.jitter_seed) {}

  Entry& EntryOf(const meta::ObjectKey& key);
  void DropIfIdle(Entry& entry);
  bool Enqueue(Entry& entry, base::MonoTime ready_at, Priority priority);
  bool Requeue(Entry& entry, base::MonoTime ready_at, Priority priority, base::MonoTime now);
  Entry* Pick(base::MonoTime now);
  meta::ObjectKey HandOut(Entry* entry, base::MonoTime now);
  base::MonoTime NextReady() const;
  bool Watched(base::MonoTime at) const;
  ReadyHeap& HeapOf(const Entry& entry) { return heaps[entry.priority == Priority::kLow]; }
  void AddAt(const meta::ObjectKey& key, base::Millis delay, Priority priority);
  WorkQueueStats StatsLocked() const;
  void RegisterMetrics();
  void Publish();

  const WorkQueueOptions options;
  mutable std::mutex mutex;
  std::condition_variable ready;  ///< Something changed for a waiter of Get.
  std::condition_variable idle;   ///< Nothing is processing any more.
  Jitter jitter;
  std::unordered_map<meta::ObjectKey, Entry> entries;
  ReadyHeap heaps[2];  ///< Normal, low.
  std::vector<Entry*> processing;
  std::vector<base::MonoTime> watched;  ///< Until when each waiter of Get sleeps at most.
  uint64_t sequence = 0;
  int since_low = 0;
  bool shut_down = false;
  uint64_t adds = 0, retries = 0;
  size_t failing = 0;

  Counter* adds_total = nullptr;
  Counter* retries_total = nullptr;
  Gauge* depth[2] = {nullptr, nullptr};
  Gauge* unfinished = nullptr;
  Gauge* longest = nullptr;
  Histogram* queue_duration = nullptr;
  Histogram* work_duration = nullptr;
  Metrics::Collector collector;
};

Entry& WorkQueue::State::EntryOf(const meta::ObjectKey& key) {
  const auto found = entries.find(key);
  if (found != entries.end()) return found->second;
  const auto made = entries.try_emplace(key).first;
  made->second.key = &made->first;
  return made->second;
}

void WorkQueue::State::DropIfIdle(Entry& entry) {
  if (entry.queued || entry.processing || entry.failures > 0) return;
  entries.erase(entries.find(*entry.key));
}

/// Makes `entry` wait: earliest time, highest priority of all that was asked for. True: a waiter
/// has to be woken for it, once the lock is given back (one that is woken before only runs into
/// it).
bool WorkQueue::State::Enqueue(Entry& entry, base::MonoTime ready_at, Priority priority) {
  const base::MonoTime now = options.clock->Read().mono;
  if (entry.queued) {
    return Requeue(entry, ready_at, priority, now);
  }
  entry.queued = true;
  entry.priority = priority;
  entry.ready_at = ready_at;
  entry.sequence = ++sequence;
  ++adds;
  if (adds_total != nullptr) adds_total->Add();
  if (entry.processing) return false;  // Done() puts it into its heap.
  HeapOf(entry).Push(&entry);
  return !Watched(entry.ready_at);
}

bool WorkQueue::State::Requeue(Entry& entry, base::MonoTime ready_at, Priority priority,
                               base::MonoTime now) {
  const bool raised = priority == Priority::kNormal && entry.priority == Priority::kLow;
  const bool earlier = ready_at < entry.ready_at;
  // Something that is ready already has its place in the line; it does not lose it to another Add.
  if (!raised && (!earlier || entry.ready_at <= now)) return false;
  const bool in_heap = entry.position != kNotInHeap;
  if (in_heap) HeapOf(entry).Erase(&entry);
  entry.ready_at = std::min(entry.ready_at, ready_at);
  if (raised) entry.ready_at = std::max(entry.ready_at, now);  // The tail of its new level.
  if (raised) entry.priority = priority;
  entry.sequence = ++sequence;
  ++adds;
  if (adds_total != nullptr) adds_total->Add();
  if (!in_heap) return false;
  HeapOf(entry).Push(&entry);
  return !Watched(entry.ready_at);
}

void WorkQueue::State::AddAt(const meta::ObjectKey& key, base::Millis delay, Priority priority) {
  std::unique_lock lock(mutex);
  if (shut_down) return;
  const bool wake = Enqueue(EntryOf(key), options.clock->Read().mono + ClampDelay(delay), priority);
  lock.unlock();
  if (wake) ready.notify_one();
}

/// The entry whose turn it is, or null.
Entry* WorkQueue::State::Pick(base::MonoTime now) {
  Entry* normal = heaps[0].Top();
  Entry* low = heaps[1].Top();
  if (normal != nullptr && normal->ready_at > now) normal = nullptr;
  if (low != nullptr && low->ready_at > now) low = nullptr;
  if (normal == nullptr || low == nullptr) return normal != nullptr ? normal : low;
  const bool aged = now - low->ready_at >= options.ageing;
  return aged && since_low + 1 >= options.ageing_share ? low : normal;
}

meta::ObjectKey WorkQueue::State::HandOut(Entry* entry, base::MonoTime now) {
  since_low = entry->priority == Priority::kLow ? 0 : std::min(since_low + 1, 1 << 20);
  HeapOf(*entry).Erase(entry);
  entry->queued = false;
  entry->processing = true;
  entry->run_priority = entry->priority;
  entry->started = now;
  entry->early = entry->failures > 0 && now < entry->backoff_until;
  processing.push_back(entry);
  if (queue_duration != nullptr) queue_duration->Observe(SecondsOf(now - entry->ready_at));
  return *entry->key;
}

base::MonoTime WorkQueue::State::NextReady() const {
  base::MonoTime next = kNever;
  for (const ReadyHeap& heap : heaps) {
    if (heap.Top() != nullptr) next = std::min(next, heap.Top()->ready_at);
  }
  return next;
}

/// Some waiter wakes up by itself at that time or earlier. It takes the key, or another one, and
/// then sees to it that what comes next is watched.
bool WorkQueue::State::Watched(base::MonoTime at) const {
  return std::any_of(watched.begin(), watched.end(),
                     [&](base::MonoTime until) { return until <= at; });
}

WorkQueueStats WorkQueue::State::StatsLocked() const {
  WorkQueueStats stats;
  const base::MonoTime now = options.clock->Read().mono;
  for (const ReadyHeap& heap : heaps) {
    for (const Entry* entry : heap.All()) ++(entry->ready_at <= now ? stats.ready : stats.delayed);
  }
  stats.processing = processing.size();
  stats.failing = failing;
  stats.known = entries.size();
  stats.adds = adds;
  stats.retries = retries;
  for (const Entry* entry : processing) {
    const double seconds = SecondsOf(now - entry->started);
    stats.unfinished_seconds += seconds;
    stats.longest_seconds = std::max(stats.longest_seconds, seconds);
  }
  return stats;
}

void WorkQueue::State::RegisterMetrics() {
  if (options.metrics == nullptr) return;
  Metrics& m = *options.metrics;
  const Metrics::Labels names{"name", "controller"};
  const Metrics::Labels values{options.name, options.name};
  adds_total = &m.CounterOf(
      {"workqueue_adds_total", "Total number of adds handled by the work queue.", names}, values);
  retries_total = &m.CounterOf(
      {"workqueue_retries_total", "Total number of retries handled by the work queue.", names},
      values);
  for (const int low : {0, 1}) {
    depth[low] = &m.GaugeOf({"workqueue_depth",
                             "Number of keys that are ready and wait.",
                             {"name", "controller", "priority"}},
                            {options.name, options.name, low ? "low" : "normal"});
  }
  unfinished = &m.GaugeOf(
      {"workqueue_unfinished_work_seconds",
       "Seconds of work in progress that has not been observed by work_duration.", names},
      values);
  longest = &m.GaugeOf({"workqueue_longest_running_processor_seconds",
                        "Seconds that the longest running worker has been running.", names},
                       values);
  const auto bounds = ExponentialBounds(1e-6, 10, 10);
  queue_duration = &m.HistogramOf(
      {"workqueue_queue_duration_seconds", "Seconds that a key waited after it was ready.", names},
      values, bounds);
  work_duration = &m.HistogramOf(
      {"workqueue_work_duration_seconds", "Seconds that a run took.", names}, values, bounds);
  collector = m.OnScrape([this] { Publish(); });
}

void WorkQueue::State::Publish() {
  std::lock_guard lock(mutex);
  const base::MonoTime now = options.clock->Read().mono;
  for (const int low : {0, 1}) {
    const auto& all = heaps[low].All();
    depth[low]->Set(static_cast<double>(std::count_if(
        all.begin(), all.end(), [&](const Entry* entry) { return entry->ready_at <= now; })));
  }
  const WorkQueueStats stats = StatsLocked();
  unfinished->Set(stats.unfinished_seconds);
  longest->Set(stats.longest_seconds);
}

WorkQueue::WorkQueue(WorkQueueOptions options)
    : state_(std::make_unique<State>(std::move(options))) {
  state_->RegisterMetrics();
}

WorkQueue::~WorkQueue() { ShutDown(); }

void WorkQueue::Add(const meta::ObjectKey& key, Priority priority) {
  state_->AddAt(key, base::Millis{0}, priority);
}

void WorkQueue::AddAfter(const meta::ObjectKey& key, base::Millis delay, Priority priority) {
  state_->AddAt(key, delay, priority);
}

base::Millis WorkQueue::AddRateLimited(const meta::ObjectKey& key, base::Millis at_least) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  if (s.shut_down) return base::Millis{0};
  Entry& entry = s.EntryOf(key);
  const base::MonoTime now = s.options.clock->Read().mono;
  base::Millis delay;
  if (entry.processing && entry.early && entry.failures > 0) {
    // An event brought this run forward. The back-off that it jumped goes on as if the run had not
    // been.
    const auto left = std::chrono::ceil<base::Millis>(entry.backoff_until - now);
    delay = left > base::Millis{0} ? left
                                   : BackoffDelay(s.options.backoff, entry.failures - 1, s.jitter);
  } else {
    delay = BackoffDelay(s.options.backoff, entry.failures, s.jitter);
    if (entry.failures++ == 0) ++s.failing;
  }
  delay = ClampDelay(std::max(delay, at_least));
  entry.backoff_until = now + delay;
  ++s.retries;
  if (s.retries_total != nullptr) s.retries_total->Add();
  const bool wake = s.Enqueue(entry, entry.backoff_until,
                              entry.processing ? entry.run_priority : Priority::kNormal);
  lock.unlock();
  if (wake) s.ready.notify_one();
  return delay;
}

void WorkQueue::Forget(const meta::ObjectKey& key) {
  std::lock_guard lock(state_->mutex);
  const auto found = state_->entries.find(key);
  if (found == state_->entries.end()) return;
  if (found->second.failures > 0) --state_->failing;
  found->second.failures = 0;
  found->second.backoff_until = {};
  state_->DropIfIdle(found->second);
}

void WorkQueue::Remove(const meta::ObjectKey& key) {
  {
    std::lock_guard lock(state_->mutex);
    const auto found = state_->entries.find(key);
    if (found != state_->entries.end() && found->second.position != kNotInHeap) {
      state_->HeapOf(found->second).Erase(&found->second);
      found->second.queued = false;
      state_->DropIfIdle(found->second);
    }
  }
  Forget(key);
}

std::optional<meta::ObjectKey> WorkQueue::Get(std::stop_token stop) {
  State& s = *state_;
  std::stop_callback wake(stop, [&s] {
    std::lock_guard lock(s.mutex);
    s.ready.notify_all();
  });
  std::unique_lock lock(s.mutex);
  while (!s.shut_down && !stop.stop_requested()) {
    const base::MonoTime now = s.options.clock->Read().mono;
    if (Entry* entry = s.Pick(now)) {
      meta::ObjectKey key = s.HandOut(entry, now);
      // Who watched the time leaves with this key: another one takes its place.
      const base::MonoTime next = s.NextReady();
      const bool unwatched = next != kNever && !s.Watched(next);
      lock.unlock();
      if (unwatched) s.ready.notify_one();
      return key;
    }
    const base::MonoTime until = s.NextReady();
    s.watched.push_back(until);
    WaitUntil(*s.options.clock, s.ready, lock, until);
    s.watched.erase(std::find(s.watched.begin(), s.watched.end(), until));
  }
  // The notification that woke this thread may have been meant for a key: pass it on.
  s.ready.notify_one();
  return std::nullopt;
}

std::optional<meta::ObjectKey> WorkQueue::TryGet() {
  std::lock_guard lock(state_->mutex);
  const base::MonoTime now = state_->options.clock->Read().mono;
  Entry* entry = state_->Pick(now);
  if (entry == nullptr) return std::nullopt;
  return state_->HandOut(entry, now);
}

void WorkQueue::Done(const meta::ObjectKey& key) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  const auto found = s.entries.find(key);
  if (found == s.entries.end() || !found->second.processing) return;
  Entry& entry = found->second;
  entry.processing = false;
  std::erase(s.processing, &entry);
  if (s.work_duration != nullptr) {
    s.work_duration->Observe(SecondsOf(s.options.clock->Read().mono - entry.started));
  }
  if (s.processing.empty()) s.idle.notify_all();
  bool wake = false;
  if (entry.queued) {
    s.HeapOf(entry).Push(&entry);
    wake = !s.Watched(entry.ready_at);
  } else {
    s.DropIfIdle(entry);
  }
  lock.unlock();
  if (wake) s.ready.notify_one();
}

void WorkQueue::ShutDown() {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  s.shut_down = true;
  for (ReadyHeap& heap : s.heaps) heap = {};
  for (auto it = s.entries.begin(); it != s.entries.end();) {
    it->second.queued = false;
    it->second.position = kNotInHeap;
    it = it->second.processing ? std::next(it) : s.entries.erase(it);
  }
  s.failing = static_cast<size_t>(std::count_if(s.processing.begin(), s.processing.end(),
                                                [](const Entry* e) { return e->failures > 0; }));
  s.ready.notify_all();
}

bool WorkQueue::Drain(base::Millis limit) {
  ShutDown();
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  const base::MonoTime deadline = s.options.clock->Read().mono + ClampDelay(limit);
  while (!s.processing.empty() && s.options.clock->Read().mono < deadline) {
    WaitUntil(*s.options.clock, s.idle, lock, deadline);
  }
  return s.processing.empty();
}

bool WorkQueue::ShuttingDown() const {
  std::lock_guard lock(state_->mutex);
  return state_->shut_down;
}

uint32_t WorkQueue::Failures(const meta::ObjectKey& key) const {
  std::lock_guard lock(state_->mutex);
  const auto found = state_->entries.find(key);
  return found == state_->entries.end() ? 0 : found->second.failures;
}

size_t WorkQueue::Size() const {
  std::lock_guard lock(state_->mutex);
  return state_->heaps[0].Size() + state_->heaps[1].Size();
}

WorkQueueStats WorkQueue::Stats() const {
  std::lock_guard lock(state_->mutex);
  return state_->StatsLocked();
}

}  // namespace runtime
