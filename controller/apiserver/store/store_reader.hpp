#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "apiserver/store/database.hpp"
#include "apiserver/store/store.hpp"

namespace apiserver {

/// All reads, over one connection of their own; each call sees one committed state. Thread safe.
class StoreReader {
 public:
  explicit StoreReader(std::unique_ptr<SQLite::Database> db) : db_(std::move(db)) {}

  base::Result<StoredObject> Get(const StoreKey& key);
  base::Result<ListResult> List(const ListQuery& query);
  base::Result<int64_t> Count(const std::string& resource);
  base::Result<std::vector<StoredObject>> Containing(const std::string& fragment);
  base::Result<bool> HasUid(const std::string& uid);
  base::Result<int64_t> State(const char* key);
  /// Changes of `scope` newer than `from`, in order; `*version` is the state's version. kGone as in
  /// Store::Watch.
  base::Result<std::vector<ChangePtr>> ChangesSince(const WatchScope& scope, int64_t from,
                                                    int64_t* version);
  base::Result<std::vector<StoredObject>> Expired(base::WallTime now, const std::string& resource,
                                                  size_t keep, size_t limit);

 private:
  template <typename T>
  base::Result<T> Read(const char* what, const std::function<base::Result<T>()>& body);
  int64_t StateNow(const char* key);
  base::Result<ListResult> ListNow(const ListQuery& query);

  std::mutex mutex_;
  std::unique_ptr<SQLite::Database> db_;
};

}  // namespace apiserver
