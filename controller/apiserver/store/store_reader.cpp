#include "apiserver/store/store_reader.hpp"

#include <fmt/format.h>

#include <map>
#include <string>
#include <utility>

namespace apiserver {
namespace {

using NsName = std::pair<std::string, std::string>;

base::Error Expired410(int64_t version, int64_t oldest) {
  return base::MakeError(base::Code::kGone,
                         fmt::format("too old resource version: {} ({})", version, oldest),
                         "Expired");
}

int64_t VersionOf(const std::string& text) {
  constexpr size_t kDigits = std::string_view(R"({"metadata":{"resourceVersion":")").size();
  return text.size() > kDigits ? std::strtoll(text.c_str() + kDigits, nullptr, 10) : 0;
}

StoredObject RowOf(SQLite::Statement& row, const std::string& resource) {
  StoredObject object;
  object.key = {resource, row.getColumn(0).getString(), row.getColumn(1).getString()};
  object.uid = row.getColumn(2).getString();
  object.version = row.getColumn(3).getInt64();
  object.text = row.getColumn(4).getString();
  return object;
}

/// `tail` conditions of a list, in the order in which BindList binds.
std::string ListSql(const ListQuery& query, const char* columns, const char* table) {
  std::string sql = fmt::format("SELECT {} FROM {} WHERE resource=?", columns, table);
  if (!query.ns.empty()) sql += " AND ns=?";
  if (!query.name.empty()) sql += " AND name=?";
  if (!query.after_name.empty()) sql += " AND (ns,name)>(?,?)";
  return sql;
}

int BindList(SQLite::Statement& statement, const ListQuery& query) {
  int at = 1;
  statement.bind(at++, query.resource);
  if (!query.ns.empty()) statement.bind(at++, query.ns);
  if (!query.name.empty()) statement.bind(at++, query.name);
  if (!query.after_name.empty()) {
    statement.bind(at++, query.after_ns);
    statement.bind(at++, query.after_name);
  }
  return at;
}

/// What the keys that changed after the snapshot were at the snapshot; an empty text: not there.
std::map<NsName, std::string> StateBefore(SQLite::Database& db, const ListQuery& query) {
  std::map<NsName, std::string> before;
  SQLite::Statement rows(
      db, ListSql(query, "ns,name,previous", "changes") + " AND version>? ORDER BY version");
  rows.bind(BindList(rows, query), query.at_version);
  while (rows.executeStep()) {
    before.try_emplace({rows.getColumn(0).getString(), rows.getColumn(1).getString()},
                       rows.getColumn(2).getString());
  }
  return before;
}

/// Collects objects in key order and stops at the limit.
class PageBuilder {
 public:
  PageBuilder(ListResult& result, size_t limit) : result_(result), limit_(limit) {}
  bool Full() const { return result_.more; }
  void Add(StoredObject object) {
    if (limit_ != 0 && result_.objects.size() >= limit_) {
      result_.more = true;
    } else {
      result_.objects.push_back(std::move(object));
    }
  }

