#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace box {

enum class BoxState { kRunning, kStopped, kUnknown };
enum class Presence { kPresent, kAbsent, kUnknown };

/// Whether a box that runs may be ended, and made anew.
struct EndPermit {
  bool granted = true;
  std::string message = {};               ///< What it waits for, else.
  std::optional<base::Millis> wait = {};  ///< It ends by itself after this long.
};
/// By spec.restart.policy, for a change that was noticed at that time.
using MayEnd = std::function<EndPermit(base::WallTime since)>;

/// Reason of a kConflict: the box has started since, so the restart is not owed any more.
inline constexpr char kBootChanged[] = "BootChanged";

/// What was done to a box of which a person would want to know: an Event of its Workspace.
struct BoxNote {
  std::string reason;  ///< CamelCase, stable.
  std::string message;
};

/// The one answer to "is it running?" (SC-5). Stopped is definitive; Unknown is transient and says
/// why.
struct StateReport {
  BoxState state = BoxState::kUnknown;
  std::string cause;     ///< Why Stopped or Unknown.
  std::string identity;  ///< Which box this is (container id, Pod UID, device:inode ...); empty
                         ///< when not known.
  /// "box:<id>" of one start, where nobody in the box reports one; usually empty.
  std::string boot_id = {};
  std::string reason = {};  ///< Stable CamelCase word for the cause, e.g. ImagePullBackOff; may be
                            ///< empty.
  /// False: what is written to the plugins path dies with the box's container, so nothing is.
  bool plugins_path_persistent = true;
  /// How long this stands while nobody would tell us that it no longer does; none: we are told.
  std::optional<base::Millis> look_again = {};
  std::vector<BoxNote> notes = {};   ///< Of this pass' Provide.
  std::string reports_refused = {};  ///< Why nothing that its agent reports can be taken now.
};

/// What the probe found of one plugin.
struct PluginProbe {
  std::string name;
  Presence presence = Presence::kUnknown;
  std::string cause;  ///< For Unknown.
  bool has_receipt = false;
  std::string revision;  ///< From the receipt.
  std::string digest;    ///< Of the bytes now on the box over the receipt's files (recomputed).
                         ///< Without a receipt: of the whole tree.
  std::string receipt_digest;  ///< What the receipt says was activated. Differs from `digest` when
                               ///< a listed file was changed: Drifted.
  std::string activated_boot_id;  ///< Boot id current when its bytes were activated.
  bool reload_none = false;       ///< The manifest says `reload: none`: no restart is owed for it.
  bool mcp_merged = true;  ///< Its mcpServers are in the runtime's settings as its manifest says.
  bool boot_installed = false;  ///< The receipt says that the box's own agent brought it.
  std::optional<base::WallTime> activated_time = {};  ///< By the box's clock, where it is told.
};

/// A removal whose old code may still be loaded.
struct UnloadedRemoval {
  std::string name;
  std::string removed_boot_id;
  std::optional<base::WallTime> removed_time = {};  ///< By the box's clock, where it is told.
};

struct ProbeReport {
  std::vector<PluginProbe>
      plugins;  ///< One for each name asked, in that order, then others that have our receipt.
  std::vector<UnloadedRemoval> removals;  ///< Tombstones in the box.
};

/// One plugin to deliver: a canonical tar in the artifact store.
struct Delivery {
  std::string name;
  std::string revision;
  std::string digest;  ///< sha256:... of the tar; verified in the box before it is activated.
  std::string source;
  std::string tar_path;  ///< Local file that holds the tar.
};

struct ActivateRequest {
  std::vector<std::string> names;
  std::string boot_id;  ///< Recorded in each receipt.
};

struct StepResult {
  std::string name;
  base::Status status;
};

/// A workspace's box. All calls are idempotent, bounded in time, and safe to repeat after a crash
/// at any point. Errors everywhere: kUnavailable or kTimeout (transient, with the cause), kInvalid
/// (cannot work: reason names it), kCancelled.
class Box {
 public:
  virtual ~Box() = default;
  /// Makes what this box is made of, where that is ours to make (a managed Pod); else nothing.
  /// Returns before it runs. A box that runs is ended for a change of its spec only when `may_end`
  /// says so (null: at once).
  virtual base::Status Provide(const MayEnd& may_end, std::stop_token stop) {
    (void)may_end, (void)stop;
    return {};
  }
  base::Status Provide(std::stop_token stop) { return Provide(nullptr, std::move(stop)); }
  virtual StateReport State(std::stop_token stop) = 0;
  /// All names in one call. A failure of the whole call is an Error: the caller treats every name
  /// as Unknown. What of `record` is there without a receipt and has exactly those bytes gets one
  /// first, as by Adopt (and shows it): a fleet that brings its plugins along is taken over with
  /// one call a box.
  virtual base::Result<ProbeReport> Probe(const std::vector<std::string>& names,
                                          const std::vector<Delivery>& record,
                                          std::stop_token stop) = 0;
  /// Everything missing in one stream: bytes into staging, verified. Nothing visible changes.
  /// Per-plugin results; one bad plugin does not stop the others.
  virtual base::Result<std::vector<StepResult>> Deliver(const std::vector<Delivery>& deliveries,
                                                        std::stop_token stop) = 0;
  /// Recording: trees that are there without our receipt and have exactly these bytes get one that
  /// owes no restart. No bytes of the plugin move, nothing visible changes; other bytes are left
  /// alone.
  virtual base::Result<std::vector<StepResult>> Adopt(const std::vector<Delivery>& present,
                                                      std::stop_token stop) = 0;
  /// Atomic swap of staged trees, receipt last, previous tree kept (and restored if it fails).
  /// Already active with the same digest: success, nothing changes.
  virtual base::Result<std::vector<StepResult>> Activate(const ActivateRequest& request,
                                                         std::stop_token stop) = 0;
  /// Removes plugins that have our receipt, leaving a tombstone with `boot_id`. Not there: success.
  virtual base::Result<std::vector<StepResult>> Remove(const std::vector<std::string>& names,
                                                       const std::string& boot_id,
                                                       std::stop_token stop) = 0;
  /// Forgets tombstones whose boot id is not `boot_id` (a start has happened since).
  virtual base::Status ClearRemovals(const std::string& boot_id, std::stop_token stop) = 0;
  /// A new boot id, by the lightest act. Does nothing when the boot is already another one; where
  /// that is known only by who passes the request on to the agent, kConflict kBootChanged.
  /// kInvalid RestartUnsupported if it cannot. Pull boxes: asks for it in the next heartbeat's
  /// answer, and returns at once.
  virtual base::Status Restart(const std::string& expected_boot_id, std::stop_token stop) = 0;
  /// Writes the instance token (0600) where the agent reads it; a no-op where the box already has
  /// this very token. An empty one takes the token away, and with it the helper that was brought.
  virtual base::Status WriteToken(const std::string& token, std::stop_token stop) = 0;
};

}  // namespace box
