#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "apiserver/rest/object_writer.hpp"
#include "apiserver/store/store.hpp"
#include "apiserver/wire/registry.hpp"
#include "base/clock.hpp"

namespace apiserver {

/// What goes on behind the requests, on one thread: dependents follow their owners (background,
/// foreground, orphan), the content of terminating namespaces goes, old events expire. Driven by
/// the store's changes; a restart scans once and misses nothing.
class Housekeeper {
 public:
  struct Options {
    size_t event_limit = 5000;
    base::Millis event_period{30'000};
    base::Millis retry{1000};
  };
  Housekeeper(Store& store, const Registry& registry, ObjectWriter& writer,
              const base::Clock& clock, Options options);
  ~Housekeeper() { Stop(); }
  base::Status Start();
  void Stop();
  /// Removes what expired, now (tests; the thread does it by itself).
  void ExpireEvents();

 private:
  class Sink;
  /// One thing to look at again: an object, by key; or, with an empty key, the dependents of an
  /// owner that is gone.
  struct Task {
    StoreKey key;
    std::string owner_uid;
    auto operator<=>(const Task&) const = default;
  };
  void Note(const Change& change);
  void NoteObject(const StoreKey& key, const std::string& text);
  void NoteGone(const Change& change);
  void Enqueue(Task task);
  void Scan();
  void Loop(std::stop_token stop);
  /// False: look again after a while.
  bool Work(const Task& task);
  bool CheckObject(const StoreKey& key);
  bool CheckDependents(const std::string& uid);
  bool EndNamespace(const StoredObject& stored, const codec::Json& object);
  bool EndForeground(const StoredObject& stored, codec::Json object);
  bool EndOrphan(const StoredObject& stored, codec::Json object);
  /// Another owner than `but` that is there.
  bool HasLivingOwner(const codec::Json& object, const std::string& but = "");
  bool DeleteObject(const StoreKey& key, const std::string& uid, const std::string& propagation);
  /// Writes the object back, or removes it when nothing holds it any more.
  bool PutBack(const StoredObject& stored, const codec::Json& object);
  const Served* ServedOf(const std::string& store_resource) const;
  std::set<StoreKey> DependentsOf(const std::string& uid);

  Store& store_;
  const Registry& registry_;
  ObjectWriter& writer_;
  const base::Clock& clock_;
  const Options options_;
  std::shared_ptr<Sink> sink_;
  std::shared_ptr<WatchHub::Watcher> watcher_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::set<Task> tasks_;
  std::set<Task> later_;
  std::map<std::string, std::set<StoreKey>> dependents_;  ///< By owner uid.
  std::map<std::string, StoreKey>
      waiting_owners_;  ///< Owners that go when their dependents are gone, by uid.
  std::set<std::string> ending_namespaces_;
  std::jthread thread_;
};

}  // namespace apiserver
