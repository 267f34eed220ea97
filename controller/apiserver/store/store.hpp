#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apiserver/store/change.hpp"
#include "apiserver/store/watch_hub.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"

namespace apiserver {

struct StoreOptions {
  std::string data_dir;  ///< Made 0700 if it is not there; holds store.db (0600) and the lock file.
  int64_t change_log_rows =
      10'000;  ///< Newest changes kept for watch resume and consistent paging.
  int64_t change_log_bytes = 32 << 20;
  size_t object_limit = 1'500'000;  ///< Bytes of one object's text, as in etcd.
  size_t batch_limit = 100;         ///< Writes of one transaction.
  size_t queue_limit = 1024;        ///< Writes waiting for the writer; over it kUnavailable.
  int64_t integrity_check_bytes = 32
                                  << 20;  ///< Databases up to this size are checked whole at start.
  int64_t page_limit = 0;  ///< Tests: PRAGMA max_page_count, to meet a full disk. 0: none.
  WatchHub::Options hub;
};

/// One write. `expected_version` 0 with kCreate; else the version that was read: any other current
/// version is kConflict.
struct Write {
  enum class Kind { kCreate, kUpdate, kDelete };
  Kind kind = Kind::kCreate;
  StoreKey key;
  std::string uid;
  int64_t expected_version = 0;
  std::string tail;  ///< See ComposeText; with kDelete empty means "the last state".
  std::optional<base::WallTime> expires;  ///< When ExpireBefore removes it.
};

struct ListQuery {
  std::string resource;
  std::string ns;          ///< Empty: all namespaces.
  std::string name;        ///< Empty: all names.
  size_t limit = 0;        ///< Rows; 0: all.
  std::string after_ns;    ///< Continue behind this key...
  std::string after_name;  ///< ...when not empty.
  int64_t at_version = 0;  ///< The snapshot to read; 0: the current one.
};

struct ListResult {
  std::vector<StoredObject> objects;  ///< By namespace, then name.
  int64_t version = 0;                ///< The snapshot's version.
  bool more = false;
};

/// Objects and their versions in SQLite (WAL, synchronous=FULL): one writer thread that commits
/// waiting writes together, one global version for all resources, a bounded log of changes. Thread
/// safe.
///
/// Errors: kNotFound; kAlreadyExists; kConflict; kGone (version compacted or from another
/// database); kUnavailable with reason NoSpace, ReadOnly or Busy (the next write tries anew, so the
/// store recovers by itself); kInvalid reason TooLarge; kInternal reason Corrupt.
class Store {
 public:
  /// Errors: kAlreadyExists reason DataDirectoryLocked (names the holder's pid), kInvalid reason
  /// NewerSchema, kInternal reason Corrupt (the file is kept untouched), and those of the file
  /// system.
  static base::Result<std::unique_ptr<Store>> Open(StoreOptions options);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// Returns after the commit is on disk; the value is the object's new version and text.
  base::Result<StoredObject> Apply(Write write);
  base::Result<StoredObject> Get(const StoreKey& key) const;
  base::Result<ListResult> List(const ListQuery& query) const;
  base::Result<int64_t> Count(const std::string& resource) const;
  /// Objects whose text holds `fragment`: a full scan, for start-up only.
  base::Result<std::vector<StoredObject>> Containing(const std::string& fragment) const;
  /// True if an object with that uid is there.
  base::Result<bool> HasUid(const std::string& uid) const;
  /// The newest committed version.
  base::Result<int64_t> Version() const;
  /// The oldest version from which a watch can resume.
  base::Result<int64_t> OldestVersion() const;

  /// Delivers to `sink` every change of `scope` newer than `from`, first from the log, then as they
  /// happen. kGone when the log does not reach back that far or `from` lies in the future.
  base::Result<std::shared_ptr<WatchHub::Watcher>> Watch(WatchScope scope, int64_t from,
                                                         std::shared_ptr<WatchSink> sink);
  void StopWatch(const std::shared_ptr<WatchHub::Watcher>& watcher);

  /// Up to `limit` keys that expired before `now`, and of `resource` the oldest beyond `keep`.
  base::Result<std::vector<StoredObject>> Expired(base::WallTime now, const std::string& resource,
                                                  size_t keep, size_t limit) const;
  /// Forgets changes up to `version` at once (tests and maintenance).
  base::Status Compact(int64_t version);
  /// The last write's failure (NoSpace, ReadOnly, ...) until one succeeds: for readiness.
  std::optional<base::Error> Trouble() const;
  WatchHub& Hub();
  /// Tests: changes PRAGMA max_page_count, as if the disk had got full or free again.
  base::Status SetPageLimit(int64_t pages);
  /// Ends watches, commits what waits, closes. Idempotent.
  void Stop();

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace apiserver
