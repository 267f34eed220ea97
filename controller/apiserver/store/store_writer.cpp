#include "apiserver/store/store_writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/failpoint.hpp"
#include "base/log.hpp"
#include "base/thread_name.hpp"

namespace apiserver {
namespace {

base::Error Conflict(const StoreKey& key) {
  return base::MakeError(
      base::Code::kConflict,
      fmt::format("{} \"{}\": the object has been modified", key.resource, key.name), "Conflict");
}

base::Error NotFound(const StoreKey& key) {
  return base::MakeError(base::Code::kNotFound,
                         fmt::format("{} \"{}\" not found", key.resource, key.name), "NotFound");
}

void BindKey(SQLite::Statement& statement, int at, const StoreKey& key) {
  statement.bind(at, key.resource);
  statement.bind(at + 1, key.ns);
  statement.bind(at + 2, key.name);
}

}  // namespace

StoreWriter::StoreWriter(std::unique_ptr<SQLite::Database> db, const StoreOptions& options,
                         WatchHub& hub)
    : options_(options), hub_(hub), db_(std::move(db)) {}

base::Status StoreWriter::Start() {
  try {
    version_ = db_->execAndGet("SELECT value FROM state WHERE key='version'").getInt64();
    compacted_ = db_->execAndGet("SELECT value FROM state WHERE key='compacted'").getInt64();
    log_bytes_ =
        db_->execAndGet("SELECT coalesce(sum(length(body)+length(previous)),0) FROM changes")
            .getInt64();
  } catch (const SQLite::Exception& exception) {
    return StoreError(exception, "reading the store's state");
  }
  if (options_.page_limit > 0) {
    if (auto set = SetPageLimit(options_.page_limit); !set) return set;
  }
  thread_ = std::thread([this] {
    base::NameThread("store-writer");
    Loop();
  });
  return {};
}

base::Result<StoredObject> StoreWriter::Apply(Write write) {
  if (write.tail.size() > options_.object_limit) {
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("{} \"{}\" is larger than {} bytes", write.key.resource,
                                       write.key.name, options_.object_limit),
                           "TooLarge");
  }
  std::future<Answer> answer;
  {
    std::lock_guard lock(mutex_);
    if (stopping_)
      return base::MakeError(base::Code::kUnavailable, "the store is stopping", "Stopping");
    if (queue_.size() >= options_.queue_limit)
      return base::MakeError(base::Code::kUnavailable, "too many writes are waiting", "Busy");
    queue_.push_back(Waiting{std::move(write), {}});
    answer = queue_.back().promise.get_future();
    wake_.notify_one();
  }
  return answer.get();
}

std::optional<base::Error> StoreWriter::Trouble() const {
  std::lock_guard lock(mutex_);
  return trouble_;
}

void StoreWriter::Loop() {
  for (;;) {
    std::vector<Waiting> batch;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      while (!queue_.empty() && batch.size() < options_.batch_limit) {
        batch.push_back(std::move(queue_.front()));
        queue_.pop_front();
      }
    }
    CommitBatch(batch);
  }
}

void StoreWriter::CommitBatch(std::vector<Waiting>& batch) {
  std::lock_guard lock(db_mutex_);
  Commit commit;
  commit.version = version_;
  commit.compacted = compacted_;
  commit.log_bytes = log_bytes_;
  try {
    const base::FailpointScope failpoint("store.commit");
    SQLite::Transaction transaction(*db_, SQLite::TransactionBehavior::IMMEDIATE);
    for (const Waiting& waiting : batch) commit.answers.push_back(ApplyOne(waiting.write, commit));
    if (!commit.changes.empty()) {
      TrimLog(commit);
      SQLite::Statement state(*db_, "UPDATE state SET value=? WHERE key='version'");
      state.bind(1, commit.version);
      state.exec();
      transaction.commit();
    }
  } catch (const SQLite::Exception& exception) {
    return Fail(batch, StoreError(exception, "writing to the store"));
  }
  Finish(batch, commit);
}

StoreWriter::Answer StoreWriter::ApplyOne(const Write& write, Commit& commit) {
  SQLite::Statement row(
      *db_, "SELECT uid,version,body FROM objects WHERE resource=? AND ns=? AND name=?");
  BindKey(row, 1, write.key);
  const bool there = row.executeStep();
  const bool create = write.kind == Write::Kind::kCreate;
  if (create && there) {
    return base::MakeError(
        base::Code::kAlreadyExists,
        fmt::format("{} \"{}\" already exists", write.key.resource, write.key.name),
        "AlreadyExists");
  }
  if (!create && !there) return NotFound(write.key);
  if (!create && row.getColumn(1).getInt64() != write.expected_version) return Conflict(write.key);

  auto change = std::make_shared<Change>();
  change->version = ++commit.version;
  change->key = write.key;
  change->previous = there ? row.getColumn(2).getString() : std::string();
  change->type = create                               ? ChangeType::kAdded
                 : write.kind == Write::Kind::kUpdate ? ChangeType::kModified
                                                      : ChangeType::kDeleted;
  change->text =
      ComposeText(change->version, write.tail.empty() ? TailOf(change->previous) : write.tail);
  const std::string uid = there ? row.getColumn(0).getString() : write.uid;
  row.reset();
  Store(write, *change, uid);
  commit.log_bytes += static_cast<int64_t>(change->text.size() + change->previous.size());
  StoredObject stored{write.key, uid, change->version, change->text};
  commit.changes.push_back(std::move(change));
  return stored;
}

