#pragma once

#include <string>
#include <vector>

#include "base/clock.hpp"

namespace core {

/// A plugin that only Platform workspaces may have. Only this list decides what is privileged; a
/// plugin's own claim never does.
struct PrivilegedPlugin {
  std::string name;
  std::string source;                        ///< The exact URI.
  std::vector<std::string> allowed_digests;  ///< sha256:...; empty allows none (fail closed).
  bool management =
      false;  ///< The management plugin: every Platform workspace declares it implicitly.
  std::vector<std::string>
      tools;  ///< Tools that must be loaded; empty: at least one that bears the plugin's name.
};

/// Operator settings that decisions depend on. Defaults are those of behaviour.md.
struct Policy {
  double degraded_at = 0.5;      ///< Error rate at or over which a workspace is Degraded,
  double recovered_below = 0.3;  ///< and below which it recovers.
  base::Millis recovery_cooldown = base::Seconds(300);
  int recovery_stall_after =
      3;  ///< Restarts that did not load the management tools before Stalled,
  int stalled_cooldown_factor = 12;  ///< then one attempt in this many cool-downs.
  base::Millis resync = base::Seconds(300);
  double resync_jitter = 0.1;  ///< Fraction added at most, by seed.
  base::Millis backoff_base = base::Seconds(1);
  base::Millis backoff_max = base::Seconds(300);
  base::Millis slow_retry = base::Seconds(3600);   ///< For errors that retrying cannot mend.
  base::Millis restart_wait = base::Seconds(120);  ///< How long an asked restart may take before it
                                                   ///< is asked again (doubling to slow_retry).
  base::Millis gather = base::Seconds(2);  ///< A new debt waits this long for what else comes, so
                                           ///< that one restart loads it all,
  base::Millis gather_limit = base::Seconds(10);  ///< and this long while a declared source is
                                                  ///< still on its way.
  int unknown_limit = 3;      ///< Unknown probes in a row before the safety-net delivery.
  int probe_every = 12;       ///< Every how many passes an inventory may not stand for a probe.
  int evidence_timeouts = 3;  ///< Age limit of gate evidence, in heartbeat timeouts.
  base::Millis deletion_deadline = base::Seconds(600);
  base::Millis deletion_deadline_terminating_ns = base::Seconds(30);
  bool allow_unpinned = false;  ///< Sources without a ref.
  std::string gitea_base_url;   ///< What gitea:// and github:// stand for: the same repository
  std::string github_base_url = "https://github.com";  ///< under its own address is no other.
  std::vector<PrivilegedPlugin> privileged;

  /// The entry marked `management`, or null.
  const PrivilegedPlugin* Management() const {
    for (const PrivilegedPlugin& p : privileged)
      if (p.management) return &p;
    return nullptr;
  }
};

}  // namespace core
