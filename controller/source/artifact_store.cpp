#include "source/artifact_store.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <vector>

#include "base/failpoint.hpp"
#include "base/log.hpp"
#include "base/sha256.hpp"
#include "bundle/folder.hpp"
#include "codec/json.hpp"

namespace source {
namespace {

constexpr auto kRecent = std::chrono::minutes(10);

std::string KeyText(const FetchKey& key) {
  return fmt::format("{}\n{}\n{}\n{}", key.repository, key.subpath, key.commit, key.scope);
}

bool IsDigest(std::string_view digest) {
  return digest.size() == 71 && digest.starts_with("sha256:") &&
         digest.find_first_not_of("0123456789abcdef", 7) == std::string_view::npos;
}

std::string StatText(const struct stat& info) {
  return fmt::format("{} {} {} {}.{} {}.{}", info.st_dev, info.st_ino, info.st_size,
                     info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ctim.tv_sec,
                     info.st_ctim.tv_nsec);
}

base::Result<std::string> HashFile(int fd, const std::string& path) {
  base::Sha256 hash;
  char buffer[65536];
  if (::lseek(fd, 0, SEEK_SET) != 0) return base::ErrnoError(errno, "read " + path);
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::ErrnoError(errno, "read " + path);
    if (n == 0) break;
    hash.Update({buffer, static_cast<size_t>(n)});
  }
  if (::lseek(fd, 0, SEEK_SET) != 0) return base::ErrnoError(errno, "read " + path);
  return base::DigestText(hash.Finish());
}

struct Blob {
  uint64_t size = 0;
  std::chrono::steady_clock::time_point used{};
  std::string verified;  ///< StatText when its hash was found right; empty: not yet.
};

struct Indexed {
  std::string digest;
  std::string plugin_name;
  bool reload_none = false;
};

struct Flight {
  bool done = false;
  std::optional<base::Result<Artifact>> outcome;
};

}  // namespace

FetchKey MakeFetchKey(const core::SourceUri& uri, const std::string& commit,
                      const std::string& scope) {
  return {fmt::format("{}://{}/{}", static_cast<int>(uri.scheme), uri.host, uri.repository),
          uri.subpath, commit, scope};
}

struct ArtifactStore::State {
  mutable std::mutex mutex;
  std::condition_variable_any changed;
  std::map<std::string, Blob> blobs;     ///< By digest.
  std::map<std::string, Indexed> index;  ///< By key text.
  std::map<FetchKey, std::shared_ptr<Flight>> flights;
  uint64_t total = 0;
  uint64_t fetches = 0;
  std::string BlobPath(const std::string& root, const std::string& digest) const {
    return root + "/blobs/" + digest.substr(7) + ".tar";
  }
  std::string KeyPath(const std::string& root, const std::string& key_text) const {
    return fmt::format("{}/keys/{}.json", root, base::Hex(base::Sha256Of(key_text)));
  }
  /// With `mutex` held: the bytes, and all that leads to them.
  void Drop(const std::string& root, const std::string& digest) {
    const auto blob = blobs.find(digest);
    if (blob == blobs.end()) return;
    total -= blob->second.size;
    blobs.erase(blob);
    ::unlink(BlobPath(root, digest).c_str());
    std::erase_if(index, [&](const auto& entry) {
      if (entry.second.digest != digest) return false;
      ::unlink(KeyPath(root, entry.first).c_str());
      return true;
    });
  }
};

ArtifactStore::ArtifactStore(const Options& options)
    : options_(options), state_(std::make_unique<State>()) {}
ArtifactStore::~ArtifactStore() = default;

base::Result<std::unique_ptr<ArtifactStore>> ArtifactStore::Open(const Options& options) {
  std::unique_ptr<ArtifactStore> store(new ArtifactStore(options));
  if (auto ok = store->Load(); !ok) return ok.error();
  return store;
}

