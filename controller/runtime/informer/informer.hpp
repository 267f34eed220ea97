#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "runtime/informer/informer_core.hpp"
#include "runtime/informer/object_cache.hpp"
#include "runtime/timed_wait.hpp"
#include "runtime/work_queue.hpp"

namespace runtime {

/// T as the wire has it and as the cache keeps it.
template <typename T>
struct InformerFormat {
  /// The bytes of one object. An Error quarantines that object: the last good version stays, the
  /// others flow.
  std::function<base::Result<T>(std::string_view)> decode;
  CacheFormat<T> cache;
};

/// What a handler is told. `object` and `old_object` by kind: Added (object), Updated (both),
/// Deleted (old_object: the last state known), Resync (neither: read the cache if you need it).
template <typename T>
struct ObjectEvent {
  ObjectEventKind kind;
  const meta::ObjectKey& key;
  std::shared_ptr<const T> object;
  std::shared_ptr<const T> old_object;
  bool initial = false;  ///< Part of the first set or of a replay to a late handler: low priority.
  bool final_state_unknown =
      false;  ///< Deleted, but learned from a list: there may have been changes in between.
  /// Initial sets and resyncs are nobody's fresh edit.
  Priority WakePriority() const {
    return initial || kind == ObjectEventKind::kResync ? Priority::kLow : Priority::kNormal;
  }
};

/// A local, complete and current copy of all objects of one kind, and the changes to it.
///
///   start --> initial stream (or pages) --> staging --end marker / last page--> published -->
///   watch from the last version
///                 ^  cut: staging dropped, back-off                                            |
///                 410, or broken 3 times
///                 +----------------------------------------------------------------------------+
///                 (relist, old content stays)
///
/// Threads: Run() works on the caller's thread and one of its own (liveness, resync). Handlers run
/// one after the other on these threads, after the cache has the change; they must be quick and
/// only add keys to queues. They must not call this informer's writers. Rules:
/// docs/reference/runtime-checklist.md.
template <typename T>
class Informer {
 public:
  Informer(InformerOptions options, InformerFormat<T> format, ListWatch& source)
      : format_(std::move(format)),
        cache_(format_.cache),
        core_(std::move(options), Erase(), cache_.Store(), source) {}

  /// Any time; a late handler first gets everything as Added(initial), then what follows, without
  /// gap or duplicate.
  void AddHandler(std::function<void(const ObjectEvent<T>&)> handler) {
    core_.AddHandler([handler = std::move(handler)](const ErasedEvent& event) {
      handler({event.kind, event.key, std::static_pointer_cast<const T>(event.object),
               std::static_pointer_cast<const T>(event.old_object), event.initial,
               event.final_state_unknown});
    });
  }
  /// Blocks until `stop`; no error of the server ends it. May be run again afterwards.
  base::Status Run(std::stop_token stop) { return core_.Run(std::move(stop)); }

  /// True when the first set is in the cache and every handler has seen it. An empty list counts.
  bool HasSynced() const { return core_.HasSynced(); }
  /// Ok when synced; kTimeout (the message has the last error) after `limit`, kCancelled on stop.
  base::Status WaitForSync(std::stop_token stop, base::Millis limit = kLongestDelay) const {
    return core_.WaitForSync(std::move(stop), limit);
  }

  const ObjectCache<T>& Cache() const { return cache_; }
  std::shared_ptr<const T> Get(const meta::ObjectKey& key) const { return cache_.Get(key); }

  /// While one of these lives, a status write of that object is under way: changes of its status
  /// are in the cache at once, but handlers are told only afterwards, and not of what ObserveWrite
  /// has named meanwhile: an echo often comes before its answer, and would wake somebody for
  /// nothing. Lives no longer than the call. Any number, any thread.
  class WriteInFlight {
   public:
    WriteInFlight(Informer& informer, meta::ObjectKey key)
        : core_(informer.core_), key_(std::move(key)) {
      core_.BeginWrite(key_);
    }
    ~WriteInFlight() { core_.EndWrite(key_); }
    WriteInFlight(const WriteInFlight&) = delete;
    WriteInFlight& operator=(const WriteInFlight&) = delete;

   private:
    InformerCore& core_;
    const meta::ObjectKey key_;
  };
  /// Read your own writes: the answer to a create, update or patch. The cache shows it at once if
  /// it is newer than what it has (never resurrecting what was deleted since); its echo wakes
  /// nobody if nothing but the status differs from what the cache had; otherwise handlers are told
  /// now.
  void ObserveWrite(T written) {
    const auto packed = cache_.Pack(written);
    core_.ObserveWrite({packed, std::make_shared<const T>(std::move(written))});
  }
  /// The same when the answer's body is not at hand: only recognises the echo, and WaitFor() waits
  /// for it.
  void ObserveWrite(const meta::ObjectKey& key, const std::string& resource_version) {
    core_.ObserveVersion(key, resource_version);
  }
  /// The object with this uid was deleted for good by us (no finalizers): the cache drops it now,
  /// late events do not bring it back.
  void ObserveDelete(const meta::ObjectKey& key, const std::string& uid) {
    core_.ObserveDelete(key, uid);
  }
  /// Ok when the cache is at or past every observed write of this key; kTimeout, kCancelled.
  base::Status WaitFor(const meta::ObjectKey& key, base::Millis limit,
                       std::stop_token stop = {}) const {
    return core_.WaitFor(key, limit, std::move(stop));
  }
  /// Called when an echo of our own status write woke the handlers, because it came before
  /// ObserveWrite.
  void OnSelfTrigger(std::function<void(const meta::ObjectKey&)> call) {
    core_.OnSelfTrigger(std::move(call));
  }

  std::vector<Quarantined> Quarantine() const { return core_.Quarantine(); }
  InformerStats Stats() const { return core_.Stats(); }

 private:
  ErasedFormat Erase() {
    ErasedFormat erased;
    erased.decode = [this](std::string_view bytes) -> base::Result<ErasedFormat::Decoded> {
      auto object = format_.decode(bytes);
      if (!object) return std::move(object).error();
      const auto packed = cache_.Pack(*object);
      return ErasedFormat::Decoded{packed, std::make_shared<const T>(*std::move(object))};
    };
    erased.unpack = [this](const PackedView& view) -> std::shared_ptr<const void> {
      return cache_.Unpack(view);
    };
    erased.index = [this](const void* object) {
      return object != nullptr && format_.cache.index
                 ? format_.cache.index(*static_cast<const T*>(object))
                 : std::vector<std::string>{};
    };
    erased.same_but_status = [](const void* a, const void* b) {
      return SameButStatus(*static_cast<const T*>(a), *static_cast<const T*>(b));
    };
    return erased;
  }
  /// Only a type with a spec can be judged; of others every change counts.
  static bool SameButStatus(const T& a, const T& b) {
    if constexpr (requires { a.spec == b.spec; }) {
      meta::ObjectMeta left = a.meta;
      left.resource_version = b.meta.resource_version;
      return left == b.meta && a.spec == b.spec;
    } else {
      return false;
    }
  }

  InformerFormat<T> format_;
  ObjectCache<T> cache_;
  InformerCore core_;
};

}  // namespace runtime
