#include "apiserver/rest/housekeeper.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "apiserver/rest/builtin_rules.hpp"
#include "apiserver/wire/object_text.hpp"
#include "base/log.hpp"
#include "base/thread_name.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr const char* kForeground = "foregroundDeletion";
constexpr const char* kOrphan = "orphan";
constexpr const char* kOwners = "\"ownerReferences\"";
constexpr const char* kDeleting = "\"deletionTimestamp\"";
constexpr size_t kExpireBatch = 200;

bool Holds(const std::string& text, const char* fragment) {
  return text.find(fragment) != std::string::npos;
}

bool IsOwnedBy(const Json& object, const std::string& uid) {
  const auto owners = OwnerUids(object);
  return std::find(owners.begin(), owners.end(), uid) != owners.end();
}

void DropOwner(Json& object, const std::string& uid) {
  Json kept = Json::array();
  for (const Json& owner : codec::GetMember(MetaOf(object), "ownerReferences"))
    if (codec::GetString(owner, "uid") != uid) kept.push_back(owner);
  if (kept.empty())
    MutableMeta(object).erase("ownerReferences");
  else
    MutableMeta(object)["ownerReferences"] = std::move(kept);
}

}  // namespace

/// Sees every change on the hub's thread; only notes what to do.
class Housekeeper::Sink final : public WatchSink {
 public:
  explicit Sink(Housekeeper& keeper) : keeper_(keeper) {}
  bool OnChange(const ChangePtr& change) override {
    keeper_.Note(*change);
    return true;
  }
  bool OnTick(int64_t) override { return true; }
  void OnEnd() override {}

 private:
  Housekeeper& keeper_;
};

Housekeeper::Housekeeper(Store& store, const Registry& registry, ObjectWriter& writer,
                         const base::Clock& clock, Options options)
    : store_(store),
      registry_(registry),
      writer_(writer),
      clock_(clock),
      options_(options),
      sink_(std::make_shared<Sink>(*this)) {}

base::Status Housekeeper::Start() {
  auto version = store_.Version();
  if (!version) return version.error();
  auto watcher = store_.Watch({}, *version, sink_);
  if (!watcher) return watcher.error();
  watcher_ = *watcher;
  thread_ = std::jthread([this](std::stop_token stop) {
    base::NameThread("api-housekeeper");
    Scan();
    Loop(stop);
  });
  return {};
}

