#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>

#include "base/file.hpp"
#include "base/result.hpp"
#include "source/plugin_source.hpp"

namespace source {

/// What one fetch is known by. The scope is who may: bytes fetched with one namespace's Secret are
/// not found by another namespace.
struct FetchKey {
  std::string repository;  ///< scheme://host/path, without ref and credentials.
  std::string subpath;
  std::string commit;
  std::string scope;  ///< "namespace/secret", or empty for anonymous.
  auto operator<=>(const FetchKey&) const = default;
};
FetchKey MakeFetchKey(const core::SourceUri& uri, const std::string& commit,
                      const std::string& scope);

/// An artifact opened for reading; its bytes had the right digest.
struct OpenArtifact {
  base::UniqueFd file;
  uint64_t size_bytes = 0;
};

/// Canonical tars by digest, on disk, and the index from fetches to digests: a restart fetches
/// nothing again. Thread safe. The least recently used files go when the sum passes the bound
/// (those used within the last ten minutes stay).
class ArtifactStore {
 public:
  struct Options {
    std::string directory;
    uint64_t max_bytes = 2ull << 30;
  };
  using FetchFunction =
      std::function<base::Result<Artifact>(const std::string& tar_path, std::stop_token stop)>;

  static base::Result<std::unique_ptr<ArtifactStore>> Open(const Options& options);

  /// The artifact of an earlier fetch, if its file is still there.
  std::optional<Artifact> FindByKey(const FetchKey& key) const;
  /// By digest; the bytes are hashed again unless the file is untouched since the last time. A
  /// damaged file is dropped: kNotFound.
  base::Result<Artifact> Find(const std::string& digest);
  /// As Find, opened: for streaming (the download endpoint). Survives an eviction meanwhile.
  base::Result<OpenArtifact> OpenVerified(const std::string& digest);
  /// FindByKey, else `fetch` once however many ask at the same time: the others wait for it and
  /// share its outcome. kCancelled when `stop` is requested; if that was the one who fetched, one
  /// of the others takes over.
  base::Result<Artifact> FetchOnce(const FetchKey& key, const FetchFunction& fetch,
                                   std::stop_token stop);
  /// How many fetches have been started since Open.
  uint64_t FetchCount() const;
  uint64_t TotalBytes() const;

 private:
  struct State;
  explicit ArtifactStore(const Options& options);
  base::Status Load();
  base::Result<Artifact> RunFetch(const FetchKey& key, const FetchFunction& fetch,
                                  std::stop_token stop);
  base::Result<Artifact> Adopt(const FetchKey& key, Artifact artifact);
  void Evict();

  Options options_;
  std::unique_ptr<State> state_;

 public:
  ~ArtifactStore();
};

}  // namespace source
