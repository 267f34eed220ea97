#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/informer/informer_core.hpp"
#include "runtime/informer/own_writes.hpp"
#include "runtime/informer/reflector.hpp"
#include "runtime/lru_map.hpp"
#include "runtime/metrics.hpp"

namespace runtime {

/// Inside of InformerCore: how changes get into the store and to the handlers. One mutex orders all
/// changes and their delivery.
struct InformerCore::State : ReflectorTarget {
  State(InformerOptions given, ErasedFormat how, PackedStore& cache, ListWatch& from);

  // ReflectorTarget.
  void BeginStaging() override;
  base::Status Stage(WatchEventType type, std::string_view object) override;
  void Publish(const std::string& new_version) override;
  base::Result<std::string> Apply(WatchEventType type, std::string_view object) override;
  void Bookmark(const std::string& new_version) override;

  /// uid and version of a cached object.
  struct Identity {
    std::string uid;
    std::string version;
  };
  /// One difference between the old content and the staged one.
  struct Change {
    ObjectEventKind kind;
    PackedObject old_object;  ///< For updates and deletes.
    meta::ObjectKey key;
  };
  using Object = std::shared_ptr<const void>;

  base::Result<ErasedFormat::Decoded> Decode(std::string_view bytes) const;
  std::optional<Identity> Find(const meta::ObjectKey& key) const;
  Object Load(const meta::ObjectKey& key) const;
  PackedObject Copy(const meta::ObjectKey& key) const;
  Object Unpack(const PackedObject& object) const;
  bool SameButStatus(const Object& a, const Object& b) const;

  void Deliver(const ErasedEvent& event);
  void Call(const Handler& handler, const ErasedEvent& event);
  void DeliverAll(const Handler* only);
  base::Result<std::string> Quarantine(std::string_view object, const base::Error& error,
                                       bool deleted);
  void Advance(const std::string& new_version);
  base::Result<std::string> ApplyNow(WatchEventType type, std::string_view object);
  void ApplyDelete(const ErasedFormat::Decoded& gone);
  void ApplyPut(const ErasedFormat::Decoded& now);
  void Replace(const ErasedFormat::Decoded& now, const Identity& before, bool own);
  std::vector<Change> Diff(const std::string& new_version, std::vector<PackedObject>* puts,
                           std::vector<meta::ObjectKey>* erases);
  void Compare(const PackedObject& staged, const std::string& new_version,
               std::vector<Change>* changes, std::vector<PackedObject>* puts);
  void DeliverChanges(const std::vector<Change>& changes);
  void Overlay(const ErasedFormat::Decoded& written);
  bool OwnWriteIsNewer(const meta::ObjectKey& key, const std::string& than) const;
  /// The change of that version is our own: true if it was held back for the write under way.
  bool TakeHeld(const meta::ObjectKey& key, const std::string& version);
  void NoteSelfTrigger(const meta::ObjectKey& key, const std::string& version);
  /// We deleted the object with this uid: nothing old brings it back.
  bool WeDeleted(const meta::ObjectKey& key, const std::string& uid);

  void Keep(Reflector& reflector, const std::stop_token& stop);
  base::MonoTime Resync(base::MonoTime now);
  void RegisterMetrics();
  InformerStats StatsNow() const;

  const InformerOptions options;
  const ErasedFormat format;
  PackedStore& store;
  ListWatch& source;
  std::atomic<bool> synced{false};

  mutable std::mutex mutex;
  mutable std::condition_variable changed;  ///< version, synced or the content.
  std::vector<Handler> handlers;
  std::string version;
  PackedStore staging;  ///< New or changed objects of the coming set.
  PackedStore
      same;  ///< Objects of the coming set that the cache has in this very version: identity only.
  std::set<meta::ObjectKey> staged_unreadable;
  std::map<meta::ObjectKey, Quarantined> quarantine;
  OwnWrites own;
  static constexpr size_t kRemembered = 4096;  ///< Tombstones, status wakes, changes held.
  LruMap<meta::ObjectKey, std::string> tombstones{kRemembered};  ///< UIDs that we deleted.
  /// Versions of status-only changes that woke handlers.
  LruMap<meta::ObjectKey, std::string> status_wakes{kRemembered};
  /// Status writes under way, and the versions of status changes that nobody was told of for it.
  struct Flight {
    size_t writes = 0;
    std::vector<std::string> held;
  };
  std::unordered_map<meta::ObjectKey, Flight> flights;
  std::function<void(const meta::ObjectKey&)> on_self_trigger;
  Histogram* event_seconds = nullptr;  ///< From an event's bytes to the end of its handlers.
  uint64_t own_echoes = 0, self_triggers = 0, quarantined_total = 0, handler_failures = 0;
  Reflector* reflector = nullptr;  ///< While running.
  ReflectorStats last_stats;

  std::condition_variable keeper;  ///< With keeper_mutex: wakes Keep().
  std::mutex keeper_mutex;
  Jitter jitter;
  size_t cursor = 0;  ///< Of the resync scan.
  size_t cycle = 0;   ///< Objects at the start of the scan.
  double due = 0;     ///< Objects that should have been visited, fraction included.
  base::MonoTime scanned{};
  base::MonoTime next_scan = kNever;
  Metrics::Collector collector;
};

}  // namespace runtime