void Housekeeper::Stop() {
  if (watcher_) store_.StopWatch(watcher_);
  watcher_.reset();
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void Housekeeper::Note(const Change& change) {
  std::lock_guard lock(mutex_);
  if (change.type == ChangeType::kDeleted)
    NoteGone(change);
  else
    NoteObject(change.key, change.text);
}

void Housekeeper::NoteObject(const StoreKey& key, const std::string& text) {
  const bool owned = Holds(text, kOwners);
  const bool deleting = Holds(text, kDeleting);
  if (!owned && !deleting) return;
  const Json object = ParseStored(text);
  for (const std::string& uid : OwnerUids(object)) {
    if (dependents_[uid].insert(key).second) Enqueue({{}, uid});
  }
  if (!IsDeleting(object)) return;
  if (key.resource == "namespaces") ending_namespaces_.insert(key.name);
  Enqueue({key, ""});
}

void Housekeeper::NoteGone(const Change& change) {
  const Json object = ParseStored(change.text);
  Enqueue({{}, UidOf(object)});
  if (change.key.resource == "namespaces") ending_namespaces_.erase(change.key.name);
  if (ending_namespaces_.contains(change.key.ns)) Enqueue({{"namespaces", "", change.key.ns}, ""});
  for (const std::string& uid : OwnerUids(object)) {
    if (const auto found = dependents_.find(uid); found != dependents_.end()) {
      found->second.erase(change.key);
      if (found->second.empty()) dependents_.erase(found);
    }
    if (const auto owner = waiting_owners_.find(uid); owner != waiting_owners_.end())
      Enqueue({owner->second, ""});
  }
}

/// With the lock held.
void Housekeeper::Enqueue(Task task) {
  // Most objects that go own nothing: no task for them.
  if (task.key.name.empty() && !dependents_.contains(task.owner_uid)) return;
  tasks_.insert(std::move(task));
  wake_.notify_one();
}

void Housekeeper::Scan() {
  for (const char* fragment : {kOwners, kDeleting}) {
    auto found = store_.Containing(fragment);
    if (!found) {
      base::LogError("the scan for owned and deleted objects failed",
                     {{"error", found.error().message}});
      continue;
    }
    std::lock_guard lock(mutex_);
    for (const StoredObject& object : *found) NoteObject(object.key, object.text);
  }
}

void Housekeeper::Loop(std::stop_token stop) {
  auto next_expiry = std::chrono::steady_clock::now() + options_.event_period;
  while (!stop.stop_requested()) {
    std::set<Task> tasks;
    bool expire = false;
    {
      std::unique_lock lock(mutex_);
      auto until = next_expiry;
      if (!later_.empty())
        until = std::min(until, std::chrono::steady_clock::now() + options_.retry);
      wake_.wait_until(lock, stop, until, [this] { return !tasks_.empty(); });
      tasks.swap(tasks_);
      if (tasks.empty()) tasks.swap(later_);
      expire = std::chrono::steady_clock::now() >= next_expiry;
    }
    for (const Task& task : tasks) {
      if (stop.stop_requested()) return;
      if (Work(task)) continue;
      std::lock_guard lock(mutex_);
      later_.insert(task);
    }
    if (expire) {
      ExpireEvents();
      next_expiry = std::chrono::steady_clock::now() + options_.event_period;
    }
  }
}

bool Housekeeper::Work(const Task& task) {
  return task.key.name.empty() ? CheckDependents(task.owner_uid) : CheckObject(task.key);
}

std::set<StoreKey> Housekeeper::DependentsOf(const std::string& uid) {
  std::lock_guard lock(mutex_);
  const auto found = dependents_.find(uid);
  return found == dependents_.end() ? std::set<StoreKey>() : found->second;
}

const Served* Housekeeper::ServedOf(const std::string& store_resource) const {
  for (const Served& served : registry_.All()) {
    if (served.store_resource == store_resource && !served.new_event) return &served;
  }
  return nullptr;
}

bool Housekeeper::HasLivingOwner(const Json& object, const std::string& but) {
  for (const std::string& uid : OwnerUids(object)) {
    if (uid == but) continue;
    auto there = store_.HasUid(uid);
    if (!there || *there) return true;  // In doubt nothing is deleted.
  }
  return false;
}

bool Housekeeper::CheckDependents(const std::string& uid) {
  bool done = true;
  for (const StoreKey& key : DependentsOf(uid)) {
    auto stored = store_.Get(key);
    if (!stored) continue;
    const Json object = ParseStored(stored->text);
    if (OwnerUids(object).empty() || IsDeleting(object) || HasLivingOwner(object)) continue;
    done = DeleteObject(key, stored->uid, "Background") && done;
  }
  return done;
}

bool Housekeeper::CheckObject(const StoreKey& key) {
  auto stored = store_.Get(key);
  if (!stored) return stored.error().code == base::Code::kNotFound;
  Json object = ParseStored(stored->text);
  if (!IsDeleting(object)) return true;
  for (const std::string& finalizer : FinalizersOf(object)) {
    if (finalizer == kForeground) return EndForeground(*stored, std::move(object));
    if (finalizer == kOrphan) return EndOrphan(*stored, std::move(object));
  }
  return key.resource != "namespaces" || EndNamespace(*stored, object);
}

bool Housekeeper::EndForeground(const StoredObject& stored, Json object) {
  {
    std::lock_guard lock(mutex_);
    waiting_owners_[stored.uid] = stored.key;
  }
  bool left = false;
  for (const StoreKey& key : DependentsOf(stored.uid)) {
    auto dependent = store_.Get(key);
    if (!dependent) continue;
    Json child = ParseStored(dependent->text);
    // It was one, and has been set free since.
    if (!IsOwnedBy(child, stored.uid)) continue;
    if (HasLivingOwner(child, stored.uid)) {  // As in Kubernetes: it stays with the other.
      DropOwner(child, stored.uid);
      if (!PutBack(*dependent, child)) return false;
      continue;
    }
    left = true;
    if (IsDeleting(child)) continue;
    if (!DeleteObject(key, dependent->uid, "Foreground")) return false;
  }
  if (left) return true;  // The last dependent's end brings us back here.
  RemoveFinalizer(object, kForeground);
  if (!PutBack(stored, object)) return false;
  std::lock_guard lock(mutex_);
  waiting_owners_.erase(stored.uid);
  return true;
}

bool Housekeeper::EndOrphan(const StoredObject& stored, Json object) {
  for (const StoreKey& key : DependentsOf(stored.uid)) {
    auto dependent = store_.Get(key);
    if (!dependent) continue;
    Json child = ParseStored(dependent->text);
    if (IsOwnedBy(child, stored.uid)) {
      DropOwner(child, stored.uid);
      if (!PutBack(*dependent, child)) return false;
    }
    std::lock_guard lock(mutex_);
    dependents_[stored.uid].erase(key);
  }
  RemoveFinalizer(object, kOrphan);
  return PutBack(stored, object);
}

bool Housekeeper::EndNamespace(const StoredObject& stored, const Json& object) {
  bool left = false;
  for (const Served& served : registry_.All()) {
    if (!served.definition.namespaced || served.new_event) continue;
    ListQuery query;
    query.resource = served.store_resource;
    query.ns = stored.key.name;
    auto content = store_.List(query);
    if (!content) return false;
    for (const StoredObject& item : content->objects) {
      if (!DeleteObject(item.key, item.uid, "Background")) return false;
      auto there = store_.Get(item.key);
      left = left || there || there.error().code != base::Code::kNotFound;
    }
  }
  if (left) return true;  // Finalizers hold something: its end brings us back here.
  Json empty = object;
  empty["spec"].erase("finalizers");
  return PutBack(stored, empty);
}

bool Housekeeper::DeleteObject(const StoreKey& key, const std::string& uid,
                               const std::string& propagation) {
  const Served* served = ServedOf(key.resource);
  if (served == nullptr) return true;
  WriteRequest request;
  request.served = served;
  request.ns = key.ns;
  request.name = key.name;
  auto gone = writer_.Delete(request, DeleteOptions{uid, "", propagation});
  const bool done = gone || gone.failure().code == 404 || gone.failure().code == 409;
  if (!done)
    base::LogWarning("a dependent could not be deleted",
                     {{"object", key.resource + " " + key.ns + "/" + key.name}});
  return done;
}

bool Housekeeper::PutBack(const StoredObject& stored, const Json& object) {
  const Served* served = ServedOf(stored.key.resource);
  const bool goes = served != nullptr && IsDeleting(object) && MayGo(*served, object);
  Write write;
  write.kind = goes ? Write::Kind::kDelete : Write::Kind::kUpdate;
  write.key = stored.key;
  write.uid = stored.uid;
  write.expected_version = stored.version;
  write.tail = TailFrom(object);
  auto done = store_.Apply(std::move(write));
  return done || done.error().code == base::Code::kNotFound;
}

void Housekeeper::ExpireEvents() {
  for (;;) {
    auto expired = store_.Expired(clock_.Read().wall, "events", options_.event_limit, kExpireBatch);
    if (!expired || expired->empty()) return;
    for (const StoredObject& event : *expired) {
      Write write;
      write.kind = Write::Kind::kDelete;
      write.key = event.key;
      write.expected_version = event.version;
      auto gone = store_.Apply(std::move(write));
      if (!gone && gone.error().code == base::Code::kUnavailable) return;
    }
    if (expired->size() < kExpireBatch) return;
  }
}

}  // namespace apiserver
