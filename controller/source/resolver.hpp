#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "source/artifact_store.hpp"
#include "source/plugin_source.hpp"

namespace source {

/// One look-up.
struct SourceRequest {
  core::SourceUri uri;
  std::optional<Credentials> credentials;
  std::string scope;  ///< "namespace/secret" the credentials come from; empty: anonymous. Part of
                      ///< the identity.
  base::Millis interval{
      3'600'000};          ///< Re-check of the ref; the smallest that anybody asked for counts.
  bool want_bytes = true;  ///< Also fetch the artifact.
};

/// What is known about a source now. Last good values stay while later attempts fail.
struct SourceView {
  std::optional<Resolution> resolution;  ///< Last good.
  std::optional<Artifact> artifact;      ///< Of that resolution; its file is in the store.
  std::optional<base::Error>
      error;  ///< Of the latest attempt (resolve or fetch); empty after a success.
  std::optional<base::WallTime> resolved_time;      ///< Of the last good resolution.
  std::optional<base::WallTime> next_attempt_time;  ///< While `error` is set.
  int attempts = 0;                                 ///< Failures in a row.
  bool pending = false;  ///< An attempt waits or runs: a wake-up will follow.
};

/// The identity of a source in the resolver and in its wake-ups.
std::string SourceKeyOf(const core::SourceUri& uri, const std::string& scope);

/// Resolves each distinct source once for the whole fleet and fetches each commit once. Never
/// blocks its callers: they look up and are woken. Thread safe; `workers` threads. Errors are
/// retried with exponential back-off (1 s to 5 min, full jitter), those that retrying cannot mend
/// (kInvalid, kForbidden, kUnauthorized, kNotFound) from 30 s on. Re-checks are spread by up to a
/// tenth of the interval.
class Resolver {
 public:
  struct Options {
    size_t workers = 4;  ///< 0: somebody calls RunDue (a test that decides what comes next).
    size_t max_sources = 20'000;  ///< The least recently looked up go first.
    base::Millis min_backoff{1'000};
    base::Millis max_backoff{300'000};
    base::Millis slow_backoff{30'000};  ///< First wait after an error that retrying cannot mend.
    base::Millis idle_after{900'000};   ///< A source nobody looked up for this long (and three
                                        ///< intervals) is not re-checked.
    base::Millis longest_wait{60'000};  ///< Between two looks at a clock that may be a test's.
    uint64_t jitter_seed = 0;           ///< 0: random.
  };
  /// Called from a worker after every attempt that changed the view; holds no lock; must not block.
  using Wake = std::function<void(const std::string& source_key)>;

  Resolver(std::shared_ptr<PluginSource> source, std::shared_ptr<ArtifactStore> store,
           Options options, Wake wake, const base::Clock& clock = base::SystemClock::Get());
  ~Resolver();  ///< Stops and joins the workers; running git programs are killed.

  /// What is known; starts an attempt if there was none or one is due. Never blocks on the network.
  SourceView Find(const SourceRequest& request);
  /// Forgets the back-off and re-checks now (a reconcile request). Unknown keys are ignored.
  void Refresh(const std::string& source_key);
  /// Replaces settings-dependent sources (settings were read again); everything known stays and is
  /// re-checked.
  void SetSource(std::shared_ptr<PluginSource> source);

  /// What a worker does: the attempt that is due longest, on this thread. False: none is due.
  bool RunDue(std::stop_token stop);
  /// When RunDue has something to do: now, later, or (nothing) not before a Find.
  std::optional<base::MonoTime> NextDue() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace source
