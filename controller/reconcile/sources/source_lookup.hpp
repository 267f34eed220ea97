#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "api/workspace.hpp"
#include "base/clock.hpp"
#include "core/declared_set.hpp"
#include "core/source_uri.hpp"
#include "kube/client.hpp"
#include "reconcile/sources/source_askers.hpp"
#include "source/resolver.hpp"

namespace reconcile {

struct SourceQuestion {
  const core::SourceUri& uri;
  std::string ns;  ///< Where the Secret is looked for.
  std::optional<api::LocalRef> secret;
  base::Seconds interval{3600};
  bool refresh = false;  ///< Somebody asked for a reconcile: try again now.
};

/// Looks sources up for the reconcilers: adds the credentials, remembers who asked, and wakes them
/// after every attempt. Thread safe.
class SourceLookup {
 public:
  /// `more`: others of its sources are on their way for the first time, and will wake it too.
  using Wake = std::function<void(const Asker&, bool more)>;
  SourceLookup(kube::Client& client, const base::Clock& clock) : client_(client), clock_(clock) {}

  /// Before the first Find: the resolver (whose wake-ups go to OnChanged) and where wake-ups go.
  void Connect(source::Resolver& resolver, Wake wake);
  core::ResolutionView Find(const SourceQuestion& question, const Asker& asker,
                            std::stop_token stop);
  /// The asker is gone.
  void Forget(const Asker& asker);
  /// For the resolver.
  void OnChanged(const std::string& source_key);

 private:
  struct CachedSecret {
    std::optional<source::Credentials> credentials;
    std::optional<base::Error> error;
    base::MonoTime read{};
  };
  void Keep(const std::string& scope, CachedSecret secret);
  base::Result<source::Credentials> ReadSecret(const std::string& ns, const std::string& name,
                                               std::stop_token stop);

  kube::Client& client_;
  const base::Clock& clock_;
  source::Resolver* resolver_ = nullptr;
  Wake wake_;
  std::mutex mutex_;
  SourceAskers askers_;                          ///< By mutex_.
  std::map<std::string, CachedSecret> secrets_;  ///< By mutex_, by ns/name; one that has not been
                                                 ///< asked for goes in two minutes.
  base::MonoTime swept_{};                       ///< By mutex_.
};

}  // namespace reconcile
