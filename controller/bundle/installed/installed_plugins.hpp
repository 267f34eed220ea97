#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/file.hpp"
#include "base/result.hpp"
#include "bundle/digest_cache.hpp"
#include "bundle/installed/receipt.hpp"
#include "bundle/limits.hpp"

namespace bundle {

/// The layout of a box, relative to its `configs` folder. Ours lives beside, never inside, the
/// plugins.
inline constexpr char kPluginsFolder[] = "plugins";
inline constexpr char kOwnFolder[] = ".molecule";
inline constexpr char kTokenFile[] = ".molecule/token";  ///< The agent's token, 0600.
inline constexpr char kBootIdFile[] =
    ".molecule/boot-id";  ///< Boot id of the runtime; see RecordBoot.
inline constexpr char kAgentLockFile[] = ".molecule/agent.lock";  ///< Held by a running agent.

enum class Found { kPresent, kAbsent, kUnknown };

/// What is on the disk under one plugin's name.
struct InstalledPlugin {
  std::string name;
  Found found = Found::kUnknown;
  std::string cause;  ///< For kUnknown and kAbsent: why.
  std::optional<Receipt> receipt;
  std::string digest;  ///< Recomputed: over the receipt's files; without a receipt over the whole
                       ///< tree (less `state[]` and
                       ///< __pycache__); empty if it cannot be a plugin of ours (links inside, over
                       ///< the limits).
  std::string manifest_version;
  bool reload_none = false;
  bool mcp_merged = true;
};

struct Inventory {
  std::vector<InstalledPlugin>
      plugins;  ///< One for each name asked, in that order, then others that have our receipt.
  std::vector<Tombstone> removals;  ///< Only removals that have really happened.
};

struct StageRequest {
  std::string name;
  std::string source;
  std::string revision;
  std::string digest;    ///< sha256:...; verified.
  std::string tar_path;  ///< Canonical tar.
};

/// The plugins in one `configs` folder: what the operator does to a directory box and the agent
/// does to its own box, in one place.
///
/// ```
/// configs/plugins/<name>/              what the runtime reads
/// configs/.molecule/receipts/<name>.json
/// configs/.molecule/staging/<name>/    + <name>.json once complete and verified (a receipt without
/// a boot id) configs/.molecule/activating/<name>.json   the coming receipt; exists from before the
/// swap until the receipt is in place configs/.molecule/previous/<name>/   the tree before the last
/// activation configs/.molecule/removals/<name>.json
/// ```
/// A box without an agent has no boot-id file; then the caller's boot id counts.
/// Activation: journal -> swap -> settings -> journal becomes the receipt (rename) -> old tree to
/// previous. A crash before the swap leaves nothing changed; after it, the journal stands for the
/// receipt (same inode) and the next call finishes. All changes are made under one lock file, so
/// agent and operator never work at the same time. Every call is safe to repeat.
class InstalledPlugins {
 public:
  struct Options {
    std::string configs_path = {};  ///< Absolute path of `configs`; created on the first change.
    /// The admin's folder at or above the one that holds `configs`: links on the way from there are
    /// refused at each use, whoever puts them there meanwhile. Empty: the folder that holds it.
    std::string links_end_at = {};
    std::string settings_file =
        "settings.json";        ///< The runtime's settings, relative to `configs`.
    bool boot_install = false;  ///< The box's own agent brings them; receipts say so.
    Limits limits = {};
    bool without_exchange =
        false;  ///< Two renames instead of one swap, as where the file system cannot swap (NFS).
    base::Millis lock_deadline{
        30'000};  ///< How long to wait for the lock file: kUnavailable, reason Locked.
  };
  InstalledPlugins(Options options, std::shared_ptr<DigestCache> cache,
                   const base::Clock& clock = base::SystemClock::Get());

  /// One look at all names; changes nothing and takes no lock. kUnavailable if `configs` cannot be
  /// read; a missing `configs` has no plugins.
  base::Result<Inventory> Probe(const std::vector<std::string>& names,
                                std::stop_token stop = {}) const;
  /// Bytes into staging, verified and fsynced. Already active or staged with this digest and
  /// intact: success, nothing changes (a tree with these very bytes but without a receipt gets one
  /// that owes no restart: it was there before us). Errors: DigestMismatch, NameMismatch,
  /// ManifestInvalid/Missing, NoSpace, LinkNotAllowed, CheckTree's reasons.
  base::Status Stage(const StageRequest& request, std::stop_token stop = {});
  /// Recording: a tree that is there without a receipt and has exactly these bytes gets a receipt
  /// that owes no restart, so that what the plugin makes at run time never counts as a difference
  /// and a removal knows it as ours. Nothing visible changes. Other bytes, or a receipt: success,
  /// nothing is done. `tar_path` is not used.
  base::Status Adopt(const StageRequest& request);
  /// The agent calls it with the coming boot id before it starts the runtime. From then on Activate
  /// and Remove record this id instead of the caller's, which may be a heartbeat old: bytes that
  /// arrive after a start are never taken for loaded by that start.
  base::Status RecordBoot(const std::string& boot_id);
  /// Makes the staged tree visible. Active already and intact: success. kNotFound NotStaged if
  /// there is nothing to activate.
  base::Status Activate(const std::string& name, const std::string& boot_id);
  /// Removes what has our receipt and leaves a tombstone. Not there: success. There without a
  /// receipt: kInvalid NotOurs.
  base::Status Remove(const std::string& name, const std::string& boot_id);
  /// Forgets removals whose boot id is not `boot_id`.
  base::Status ClearRemovals(const std::string& boot_id);
  /// An empty one: there is none any more.
  base::Status WriteToken(const std::string& token);

 private:
  struct Session;
  Options options_;
  std::shared_ptr<DigestCache> cache_;
  const base::Clock& clock_;
};

/// The lock that says "an agent runs in this box". Held until destroyed or the process ends; not
/// inherited by programs it starts.
class AgentLock {
 public:
  /// kAlreadyExists with reason AgentRunning if another process holds it.
  static base::Result<AgentLock> Acquire(const std::string& configs_path);

 private:
  explicit AgentLock(base::UniqueFd fd) : fd_(std::move(fd)) {}
  base::UniqueFd fd_;
};
/// Asks without taking it. No lock file is "no". `links_end_at`: see InstalledPlugins::Options.
base::Result<bool> IsAgentRunning(const std::string& configs_path,
                                  const std::string& links_end_at = "");

}  // namespace bundle