base::Status ArtifactStore::Load() {
  for (const char* folder : {"/blobs", "/keys", "/tmp"})
    if (auto ok = base::MakeDirectories(options_.directory + folder, 0700); !ok) return ok;
  auto root = bundle::Folder::Open(options_.directory);
  if (!root) return root.error();
  auto blobs = root->Sub("blobs"), keys = root->Sub("keys"), tmp = root->Sub("tmp");
  for (const auto* folder : {&blobs, &keys, &tmp})
    if (!*folder) return folder->error();
  auto names = tmp->List(), blob_names = blobs->List(1'000'000), key_names = keys->List(1'000'000);
  for (const auto* list : {&names, &blob_names, &key_names})
    if (!*list) return list->error();
  for (const std::string& name : *names)
    if (auto ok = tmp->RemoveTree(name); !ok) return ok;
  for (const std::string& name : *blob_names) {
    const std::string digest = "sha256:" + name.substr(0, name.find('.'));
    const auto info = blobs->Stat(name);
    if (!IsDigest(digest) || !info || !S_ISREG(info->st_mode)) continue;
    state_->blobs[digest].size = static_cast<uint64_t>(info->st_size);
    state_->total += static_cast<uint64_t>(info->st_size);
  }
  for (const std::string& name : *key_names) {
    const auto text = keys->Read(name, 64 << 10);
    const auto entry = text ? codec::ParseJson(*text) : base::Result<codec::Json>(text.error());
    if (!entry) continue;
    Indexed indexed{codec::GetString(*entry, "digest"), codec::GetString(*entry, "plugin"),
                    codec::GetBool(*entry, "reloadNone")};
    if (state_->blobs.contains(indexed.digest))
      state_->index.emplace(codec::GetString(*entry, "key"), std::move(indexed));
    else
      static_cast<void>(keys->Unlink(name));
  }
  return {};
}

std::optional<Artifact> ArtifactStore::FindByKey(const FetchKey& key) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->index.find(KeyText(key));
  if (found == state_->index.end()) return std::nullopt;
  const auto blob = state_->blobs.find(found->second.digest);
  if (blob == state_->blobs.end()) return std::nullopt;
  blob->second.used = std::chrono::steady_clock::now();
  return Artifact{blob->first, state_->BlobPath(options_.directory, blob->first), blob->second.size,
                  found->second.plugin_name, found->second.reload_none};
}

base::Result<OpenArtifact> ArtifactStore::OpenVerified(const std::string& digest) {
  const auto missing = [&] {
    return base::MakeError(base::Code::kNotFound,
                           fmt::format("artifact {} is not in the store", digest),
                           "ArtifactMissing");
  };
  if (!IsDigest(digest))
    return base::MakeError(base::Code::kInvalid,
                           "an artifact is named by sha256: and 64 hex digits", "DigestInvalid");
  const std::string path = state_->BlobPath(options_.directory, digest);
  std::string verified;
  {
    const std::lock_guard lock(state_->mutex);
    const auto found = state_->blobs.find(digest);
    if (found == state_->blobs.end()) return missing();
    found->second.used = std::chrono::steady_clock::now();
    verified = found->second.verified;
  }
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat info {};
  if (fd.Valid() && ::fstat(fd.Get(), &info) == 0 && verified == StatText(info))
    return OpenArtifact{std::move(fd), static_cast<uint64_t>(info.st_size)};
  base::Result<std::string> actual =
      fd.Valid() ? HashFile(fd.Get(), path)
                 : base::Result<std::string>(base::ErrnoError(errno, "open " + path));
  if (!actual && actual.error().code != base::Code::kNotFound) return actual.error();
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->blobs.find(digest);
  if (actual && *actual == digest && found != state_->blobs.end()) {
    found->second.verified = StatText(info);
    return OpenArtifact{std::move(fd), static_cast<uint64_t>(info.st_size)};
  }
  if (found != state_->blobs.end()) {
    base::LogError("an artifact in the store is damaged or gone; it is dropped and fetched again",
                   {{"digest", digest}});
    state_->Drop(options_.directory, digest);
  }
  return missing();
}

base::Result<Artifact> ArtifactStore::Find(const std::string& digest) {
  auto open = OpenVerified(digest);
  if (!open) return open.error();
  const std::lock_guard lock(state_->mutex);
  Artifact artifact{digest, state_->BlobPath(options_.directory, digest), open->size_bytes, ""};
  for (const auto& [key, indexed] : state_->index)
    if (indexed.digest == digest) {
      artifact.plugin_name = indexed.plugin_name;
      artifact.reload_none = indexed.reload_none;
    }
  return artifact;
}