void StoreWriter::Store(const Write& write, const Change& change, const std::string& uid) {
  if (change.type == ChangeType::kDeleted) {
    SQLite::Statement gone(*db_, "DELETE FROM objects WHERE resource=? AND ns=? AND name=?");
    BindKey(gone, 1, write.key);
    gone.exec();
  } else {
    SQLite::Statement put(*db_,
                          "INSERT INTO objects(resource,ns,name,uid,version,expires,body) "
                          "VALUES(?,?,?,?,?,?,?) ON CONFLICT DO UPDATE "
                          "SET uid=excluded.uid, version=excluded.version, "
                          "expires=excluded.expires, body=excluded.body");
    BindKey(put, 1, write.key);
    put.bind(4, uid);
    put.bind(5, change.version);
    put.bind(6, write.expires ? static_cast<int64_t>(write.expires->time_since_epoch().count())
                              : int64_t{0});
    put.bindNoCopy(7, change.text);
    put.exec();
  }
  SQLite::Statement log(
      *db_,
      "INSERT INTO changes(version,type,resource,ns,name,body,previous) VALUES(?,?,?,?,?,?,?)");
  log.bind(1, change.version);
  log.bind(2, static_cast<int>(change.type));
  BindKey(log, 3, write.key);
  log.bindNoCopy(6, change.text);
  log.bindNoCopy(7, change.previous);
  log.exec();
}

void StoreWriter::TrimLog(Commit& commit) {
  const int64_t rows = commit.version - commit.compacted;
  // An eighth of slack, so that the log is trimmed in portions and not at every commit.
  if (rows > options_.change_log_rows + options_.change_log_rows / 8) {
    DropChanges(commit, commit.version - options_.change_log_rows);
  }
  if (commit.log_bytes > options_.change_log_bytes) {
    DropChanges(commit, commit.version - (commit.version - commit.compacted) / 2);
  }
}

void StoreWriter::DropChanges(Commit& commit, int64_t up_to) {
  if (up_to <= commit.compacted) return;
  SQLite::Statement size(
      *db_, "SELECT coalesce(sum(length(body)+length(previous)),0) FROM changes WHERE version<=?");
  size.bind(1, up_to);
  size.executeStep();
  const int64_t bytes = size.getColumn(0).getInt64();
  SQLite::Statement drop(*db_, "DELETE FROM changes WHERE version<=?");
  drop.bind(1, up_to);
  drop.exec();
  SQLite::Statement state(*db_, "UPDATE state SET value=? WHERE key='compacted'");
  state.bind(1, up_to);
  state.exec();
  commit.compacted = up_to;
  commit.log_bytes -= bytes;
}

void StoreWriter::Finish(std::vector<Waiting>& batch, Commit& commit) {
  if (!commit.changes.empty()) {
    version_ = commit.version;
    compacted_ = commit.compacted;
    log_bytes_ = commit.log_bytes;
    {
      std::lock_guard lock(mutex_);
      if (trouble_) base::LogInfo("the store can write again");
      trouble_.reset();
    }
    // Published before it is answered: a caller who saw the answer will not be handed an older
    // state by a watch that starts after it.
    hub_.Publish(std::move(commit.changes), commit.version);
  }
  for (size_t i = 0; i < batch.size(); ++i)
    batch[i].promise.set_value(std::move(commit.answers[i]));
}

void StoreWriter::Fail(std::vector<Waiting>& batch, const base::Error& error) {
  {
    std::lock_guard lock(mutex_);
    if (!trouble_)
      base::LogError("the store cannot write",
                     {{"error", error.message}, {"reason", error.reason}});
    trouble_ = error;
  }
  for (Waiting& waiting : batch) waiting.promise.set_value(error);
}

base::Status StoreWriter::Compact(int64_t version) {
  std::lock_guard lock(db_mutex_);
  Commit commit;
  commit.version = version_;
  commit.compacted = compacted_;
  commit.log_bytes = log_bytes_;
  try {
    SQLite::Transaction transaction(*db_, SQLite::TransactionBehavior::IMMEDIATE);
    DropChanges(commit, std::min(version, version_));
    transaction.commit();
  } catch (const SQLite::Exception& exception) {
    return StoreError(exception, "compacting the change log");
  }
  compacted_ = commit.compacted;
  log_bytes_ = commit.log_bytes;
  return {};
}

base::Status StoreWriter::SetPageLimit(int64_t pages) {
  std::lock_guard lock(db_mutex_);
  try {
    db_->exec(fmt::format("PRAGMA max_page_count={}", pages));
  } catch (const SQLite::Exception& exception) {
    return StoreError(exception, "setting the page limit");
  }
  return {};
}

void StoreWriter::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace apiserver
