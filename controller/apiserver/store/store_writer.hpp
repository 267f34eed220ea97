#pragma once

#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "apiserver/store/database.hpp"
#include "apiserver/store/store.hpp"

namespace apiserver {

/// The only writer: takes what waits (up to a batch), commits it in one transaction, answers,
/// publishes. A write that loses its optimistic lock fails alone; a failing disk fails the batch
/// and nothing of it is stored.
class StoreWriter {
 public:
  StoreWriter(std::unique_ptr<SQLite::Database> db, const StoreOptions& options, WatchHub& hub);
  ~StoreWriter() { Stop(); }
  base::Status Start();
  base::Result<StoredObject> Apply(Write write);
  base::Status Compact(int64_t version);
  base::Status SetPageLimit(int64_t pages);
  std::optional<base::Error> Trouble() const;
  /// Commits what waits, then ends the thread.
  void Stop();

 private:
  using Answer = base::Result<StoredObject>;
  struct Waiting {
    Write write;
    std::promise<Answer> promise;
  };
  struct Commit {
    std::vector<Answer> answers;
    std::vector<ChangePtr> changes;
    int64_t version = 0;
    int64_t compacted = 0;
    int64_t log_bytes = 0;
  };
  void Loop();
  void CommitBatch(std::vector<Waiting>& batch);
  Answer ApplyOne(const Write& write, Commit& commit);
  void Store(const Write& write, const Change& change, const std::string& uid);
  void TrimLog(Commit& commit);
  void DropChanges(Commit& commit, int64_t up_to);
  void Finish(std::vector<Waiting>& batch, Commit& commit);
  void Fail(std::vector<Waiting>& batch, const base::Error& error);

  const StoreOptions options_;
  WatchHub& hub_;
  std::mutex db_mutex_;  ///< The connection: the loop, Compact, SetPageLimit.
  std::unique_ptr<SQLite::Database> db_;
  int64_t version_ = 0;
  int64_t compacted_ = 0;
  int64_t log_bytes_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Waiting> queue_;
  bool stopping_ = false;
  std::optional<base::Error> trouble_;
  std::thread thread_;
};

}  // namespace apiserver