 private:
  ListResult& result_;
  size_t limit_;
};

void AddBefore(PageBuilder& page, const std::string& resource,
               std::pair<const NsName, std::string>& entry) {
  if (entry.second.empty()) return;
  StoredObject object;
  object.key = {resource, entry.first.first, entry.first.second};
  object.version = VersionOf(entry.second);
  object.text = std::move(entry.second);
  page.Add(std::move(object));
}

}  // namespace

template <typename T>
base::Result<T> StoreReader::Read(const char* what, const std::function<base::Result<T>()>& body) {
  std::lock_guard lock(mutex_);
  try {
    SQLite::Transaction snapshot(*db_);
    return body();
  } catch (const SQLite::Exception& exception) {
    return StoreError(exception, what);
  }
}

int64_t StoreReader::StateNow(const char* key) {
  SQLite::Statement row(*db_, "SELECT value FROM state WHERE key=?");
  row.bind(1, key);
  return row.executeStep() ? row.getColumn(0).getInt64() : 0;
}

base::Result<int64_t> StoreReader::State(const char* key) {
  return Read<int64_t>("reading the store's state",
                       [&]() -> base::Result<int64_t> { return StateNow(key); });
}

base::Result<int64_t> StoreReader::Count(const std::string& resource) {
  return Read<int64_t>("counting objects", [&]() -> base::Result<int64_t> {
    SQLite::Statement row(*db_, "SELECT count(*) FROM objects WHERE resource=?");
    row.bind(1, resource);
    row.executeStep();
    return row.getColumn(0).getInt64();
  });
}

base::Result<StoredObject> StoreReader::Get(const StoreKey& key) {
  return Read<StoredObject>("reading an object", [&]() -> base::Result<StoredObject> {
    SQLite::Statement row(
        *db_, "SELECT ns,name,uid,version,body FROM objects WHERE resource=? AND ns=? AND name=?");
    row.bind(1, key.resource);
    row.bind(2, key.ns);
    row.bind(3, key.name);
    if (row.executeStep()) return RowOf(row, key.resource);
    return base::MakeError(base::Code::kNotFound,
                           fmt::format("{} \"{}\" not found", key.resource, key.name));
  });
}

base::Result<std::vector<StoredObject>> StoreReader::Containing(const std::string& fragment) {
  using Objects = std::vector<StoredObject>;
  return Read<Objects>("scanning objects", [&]() -> base::Result<Objects> {
    SQLite::Statement rows(
        *db_, "SELECT ns,name,uid,version,body,resource FROM objects WHERE instr(body,?)>0");
    rows.bind(1, fragment);
    Objects objects;
    while (rows.executeStep()) objects.push_back(RowOf(rows, rows.getColumn(5).getString()));
    return objects;
  });
}

base::Result<bool> StoreReader::HasUid(const std::string& uid) {
  return Read<bool>("looking for an owner", [&]() -> base::Result<bool> {
    SQLite::Statement row(*db_, "SELECT 1 FROM objects WHERE uid=?");
    row.bind(1, uid);
    return row.executeStep();
  });
}

base::Result<ListResult> StoreReader::List(const ListQuery& query) {
  return Read<ListResult>("listing objects", [&]() { return ListNow(query); });
}

base::Result<ListResult> StoreReader::ListNow(const ListQuery& query) {
  ListResult result;
  const int64_t current = StateNow("version");
  result.version = query.at_version == 0 ? current : query.at_version;
  if (result.version > current) {
    return base::MakeError(
        base::Code::kGone,
        fmt::format("too large resource version: {}, current: {}", result.version, current),
        "Expired");
  }
  std::map<NsName, std::string> before;
  if (result.version < current) {
    const int64_t compacted = StateNow("compacted");
    if (result.version < compacted) return Expired410(result.version, compacted);
    before = StateBefore(*db_, query);
  }
  std::string sql = ListSql(query, "ns,name,uid,version,body", "objects") + " ORDER BY ns,name";
  if (query.limit != 0) sql += fmt::format(" LIMIT {}", query.limit + before.size() + 1);
  SQLite::Statement rows(*db_, sql);
  BindList(rows, query);
  PageBuilder page(result, query.limit);
  auto past = before.begin();
  while (!page.Full() && rows.executeStep()) {
    StoredObject object = RowOf(rows, query.resource);
    const NsName key{object.key.ns, object.key.name};
    for (; past != before.end() && past->first < key; ++past)
      AddBefore(page, query.resource, *past);
    if (past != before.end() && past->first == key) {
      AddBefore(page, query.resource, *past++);
    } else {
      page.Add(std::move(object));
    }
  }
  for (; past != before.end() && !page.Full(); ++past) AddBefore(page, query.resource, *past);
  return result;
}

base::Result<std::vector<ChangePtr>> StoreReader::ChangesSince(const WatchScope& scope,
                                                               int64_t from, int64_t* version) {
  using Changes = std::vector<ChangePtr>;
  return Read<Changes>("reading the change log", [&]() -> base::Result<Changes> {
    *version = StateNow("version");
    const int64_t compacted = StateNow("compacted");
    if (from < compacted || from > *version)
      return Expired410(from, from < compacted ? compacted : *version);
    ListQuery query;
    query.resource = scope.resource;
    query.ns = scope.ns;
    SQLite::Statement rows(*db_, ListSql(query, "version,type,ns,name,body,previous", "changes") +
                                     " AND version>? ORDER BY version");
    rows.bind(BindList(rows, query), from);
    Changes changes;
    while (rows.executeStep()) {
      auto change = std::make_shared<Change>();
      change->version = rows.getColumn(0).getInt64();
      change->type = static_cast<ChangeType>(rows.getColumn(1).getInt());
      change->key = {scope.resource, rows.getColumn(2).getString(), rows.getColumn(3).getString()};
      change->text = rows.getColumn(4).getString();
      change->previous = rows.getColumn(5).getString();
      changes.push_back(std::move(change));
    }
    return changes;
  });
}

base::Result<std::vector<StoredObject>> StoreReader::Expired(base::WallTime now,
                                                             const std::string& resource,
                                                             size_t keep, size_t limit) {
  using Objects = std::vector<StoredObject>;
  return Read<Objects>("reading expired objects", [&]() -> base::Result<Objects> {
    SQLite::Statement count(*db_, "SELECT count(*) FROM objects WHERE resource=?");
    count.bind(1, resource);
    count.executeStep();
    const auto total = static_cast<size_t>(count.getColumn(0).getInt64());
    const size_t surplus = total > keep ? total - keep : 0;
    SQLite::Statement rows(*db_,
                           "SELECT ns,name,uid,version,body,expires FROM objects WHERE resource=? "
                           "AND expires>0 ORDER BY expires LIMIT ?");
    rows.bind(1, resource);
    rows.bind(2, static_cast<int64_t>(limit));
    Objects objects;
    while (rows.executeStep()) {
      const bool old = rows.getColumn(5).getInt64() <= now.time_since_epoch().count();
      if (!old && objects.size() >= surplus) break;
      objects.push_back(RowOf(rows, resource));
    }
    return objects;
  });
}

}  // namespace apiserver
