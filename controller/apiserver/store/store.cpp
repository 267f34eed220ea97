#include "apiserver/store/store.hpp"

#include <utility>

#include "apiserver/store/database.hpp"
#include "apiserver/store/store_reader.hpp"
#include "apiserver/store/store_writer.hpp"

namespace apiserver {

struct Store::Impl {
  base::UniqueFd lock;
  std::unique_ptr<WatchHub> hub;
  std::unique_ptr<StoreWriter> writer;
  /// Destroyed before the writer: only a connection that may write folds the WAL into the database
  /// when it closes last.
  std::unique_ptr<StoreReader> reader;
};

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Store::~Store() { Stop(); }

base::Result<std::unique_ptr<Store>> Store::Open(StoreOptions options) {
  auto impl = std::make_unique<Impl>();
  auto lock = LockDataDirectory(options.data_dir);
  if (!lock) return lock.error();
  impl->lock = std::move(*lock);
  const std::string path = options.data_dir + "/store.db";
  auto writing = OpenForWriting({path, options.integrity_check_bytes});
  if (!writing) return writing.error();
  auto reading = OpenForReading(path);
  if (!reading) return reading.error();
  impl->reader = std::make_unique<StoreReader>(std::move(*reading));
  auto version = impl->reader->State("version");
  if (!version) return version.error();
  options.hub.first_version = *version;
  impl->hub = std::make_unique<WatchHub>(options.hub);
  impl->writer = std::make_unique<StoreWriter>(std::move(*writing), options, *impl->hub);
  if (auto started = impl->writer->Start(); !started) return started.error();
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

base::Result<StoredObject> Store::Apply(Write write) {
  return impl_->writer->Apply(std::move(write));
}
base::Result<StoredObject> Store::Get(const StoreKey& key) const { return impl_->reader->Get(key); }
base::Result<ListResult> Store::List(const ListQuery& query) const {
  return impl_->reader->List(query);
}
base::Result<int64_t> Store::Count(const std::string& resource) const {
  return impl_->reader->Count(resource);
}
base::Result<bool> Store::HasUid(const std::string& uid) const {
  return impl_->reader->HasUid(uid);
}
base::Result<std::vector<StoredObject>> Store::Containing(const std::string& fragment) const {
  return impl_->reader->Containing(fragment);
}
base::Result<int64_t> Store::Version() const { return impl_->reader->State("version"); }
base::Result<int64_t> Store::OldestVersion() const { return impl_->reader->State("compacted"); }
base::Status Store::Compact(int64_t version) { return impl_->writer->Compact(version); }
std::optional<base::Error> Store::Trouble() const { return impl_->writer->Trouble(); }
WatchHub& Store::Hub() { return *impl_->hub; }
base::Status Store::SetPageLimit(int64_t pages) { return impl_->writer->SetPageLimit(pages); }

base::Result<std::vector<StoredObject>> Store::Expired(base::WallTime now,
                                                       const std::string& resource, size_t keep,
                                                       size_t limit) const {
  return impl_->reader->Expired(now, resource, keep, limit);
}

base::Result<std::shared_ptr<WatchHub::Watcher>> Store::Watch(WatchScope scope, int64_t from,
                                                              std::shared_ptr<WatchSink> sink) {
  // First registered, then the log is read: what is committed in between is in both, and GoLive
  // drops the second copy.
  auto watcher = impl_->hub->Register(scope, sink);
  if (!watcher)
    return base::MakeError(base::Code::kUnavailable, "too many watches, or the server is stopping",
                           "TooManyWatches");
  int64_t version = 0;
  auto changes = impl_->reader->ChangesSince(scope, from, &version);
  if (!changes) {
    impl_->hub->Remove(watcher);
    return changes.error();
  }
  for (const ChangePtr& change : *changes) {
    if (sink->OnChange(change)) continue;
    impl_->hub->Remove(watcher);
    sink->OnEnd();
    return watcher;
  }
  impl_->hub->GoLive(watcher, version);
  return watcher;
}

void Store::StopWatch(const std::shared_ptr<WatchHub::Watcher>& watcher) {
  impl_->hub->Remove(watcher);
}

void Store::Stop() {
  if (!impl_) return;
  impl_->hub->Stop();  // First: a writer that waits for room in the hub must not wait for ever.
  impl_->writer->Stop();
}

}  // namespace apiserver
