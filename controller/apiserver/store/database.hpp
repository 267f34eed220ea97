#pragma once

#include <SQLiteCpp/SQLiteCpp.h>

#include <memory>
#include <string>

#include "base/file.hpp"
#include "base/result.hpp"

namespace apiserver {

/// The one place where SQLite's exceptions become errors; `what` says what was attempted.
base::Error StoreError(const SQLite::Exception& exception, const std::string& what);

/// Makes the directory (0700) and takes its lock for this process; the descriptor holds it.
/// kAlreadyExists reason DataDirectoryLocked.
base::Result<base::UniqueFd> LockDataDirectory(const std::string& data_dir);

struct DatabaseOptions {
  std::string path;
  int64_t integrity_check_bytes = 0;
};

/// Opens (or makes, 0600) the database for writing, checks that it is ours, whole and not newer
/// than this program, and makes the tables.
base::Result<std::unique_ptr<SQLite::Database>> OpenForWriting(const DatabaseOptions& options);
/// A second connection that only reads. The file must exist.
base::Result<std::unique_ptr<SQLite::Database>> OpenForReading(const std::string& path);

}  // namespace apiserver
