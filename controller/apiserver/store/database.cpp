#include "apiserver/store/database.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace apiserver {
namespace {

constexpr int kSchemaVersion = 1;
constexpr int kApplicationId = 0x6d6f6c65;  // "mole": tells our files from other SQLite databases.
constexpr int kBusyMillis = 5000;

constexpr const char* kTables = R"sql(
CREATE TABLE objects(resource TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL, version INTEGER NOT NULL,
                     expires INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY(resource, ns, name));
CREATE INDEX objects_expires ON objects(resource, expires) WHERE expires > 0;
CREATE INDEX objects_uid ON objects(uid);
CREATE TABLE changes(version INTEGER PRIMARY KEY, type INTEGER NOT NULL, resource TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,
                     body TEXT NOT NULL, previous TEXT NOT NULL);
CREATE TABLE state(key TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO state VALUES('version', 0), ('compacted', 0);
)sql";

base::Error Damaged(const std::string& path, const std::string& why) {
  return base::MakeError(
      base::Code::kInternal,
      fmt::format(
          "database {} is damaged ({}); it was left as it is: restore a copy of it, or move it "
          "away to start with an empty one",
          path, why),
      "Corrupt");
}

base::Status MakePrivateFile(const std::string& path) {
  const base::UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.Valid()) return base::ErrnoError(errno, fmt::format("opening database {}", path));
  return {};
}

base::Status CheckWhole(SQLite::Database& db, const DatabaseOptions& options) {
  struct stat info {};
  if (stat(options.path.c_str(), &info) != 0 || info.st_size > options.integrity_check_bytes)
    return {};
  SQLite::Statement check(db, "PRAGMA quick_check(1)");
  if (!check.executeStep()) return Damaged(options.path, "no answer to the integrity check");
  const std::string answer = check.getColumn(0).getString();
  if (answer != "ok") return Damaged(options.path, answer);
  return {};
}

base::Status Prepare(SQLite::Database& db, const DatabaseOptions& options) {
  const int version = db.execAndGet("PRAGMA user_version").getInt();
  const int application = db.execAndGet("PRAGMA application_id").getInt();
  const int tables = db.execAndGet("SELECT count(*) FROM sqlite_schema").getInt();
  if (tables > 0 && application != kApplicationId) {
    return Damaged(options.path, "it is a database of another program");
  }
  if (version > kSchemaVersion) {
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format(
            "database {} has schema version {}, this program knows {}: run the newer program",
            options.path, version, kSchemaVersion),
        "NewerSchema");
  }
  if (tables > 0) {
    if (auto whole = CheckWhole(db, options); !whole) return whole;
  }
  db.exec("PRAGMA journal_mode=WAL");
  db.exec("PRAGMA synchronous=FULL");
  db.exec("PRAGMA cache_size=-1024");
  db.exec("PRAGMA journal_size_limit=8388608");
  if (tables > 0) return {};
  SQLite::Transaction transaction(db);
  db.exec(kTables);
  db.exec(fmt::format("PRAGMA application_id={}", kApplicationId));
  db.exec(fmt::format("PRAGMA user_version={}", kSchemaVersion));
  transaction.commit();
  return {};
}

/// What keeps a process from writing into the data directory, and what to do about it.
base::Error Unusable(int error_number, const std::string& data_dir, const char* what) {
  const bool refused = error_number == EROFS || error_number == EACCES || error_number == EPERM;
  const char* remedy = refused                  ? ": give one that this user can write"
                       : error_number == ENOSPC ? ": free some space"
                                                : "";
  base::Error error =
      base::ErrnoError(error_number, fmt::format("data directory {}: {}", data_dir, what));
  error.message += remedy;
  if (refused) error.reason = "ReadOnly";
  return error;
}

/// SQLite calls it an I/O error when its shared memory file finds no room.
bool IsFull(const std::string& path) {
  struct statvfs disk {};
  return ::statvfs(path.c_str(), &disk) == 0 && disk.f_bavail * disk.f_frsize < (64 << 10);
}

std::string HolderOf(int fd) {
  char text[32] = {};
  const ssize_t got = pread(fd, text, sizeof text - 1, 0);
  return got > 0 ? std::string(text, static_cast<size_t>(got)) : std::string("unknown");
}

}  // namespace

base::Error StoreError(const SQLite::Exception& exception, const std::string& what) {
  const std::string message = fmt::format("{}: {}", what, exception.getErrorStr());
  switch (exception.getErrorCode() & 0xff) {
    case SQLITE_FULL:
      return base::MakeError(base::Code::kUnavailable, message, "NoSpace");
    case SQLITE_READONLY:
      return base::MakeError(base::Code::kUnavailable, message, "ReadOnly");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return base::MakeError(base::Code::kUnavailable, message, "Busy");
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
      return base::MakeError(base::Code::kUnavailable, message, "StorageFailure");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return base::MakeError(base::Code::kInternal, message, "Corrupt");
    default:
      return base::MakeError(base::Code::kInternal, message, "StorageFailure");
  }
}

base::Result<base::UniqueFd> LockDataDirectory(const std::string& data_dir) {
  if (auto made = base::MakeDirectories(data_dir, 0700); !made) return made.error();
  const std::string path = data_dir + "/lock";
  base::UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.Valid()) return Unusable(errno, data_dir, "opening its lock file");
  if (flock(fd.Get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return base::ErrnoError(errno, fmt::format("locking {}", path));
    return base::MakeError(
        base::Code::kAlreadyExists,
        fmt::format("data directory {} is in use by process {}: stop it, or choose another data "
                    "directory",
                    data_dir, HolderOf(fd.Get())),
        "DataDirectoryLocked");
  }
  const std::string pid = std::to_string(getpid());
  if (ftruncate(fd.Get(), 0) != 0 || pwrite(fd.Get(), pid.data(), pid.size(), 0) < 0) {
    return Unusable(errno, data_dir, "writing its lock file");
  }
  return fd;
}

base::Result<std::unique_ptr<SQLite::Database>> OpenForWriting(const DatabaseOptions& options) {
  if (auto made = MakePrivateFile(options.path); !made) return made.error();
  try {
    auto db = std::make_unique<SQLite::Database>(
        options.path, SQLite::OPEN_READWRITE | SQLite::OPEN_NOMUTEX, kBusyMillis);
    if (auto prepared = Prepare(*db, options); !prepared) return prepared.error();
    return db;
  } catch (const SQLite::Exception& exception) {
    base::Error error = StoreError(exception, fmt::format("opening database {}", options.path));
    if (error.reason == "Corrupt") return Damaged(options.path, exception.getErrorStr());
    if (error.reason == "StorageFailure" && IsFull(options.path)) {
      error.reason = "NoSpace";
      error.message += ": no space is left on its file system; free some";
    }
    return error;
  }
}

base::Result<std::unique_ptr<SQLite::Database>> OpenForReading(const std::string& path) {
  try {
    auto db = std::make_unique<SQLite::Database>(path, SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX,
                                                 kBusyMillis);
    db->exec("PRAGMA cache_size=-1024");
    return db;
  } catch (const SQLite::Exception& exception) {
    return StoreError(exception, fmt::format("opening database {}", path));
  }
}

}  // namespace apiserver
