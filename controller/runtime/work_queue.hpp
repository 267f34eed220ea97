#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "base/clock.hpp"
#include "meta/object.hpp"
#include "runtime/backoff.hpp"

namespace runtime {

class Metrics;

/// kLow is for initial lists and resyncs; everything that somebody may be waiting for is kNormal.
enum class Priority { kNormal, kLow };

struct WorkQueueOptions {
  std::string name = "queue";  ///< Label `name` (and `controller`) of the metrics.
  BackoffOptions backoff;
  /// A low item that has been ready for this long is served once in every `ageing_share` items even
  /// if normal ones wait.
  base::Millis ageing{1'000};
  int ageing_share = 8;
  const base::Clock* clock = &base::SystemClock::Get();
  Metrics* metrics = nullptr;  ///< workqueue_*; must outlive the queue.
  uint64_t jitter_seed = 0;
};

/// Numbers at one moment.
struct WorkQueueStats {
  size_t ready = 0;       ///< May be handed out now.
  size_t delayed = 0;     ///< Wait for their time.
  size_t processing = 0;  ///< Handed out, not done.
  size_t failing = 0;     ///< Keys with a failure count.
  size_t known = 0;       ///< Keys of which anything is kept: all of the above.
  uint64_t adds = 0;      ///< That made or changed an entry.
  uint64_t retries = 0;
  double unfinished_seconds = 0;  ///< Sum over what is processing.
  double longest_seconds = 0;
};

/// Keys that wait for a worker: one entry a key, never two workers on one key, back-off per key,
/// delays on the monotonic clock.
///
///           Add / AddAfter / AddRateLimited           Get                 Done
///   (none) -------------------------------> queued -------> processing -------> (none)
///                                              ^                 | added again meanwhile
///                                              +-----------------+ (on Done)
///
/// An entry has one ready time (the earliest asked for) and one priority (the highest asked for).
/// Inside a priority the order is that of the ready times. All calls are thread safe and O(log n);
/// a repeated Add of a waiting key allocates nothing.
class WorkQueue {
 public:
  explicit WorkQueue(WorkQueueOptions options = {});
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  /// Ready at once. During processing: delivered exactly once more after Done.
  void Add(const meta::ObjectKey& key, Priority priority = Priority::kNormal);
  /// Ready after `delay` (clamped to 0 .. 180 days).
  void AddAfter(const meta::ObjectKey& key, base::Millis delay,
                Priority priority = Priority::kNormal);
  /// A failure: ready after the key's back-off, or after `at_least` if that is longer; keeps the
  /// priority the key was handed out with. Counts one failure, but not when the run was brought
  /// forward by an event: then the running back-off stands as it is. Returns the delay.
  base::Millis AddRateLimited(const meta::ObjectKey& key, base::Millis at_least = {});
  /// The key succeeded: its failure count and back-off are dropped. Does not touch a waiting entry.
  void Forget(const meta::ObjectKey& key);
  /// Takes a waiting entry out and forgets it. A key being processed is only forgotten.
  void Remove(const meta::ObjectKey& key);

  /// The next key; waits for one. Nothing after ShutDown() or when `stop` is requested. Each key
  /// must be given back by Done().
  std::optional<meta::ObjectKey> Get(std::stop_token stop = {});
  /// The next key if one is ready.
  std::optional<meta::ObjectKey> TryGet();
  /// Must follow each Get, after AddAfter/AddRateLimited of the outcome.
  void Done(const meta::ObjectKey& key);

  /// Wakes every waiter; waiting entries are dropped, later adds are ignored.
  void ShutDown();
  /// ShutDown(), then waits until nothing is processing, at most `limit`. True when nothing is.
  bool Drain(base::Millis limit);
  bool ShuttingDown() const;

  /// Failures in a row of this key.
  uint32_t Failures(const meta::ObjectKey& key) const;
  /// The number of entries that wait, ready or not.
  size_t Size() const;
  WorkQueueStats Stats() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace runtime
