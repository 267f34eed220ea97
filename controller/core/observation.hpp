#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/workspace.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"

/// What is known when a workspace is decided on: facts only, as plain values. A failure to learn
/// something is a field, never an exception. Everything here is filled by reconcile/ (observe);
/// nothing here is written to the API as it stands.
namespace core {

/// Stopped is definitive, Unknown is transient and has a cause (SC-5).
enum class BoxState { kRunning, kStopped, kUnknown };
enum class Presence { kPresent, kAbsent, kUnknown };

/// The box as its adapter reports it. External boxes: kUnknown, identity of the registration.
struct BoxView {
  BoxState state = BoxState::kUnknown;
  std::string cause;        ///< Why Stopped or Unknown.
  std::string identity;     ///< Empty: not known (then the last written one stands).
  std::string reason = {};  ///< Stable word for the cause; may be empty.
  /// Boot id that the adapter itself can tell where no agent reports one; write it as "box:<id>" so
  /// that it is never compared with an agent's. Usually empty.
  std::string boot_id = {};
  std::optional<base::Millis> look_again = {};  ///< After this long it is to be looked at again.
  std::string reports_refused = {};  ///< Why nothing that its agent reports can be taken now.
  /// There is none, nor will there be before the spec or the operator's settings change.
  bool needs_mending = false;
};

struct InventoryItem {
  std::string name;
  std::string revision;
  std::string digest;
  bool loaded = false;
  std::optional<bool> activated_this_boot = {};  ///< Absent: its agent does not say.
  bool operator==(const InventoryItem&) const = default;
};

/// The last heartbeat in memory. All but boot_id, sequence and received are optional in the wire
/// format.
struct HeartbeatView {
  bool has_report = false;   ///< False: no heartbeat since this process started.
  std::string box_identity;  ///< Which box it came from; empty: the current one.
  std::string boot_id;
  int64_t sequence = 0;
  base::MonoTime received{};
  base::WallTime received_wall{};
  std::string agent_version;
  std::optional<int32_t> active_tasks;  ///< Absent counts as busy.
  std::string current_task;
  std::optional<double> error_rate;
  std::string sample_error;
  std::string monthly_spend;  ///< Decimal text.
  std::optional<bool> management_present;
  std::optional<bool> model_present;
  std::vector<std::string> loaded_tools;
  std::optional<api::BootInstallStatus> boot_install;  ///< state: Running, Done, Failed.
  std::optional<std::vector<InventoryItem>> inventory;
  std::string inventory_digest;
};

/// What a probe found of one plugin; the same meaning as box::PluginProbe.
struct PluginView {
  std::string name;
  Presence presence = Presence::kUnknown;
  std::string cause;
  bool has_receipt = false;
  std::string revision;
  std::string digest;  ///< Of the bytes now on the box. Empty: not known.
  std::string
      receipt_digest;  ///< As activated. Differs from digest: a listed file was changed in the box.
  std::string activated_boot_id;
  bool reload_none = false;
  bool mcp_merged = true;
  bool boot_installed = false;
  bool came_after_start = false;  ///< An inventory says so itself, of what is not loaded.
};

struct RemovalView {
  std::string name;
  std::string removed_boot_id;
};

/// One probe of the box for all names, or its absence.
struct ProbeView {
  bool made = false;  ///< False: no probe this time (skipped, or the box cannot be asked): every
                      ///< name is Unknown.
  bool from_inventory = false;  ///< Made by ProbeFromInventory: a claim, never gate evidence.
  std::string cause;            ///< Why it failed, when !made;
  bool slow = false;            ///< and asking again alone will not mend it.
  base::MonoTime taken{};
  std::vector<PluginView> plugins;  ///< Those asked for, and others that have our receipt.
  std::vector<RemovalView> removals;
  bool plugins_path_persistent = true;
};

/// The operator's own look at the management plugin.
struct GateEvidence {
  Presence presence = Presence::kUnknown;
  std::string digest;
  std::string cause;
  base::MonoTime taken{};
};

/// A retry after failures: how many, and when next.
struct Retry {
  int32_t attempts = 0;
  base::MonoTime at{};
  bool slow = false;  ///< Retrying alone will not mend it.
};

/// A recovery attempt of which nothing was done, because nobody has said that its stamp is written.
struct UnheardRecovery {
  api::RecoveryStatus sent;
  std::optional<api::RecoveryStatus> before;  ///< What stands if it was written all the same.
};

/// One report of an agent.
struct ReportMark {
  std::string boot_id;
  int64_t sequence = 0;
};

/// What one process remembers of a workspace between passes. Losing it (restart, new leader) is
/// safe: stamps in status take over, or something harmless is done once more. Made by Remember();
/// start with a default one.
struct WorkspaceMemory {
  std::map<std::string, int>
      unknown_streak;  ///< Consecutive Unknown probes of a plugin on a Running box.
  int passes_since_probe = 0;
  std::optional<base::MonoTime> unknown_since;  ///< The first of the passes in a row that could not
                                                ///< tell what is in the box.
  std::string verified_key;  ///< Boot, inventory digest and declared set that a probe has
                             ///< confirmed; see ProbeNeeded.
  std::optional<GateEvidence> gate;
  std::string untrusted_boot_id;              ///< The boot whose inventory a probe has refuted.
  std::map<std::string, std::string> staged;  ///< Plugin to digest that waits in the box's staging.
  std::map<std::string, std::string> mended;  ///< Plugin to found digest that was mended once.
  std::map<std::string, Retry> retries;       ///< By plugin.
  std::optional<Retry> restart_retry;
  std::string restart_asked_boot_id;              ///< The boot that we asked to end,
  base::MonoTime restart_asked_at{};              ///< when,
  int32_t restarts_asked = 0;                     ///< and how often.
  std::optional<base::MonoTime> recovery_at;      ///< Last recovery attempt of this process.
  std::vector<UnheardRecovery> recovery_unheard;  ///< Since then.
  std::string boot_id;                            ///< Last boot seen, and since when.
  base::MonoTime boot_seen_at{};
  std::string box_identity;
  base::MonoTime changed_at{};                 ///< When we last changed what is visible in the box.
  std::optional<base::MonoTime> box_seen_at;   ///< When this process first saw this box,
  std::optional<base::MonoTime> debt_seen_at;  ///< and a debt of this epoch: bounds of deadlines
                                               ///< whatever the wall clock does.
  int64_t debt_epoch = 0;
  bool probe_again = false;     ///< The last pass wants a real probe at the next one.
  std::string former_identity;  ///< The box that was there before this one,
  std::string former_boot_id;   ///< and its last known boot.
  std::optional<base::MonoTime> unreported_since;  ///< Of the first of the boxes in a row of which
                                                   ///< none has ever reported.
  int64_t generation = 0;                          ///< The workspace's, at the last pass.
  /// External boxes: the last report before this process first saw that a plugin is no longer
  /// declared, by plugin.
  std::map<std::string, ReportMark> undeclared;
};

/// Everything observed about one workspace.
struct WorkspaceObservation {
  api::Workspace workspace;  ///< Metadata, spec and the status as last written.
  HeartbeatView heartbeat;
  BoxView box;
  ProbeView probe;
  WorkspaceMemory memory;
  base::Now
      takeover{};  ///< When this process started to act (start or leader change), on both clocks.
  std::string token_trouble = {};  ///< Why the agent's token could not be made or given.
};

/// True if the heartbeat in memory comes from the box that the workspace has now.
bool HeartbeatIsOfThisBox(const WorkspaceObservation& observation);
/// HeartbeatIsOfThisBox and not older than spec.heartbeat.timeoutSeconds.
bool HeartbeatIsFresh(const WorkspaceObservation& observation, base::Now now);
/// True if an agent of this box has ever reported, in this process or according to the last written
/// status.
bool HasReported(const WorkspaceObservation& observation);
/// The last boot known of the box before this one; empty: none is known.
std::string FormerBootId(const WorkspaceObservation& observation);
/// True if the heartbeat in memory came before this box was there. An agent that does not say which
/// container it runs in is told from its predecessor by this alone.
bool IsLastWordOfFormerBox(const WorkspaceObservation& observation);
/// True if the workspace's spec is another one than at the last pass: somebody may have mended what
/// retrying alone could not.
bool SpecChanged(const WorkspaceObservation& observation);
/// The boot id of the current start of the runtime: the agent's, else the box adapter's, else empty
/// (not known).
std::string CurrentBootId(const WorkspaceObservation& observation);
/// The identity of the current box: observed, else last written.
std::string CurrentIdentity(const WorkspaceObservation& observation);
/// When the provisioning deadline passes; never before one heartbeat timeout after the take-over.
/// Boxes that come and go without ever reporting share one.
base::MonoTime ProvisioningDeadline(const WorkspaceObservation& observation, base::Now now);
/// What the probe says of a plugin; Unknown with a cause when it says nothing.
PluginView FindPlugin(const ProbeView& probe, const std::string& name);
/// A probe's answer taken from a heartbeat's inventory (External boxes; or where ProbeNeeded says
/// no). Names not listed are Absent. Not `made` without an inventory.
ProbeView ProbeFromInventory(const HeartbeatView& heartbeat, const std::vector<std::string>& names);

}  // namespace core
