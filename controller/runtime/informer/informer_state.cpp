#include "runtime/informer/informer_state.hpp"

#include <algorithm>
#include <exception>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "runtime/informer/resource_version.hpp"
#include "runtime/informer/wire_head.hpp"

namespace runtime {
namespace {

constexpr size_t kLarge = 10'000;  ///< Objects whose memory is worth giving back.
constexpr base::Millis kOverlayLife{
    60'000};  ///< An own write newer than a list is believed this long.

/// Visits copies, in batches, so that no lock of the store is held meanwhile. The store must not
/// shrink from elsewhere.
void ForEachCopy(const PackedStore& from, const std::function<void(const PackedObject&)>& visit) {
  std::vector<PackedObject> batch;
  for (size_t cursor = from.Size(); cursor > 0;) {
    batch.clear();
    cursor = from.Scan(cursor, 256, [&](const PackedView& view) {
      batch.push_back({view.Key(),
                       std::string(view.uid),
                       std::string(view.resource_version),
                       std::string(view.packed),
                       {}});
    });
    for (const PackedObject& object : batch) visit(object);
  }
}

}  // namespace

InformerCore::State::State(InformerOptions given, ErasedFormat how, PackedStore& cache,
                           ListWatch& from)
    : options(std::move(given)),
      format(std::move(how)),
      store(cache),
      source(from),
      jitter(options.jitter_seed) {}

base::Result<ErasedFormat::Decoded> InformerCore::State::Decode(std::string_view bytes) const {
  try {
    auto decoded = format.decode(bytes);
    if (decoded && decoded->packed.key.name.empty()) {
      return base::MakeError(base::Code::kInvalid, "metadata.name is missing");
    }
    return decoded;
  } catch (const std::exception& e) {
    return base::MakeError(base::Code::kInternal, std::string("decoding threw: ") + e.what());
  }
}

std::optional<InformerCore::State::Identity> InformerCore::State::Find(
    const meta::ObjectKey& key) const {
  std::optional<Identity> found;
  store.Find(key, [&](const PackedView& view) {
    found = Identity{std::string(view.uid), std::string(view.resource_version)};
  });
  return found;
}

PackedObject InformerCore::State::Copy(const meta::ObjectKey& key) const {
  PackedObject copy;
  copy.key = key;
  store.Find(key, [&](const PackedView& view) {
    copy.uid = view.uid;
    copy.resource_version = view.resource_version;
    copy.packed = view.packed;
  });
  return copy;
}

InformerCore::State::Object InformerCore::State::Unpack(const PackedObject& object) const {
  return format.unpack(
      {object.key.ns, object.key.name, object.uid, object.resource_version, object.packed});
}

InformerCore::State::Object InformerCore::State::Load(const meta::ObjectKey& key) const {
  const PackedObject copy = Copy(key);
  return copy.resource_version.empty() && copy.packed.empty() ? nullptr : Unpack(copy);
}

bool InformerCore::State::SameButStatus(const Object& a, const Object& b) const {
  return a && b && format.same_but_status(a.get(), b.get());
}

void InformerCore::State::Call(const Handler& handler, const ErasedEvent& event) {
  try {
    handler(event);
  } catch (const std::exception& e) {
    ++handler_failures;
    base::LogError("an informer's handler threw",
                   {{"informer", options.name}, {"key", event.key.Text()}, {"error", e.what()}});
  }
}

void InformerCore::State::Deliver(const ErasedEvent& event) {
  for (const Handler& handler : handlers) Call(handler, event);
}

/// Everything in the store as Added(initial), to one handler or to all.
void InformerCore::State::DeliverAll(const Handler* only) {
  if (only == nullptr && handlers.empty()) return;
  ForEachCopy(store, [&](const PackedObject& packed) {
    const ErasedEvent event{
        ObjectEventKind::kAdded, packed.key, Unpack(packed), nullptr, true, false};
    if (event.object == nullptr) return;
    if (only != nullptr) {
      Call(*only, event);
    } else {
      Deliver(event);
    }
  });
}

/// Notes an object that cannot be decoded; returns its version, or an Error if not even that can be
/// read.
base::Result<std::string> InformerCore::State::Quarantine(std::string_view object,
                                                          const base::Error& error, bool deleted) {
  auto head = ScanHead(object);
  if (!head) return std::move(head).error();
  if (head->key.name.empty()) {
    return base::MakeError(base::Code::kInvalid, "an object without a name: " + error.message,
                           "BadFrame");
  }
  if (deleted) {
    quarantine.erase(head->key);
    return head->resource_version;
  }
  ++quarantined_total;
  const bool known = quarantine.contains(head->key);
  if (!known) {
    base::LogWarning(
        "object cannot be decoded and is left out",
        {{"informer", options.name}, {"key", head->key.Text()}, {"error", error.message}});
  }
  if (known || quarantine.size() < options.quarantine_limit) {
    quarantine[head->key] = {head->key, head->resource_version, error.message};
  }
  staged_unreadable.insert(head->key);
  return head->resource_version;
}

void InformerCore::State::BeginStaging() {
  std::lock_guard lock(mutex);
  staging.Clear();
  same.Clear();
  staged_unreadable.clear();
}

base::Status InformerCore::State::Stage(WatchEventType type, std::string_view object) {
  auto decoded = Decode(object);
  std::lock_guard lock(mutex);
  if (!decoded) {
    auto noted = Quarantine(object, decoded.error(), type == WatchEventType::kDeleted);
    if (!noted) return std::move(noted).error();
    return {};
  }
  PackedObject& packed = decoded->packed;
  if (type == WatchEventType::kDeleted) {
    staging.Erase(packed.key);
    same.Erase(packed.key);
    return {};
  }
  quarantine.erase(packed.key);
  staged_unreadable.erase(packed.key);
  const auto cached = Find(packed.key);
  if (cached && cached->uid == packed.uid && cached->version == packed.resource_version) {
    staging.Erase(packed.key);
    same.Put({packed.key, packed.uid, packed.resource_version, {}, {}});
  } else {
    same.Erase(packed.key);
    staging.Put(packed);
  }
  return {};
}

void InformerCore::State::Advance(const std::string& new_version) {
  if (new_version.empty()) return;
  if (const auto order = CompareVersions(new_version, version); order && *order < 0) return;
  version = new_version;
}

void InformerCore::State::Bookmark(const std::string& new_version) {
  std::lock_guard lock(mutex);
  Advance(new_version);
  changed.notify_all();
}

bool InformerCore::State::OwnWriteIsNewer(const meta::ObjectKey& key,
                                          const std::string& than) const {
  return own.NewerThan(key, than, options.clock->Read().mono - kOverlayLife);
}

/// What one object of the coming set changes.
void InformerCore::State::Compare(const PackedObject& staged, const std::string& new_version,
                                  std::vector<Change>* changes, std::vector<PackedObject>* puts) {
  const meta::ObjectKey& key = staged.key;
  if (WeDeleted(key, staged.uid)) return;
  const auto cached = Find(key);
  if (cached && AtLeast(cached->version, staged.resource_version) &&
      OwnWriteIsNewer(key, new_version)) {
    return;
  }
  if (cached && cached->uid == staged.uid) {
    if (cached->version == staged.resource_version) return;
    changes->push_back({ObjectEventKind::kUpdated, Copy(key), key});
  } else {
    if (cached) changes->push_back({ObjectEventKind::kDeleted, Copy(key), key});
    changes->push_back({ObjectEventKind::kAdded, {}, key});
  }
  puts->push_back(staged);
}

/// All that differs between the store and the coming set. The index values of `puts` are still
/// missing.
std::vector<InformerCore::State::Change> InformerCore::State::Diff(
    const std::string& new_version, std::vector<PackedObject>* puts,
    std::vector<meta::ObjectKey>* erases) {
  std::vector<Change> changes;
  ForEachCopy(staging,
              [&](const PackedObject& staged) { Compare(staged, new_version, &changes, puts); });
  ForEachCopy(store, [&](const PackedObject& cached) {
    const meta::ObjectKey& key = cached.key;
    if (staging.Contains(key) || same.Contains(key)) return;
    // It is there, only not readable: the last good version stays.
    if (staged_unreadable.contains(key)) return;
    if (OwnWriteIsNewer(key, new_version)) return;
    erases->push_back(key);
    changes.push_back({ObjectEventKind::kDeleted, cached, key});
  });
  return changes;
}

void InformerCore::State::DeliverChanges(const std::vector<Change>& changes) {
  for (const Change& change : changes) {
    const bool deleted = change.kind == ObjectEventKind::kDeleted;
    Object before = change.kind == ObjectEventKind::kAdded ? nullptr : Unpack(change.old_object);
    Object now = deleted ? nullptr : Load(change.key);
    Deliver({change.kind, change.key, std::move(now), std::move(before), false, deleted});
  }
}

void InformerCore::State::Publish(const std::string& new_version) {
  std::lock_guard lock(mutex);
  if (!synced && store.Size() == 0) {
    store.Swap(staging);
    version = new_version;
    own.Settle(new_version);
    DeliverAll(nullptr);
  } else {
    std::vector<PackedObject> puts;
    std::vector<meta::ObjectKey> erases;
    const std::vector<Change> changes = Diff(new_version, &puts, &erases);
    for (PackedObject& put : puts) put.index = format.index(Unpack(put).get());
    store.Replace(puts, erases);
    version = new_version;
    DeliverChanges(changes);
    // Whose echo passed unseen, a foreign change may have passed with it: wake, do not suppress.
    for (const meta::ObjectKey& key : own.Settle(new_version)) {
      if (const Object now = Load(key)) {
        Deliver({ObjectEventKind::kUpdated, key, now, now, false, false});
      }
    }
  }
  const bool large = staging.Size() + same.Size() > kLarge;
  staging.Clear();
  same.Clear();
  if (large) base::GiveBackFreeMemory();
  std::erase_if(quarantine,
                [&](const auto& entry) { return !staged_unreadable.contains(entry.first); });
  staged_unreadable.clear();
  synced = true;
  changed.notify_all();
  std::lock_guard wake(keeper_mutex);
  keeper.notify_all();
}

base::Result<std::string> InformerCore::State::Apply(WatchEventType type, std::string_view object) {
  const base::MonoTime arrived = event_seconds ? options.clock->Read().mono : base::MonoTime{};
  auto applied = ApplyNow(type, object);
  if (event_seconds != nullptr)
    event_seconds->Observe(
        std::chrono::duration<double>(options.clock->Read().mono - arrived).count());
  return applied;
}

base::Result<std::string> InformerCore::State::ApplyNow(WatchEventType type,
                                                        std::string_view object) {
  auto decoded = Decode(object);
  std::lock_guard lock(mutex);
  std::string seen;
  if (decoded) {
    seen = decoded->packed.resource_version;
    if (quarantine.erase(decoded->packed.key) > 0) {
      base::LogInfo("object can be decoded again",
                    {{"informer", options.name}, {"key", decoded->packed.key.Text()}});
    }
    if (type == WatchEventType::kDeleted) {
      ApplyDelete(*decoded);
    } else {
      ApplyPut(*decoded);
    }
  } else {
    auto noted = Quarantine(object, decoded.error(), type == WatchEventType::kDeleted);
    staged_unreadable.clear();
    if (!noted) return std::move(noted).error();
    seen = *std::move(noted);
    if (type == WatchEventType::kDeleted) {
      // Its last good version may be in the store: the object is gone all the same.
      const auto head = ScanHead(object);
      const PackedObject last = Copy(head->key);
      if (store.Erase(head->key)) {
        Deliver({ObjectEventKind::kDeleted, last.key, nullptr, Unpack(last), false, false});
      }
    }
  }
  Advance(seen);
  changed.notify_all();
  return version;
}

void InformerCore::State::ApplyDelete(const ErasedFormat::Decoded& gone) {
  const meta::ObjectKey& key = gone.packed.key;
  if (WeDeleted(key, gone.packed.uid)) tombstones.Erase(key);
  const auto cached = Find(key);
  if (!cached) return;
  // An older incarnation went; the cache has its successor already.
  if (cached->uid != gone.packed.uid && AtLeast(cached->version, gone.packed.resource_version)) {
    return;
  }
  own.Forget(key);
  store.Erase(key);
  Deliver({ObjectEventKind::kDeleted, key, nullptr, gone.object, false, false});
}

void InformerCore::State::ApplyPut(const ErasedFormat::Decoded& now) {
  const PackedObject& packed = now.packed;
  const meta::ObjectKey& key = packed.key;
  if (WeDeleted(key, packed.uid)) return;
  tombstones.Erase(key);
  const auto cached = Find(key);
  const bool overlaid = own.Any(key);
  const bool ours = own.Take(key, packed.resource_version);
  if (!cached) {
    store.Put(packed);
    Deliver({ObjectEventKind::kAdded, key, now.object, nullptr, false, false});
    return;
  }
  if (cached->version == packed.resource_version && cached->uid == packed.uid) {
    if (ours) ++own_echoes;
    return;  // The echo of an own write that the cache shows already, or a repetition.
  }
  if (AtLeast(cached->version, packed.resource_version)) {
    if (!overlaid || cached->uid != packed.uid) return;
    // A foreign change that our own, newer write lies upon. The content is right; somebody must
    // still look at it.
    const Object top = Load(key);
    Deliver({ObjectEventKind::kUpdated, key, top, top, false, false});
    return;
  }
  Replace(now, *cached, ours);
}

void InformerCore::State::Replace(const ErasedFormat::Decoded& now, const Identity& before,
                                  bool ours) {
  const meta::ObjectKey& key = now.packed.key;
  const Object old_object = Load(key);
  store.Put(now.packed);
  if (before.uid != now.packed.uid) {
    Deliver({ObjectEventKind::kDeleted, key, nullptr, old_object, false, false});
    Deliver({ObjectEventKind::kAdded, key, now.object, nullptr, false, false});
    return;
  }
  const bool status_only = SameButStatus(old_object, now.object);
  if (ours && status_only) {
    ++own_echoes;
    return;
  }
  if (const auto flight = flights.find(key); status_only && flight != flights.end()) {
    // One that is not kept wakes somebody for nothing at worst: the others stay foreign.
    auto& held = flight->second.held;
    if (held.size() < kRemembered) held.push_back(now.packed.resource_version);
    return;
  }
  if (status_only) status_wakes.Put(key, now.packed.resource_version);
  Deliver({ObjectEventKind::kUpdated, key, now.object, old_object, false, false});
}

bool InformerCore::State::WeDeleted(const meta::ObjectKey& key, const std::string& uid) {
  const std::string* deleted = tombstones.Find(key);
  return deleted != nullptr && *deleted == uid;
}

bool InformerCore::State::TakeHeld(const meta::ObjectKey& key, const std::string& at) {
  const auto flight = flights.find(key);
  const bool held = flight != flights.end() && std::erase(flight->second.held, at) > 0;
  if (held) ++own_echoes;
  return held;
}

/// The echo of a write of ours came first and woke the handlers: harmless once, a loop if it goes
/// on.
void InformerCore::State::NoteSelfTrigger(const meta::ObjectKey& key, const std::string& at) {
  const std::string* woke = status_wakes.Find(key);
  if (woke == nullptr || *woke != at) return;
  status_wakes.Erase(key);
  ++self_triggers;
  if (on_self_trigger) on_self_trigger(key);
}

void InformerCore::State::Overlay(const ErasedFormat::Decoded& written) {
  const PackedObject& packed = written.packed;
  const meta::ObjectKey& key = packed.key;
  if (TakeHeld(key, packed.resource_version)) return;
  NoteSelfTrigger(key, packed.resource_version);
  // Past that version, the watch has already told whatever became of the object, deletion included.
  if (AtLeast(version, packed.resource_version)) return;
  own.Add(key, packed.resource_version, options.clock->Read().mono);
  if (!synced || !CompareVersions(version, packed.resource_version)) return;
  if (WeDeleted(key, packed.uid)) return;
  const auto cached = Find(key);
  if (cached && AtLeast(cached->version, packed.resource_version)) return;
  const Object old_object = cached ? Load(key) : nullptr;
  store.Put(packed);
  if (!cached) {
    Deliver({ObjectEventKind::kAdded, key, written.object, nullptr, false, false});
  } else if (cached->uid != packed.uid) {
    Deliver({ObjectEventKind::kDeleted, key, nullptr, old_object, false, false});
    Deliver({ObjectEventKind::kAdded, key, written.object, nullptr, false, false});
  } else if (!SameButStatus(old_object, written.object)) {
    Deliver({ObjectEventKind::kUpdated, key, written.object, old_object, false, false});
  }
}

}  // namespace runtime