base::Result<Artifact> ArtifactStore::Adopt(const FetchKey& key, Artifact artifact) {
  if (!IsDigest(artifact.digest))
    return base::MakeError(base::Code::kInternal, "a fetch gave no digest");
  const std::string path = state_->BlobPath(options_.directory, artifact.digest);
  const std::string key_text = KeyText(key);
  const base::FailpointScope point("source.store");
  if (::rename(artifact.path.c_str(), path.c_str()) != 0)
    return base::ErrnoError(errno, "rename " + artifact.path);
  if (auto ok = base::SyncDirectory(options_.directory + "/blobs"); !ok) return ok.error();
  artifact.path = path;
  {
    const std::lock_guard lock(state_->mutex);
    Blob& blob = state_->blobs[artifact.digest];
    state_->total += artifact.size_bytes - blob.size;
    blob = {artifact.size_bytes, std::chrono::steady_clock::now(), ""};
    state_->index[key_text] = {artifact.digest, artifact.plugin_name, artifact.reload_none};
  }
  // The index is only a saving: without its file a restart fetches once more.
  const codec::Json entry{{"key", key_text},
                          {"digest", artifact.digest},
                          {"plugin", artifact.plugin_name},
                          {"reloadNone", artifact.reload_none}};
  const std::string key_path = state_->KeyPath(options_.directory, key_text);
  if (auto ok = base::WriteFileAtomic(key_path, codec::Dump(entry), 0600); !ok)
    base::LogWarning("the store's index could not be written; a restart will fetch this again",
                     {{"error", ok.error().message}});
  Evict();
  return artifact;
}

void ArtifactStore::Evict() {
  const std::lock_guard lock(state_->mutex);
  if (state_->total <= options_.max_bytes) return;
  std::vector<std::pair<std::chrono::steady_clock::time_point, std::string>> order;
  for (const auto& [digest, blob] : state_->blobs) order.emplace_back(blob.used, digest);
  std::sort(order.begin(), order.end());
  const auto recent = std::chrono::steady_clock::now() - kRecent;
  for (const auto& [used, digest] : order) {
    if (state_->total <= options_.max_bytes || used > recent) return;
    state_->Drop(options_.directory, digest);
  }
}

base::Result<Artifact> ArtifactStore::RunFetch(const FetchKey& key, const FetchFunction& fetch,
                                               std::stop_token stop) {
  const std::string tar_path = fmt::format("{}/tmp/{}.tar", options_.directory, base::RandomUuid());
  auto artifact = fetch(tar_path, stop);
  if (artifact) artifact = Adopt(key, *std::move(artifact));
  if (!artifact) ::unlink(tar_path.c_str());
  return artifact;
}

base::Result<Artifact> ArtifactStore::FetchOnce(const FetchKey& key, const FetchFunction& fetch,
                                                std::stop_token stop) {
  for (;;) {
    if (auto known = FindByKey(key)) {
      // Only what can still be opened with the right hash counts; a damaged file is fetched again.
      if (OpenVerified(known->digest)) return *std::move(known);
    }
    std::unique_lock lock(state_->mutex);
    auto& flight = state_->flights[key];
    if (flight) {
      const std::shared_ptr<Flight> theirs = flight;
      state_->changed.wait(lock, stop, [&] { return theirs->done; });
      if (!theirs->done)
        return base::MakeError(base::Code::kCancelled, "fetch: stopped while waiting");
      if (!*theirs->outcome && theirs->outcome->error().code == base::Code::kCancelled &&
          !stop.stop_requested())
        continue;
      return *theirs->outcome;
    }
    const auto mine = flight = std::make_shared<Flight>();
    ++state_->fetches;
    lock.unlock();
    auto outcome = RunFetch(key, fetch, stop);
    lock.lock();
    mine->outcome = outcome;
    mine->done = true;
    state_->flights.erase(key);
    state_->changed.notify_all();
    return outcome;
  }
}

uint64_t ArtifactStore::FetchCount() const {
  const std::lock_guard lock(state_->mutex);
  return state_->fetches;
}

uint64_t ArtifactStore::TotalBytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->total;
}

}  // namespace source
