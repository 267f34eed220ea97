#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/workspace.hpp"
#include "core/declared_set.hpp"
#include "core/gate.hpp"
#include "core/observation.hpp"
#include "core/policy.hpp"
#include "core/requeue.hpp"

namespace core {

enum class StepKind {
  kFetch,    ///< Bring the bytes of `source` at `revision` into the artifact store. Changes no box;
             ///< may go on in the background.
  kRecord,   ///< Write a tracking row for what is already there; Box::Adopt gives its bytes
             ///< (`digest`) a receipt that owes no restart.
  kDeliver,  ///< Stage `digest` in the box. All of them are one Box::Deliver. Nothing visible
             ///< changes.
  kActivate,        ///< Swap the staged tree in. All of them are one Box::Activate with `boot_id`.
  kRemove,          ///< All of them are one Box::Remove with `boot_id`.
  kForgetRemovals,  ///< Box::ClearRemovals(boot_id): tombstones that a start has settled.
  kRestart,         ///< Box::Restart(boot_id), at most one, last. Run only if RestartStillOwed.
};

/// `Deliver`, ...: for logs and Events.
const char* StepName(StepKind kind);

/// One thing to do; the order in the plan is the order of execution.
struct Step {
  StepKind kind = StepKind::kRecord;
  std::string plugin;  ///< Empty for kForgetRemovals and kRestart.
  std::string source;
  std::string revision;
  std::string digest;
  std::string boot_id;  ///< Current boot: written into receipts and tombstones; the one expected by
                        ///< kRestart.
  std::vector<std::string>
      needs;  ///< Plugins whose step of the same kind must not have failed (dependencies).
  bool owed_already = false;  ///< kRestart: owed whatever becomes of the other steps.
};

/// What the table of behaviour.md section 4 says for one plugin.
enum class RowAction {
  kKeep,  ///< As wanted, or not ours to change.
  kRecord,
  kFetch,
  kDeliver,  ///< Deliver and activate (or only activate, if staged).
  kDefer,    ///< Staged or not, its activation or removal waits (idle, request, cool-down, boot,
             ///< back-off).
  kWait,     ///< Not known enough: Unknown.
  kRemove,
  kDrop,     ///< The row goes; nothing is done in the box.
  kBlocked,  ///< Nothing can be done until somebody changes something.
  kPull,     ///< The box fetches it by itself (External).
};

/// How far a plugin is, in the order of how bad it is.
enum class RowHealth { kConverged, kPending, kFailing, kStalled };

/// Bytes of a plugin, and where they come from.
struct Revision {
  std::string source;
  std::string commit;
  std::string digest;
};

struct RowDecision {
  std::string name;
  RowAction action = RowAction::kKeep;
  RowHealth health = RowHealth::kPending;
  api::PluginRow row;  ///< As it stands if no step runs.
  bool management = false;
  bool reload_none = false;  ///< What is delivered needs no restart.
  bool safety_net = false;   ///< Delivered although the probe is Unknown: no restart is planned for
                             ///< it before a probe has answered.
  std::string mends;  ///< The found digest that this delivery mends; empty: it is no mending.
  bool request_waits = false;  ///< A request counts once it is known what the source has.
  /// The bytes that belong on the box, by its update policy too: what the box's own agent may
  /// install. Nothing: not known yet, or none do.
  std::optional<Revision> wanted = {};
};

struct PluginPlan {
  std::vector<Step> steps;
  std::vector<RowDecision> rows;
  std::vector<RejectedDeclaration> rejected;
  std::vector<std::string> conflicts;
  /// To be written (compare-and-swap) before the first step that changes the box; see IntentStatus.
  std::optional<api::PendingRestart> pending_restart;
  std::optional<api::RecoveryStatus> recovery;
  bool recovery_attempt = false;  ///< This plan is one: its stamp is in `recovery`.
  bool recovery_stalled = false;
  std::string recovery_reason;  ///< Why no attempt is made now, while one is due; empty otherwise.
  std::string recovery_message;
  bool restart_waits =
      false;  ///< A debt exists and its restart is not in this plan; reason and message say why.
  std::string restart_reason;
  std::string restart_message;
  std::string handled_reconcile_at;  ///< The annotation's value that this pass answers.
  bool probe_again = false;          ///< Probe (really) at the next pass.
  bool inventory_untrusted = false;
  RetryRule retry;
  base::MonoTime next_check{};  ///< Always later than now.

  /// True if a step changes what is visible in the box (activate, remove, restart).
  bool ChangesBox() const;
};

/// The result of one step, in the order of the plan's steps; a step that was not run has ran =
/// false.
struct StepOutcome {
  bool ran = false;
  std::optional<base::Error> error = {};
  bool needless = false;  ///< The box had done it already: no one was asked for anything.
};
struct Outcome {
  std::vector<StepOutcome> steps;           ///< Parallel to plan.steps; missing ones were not run.
  std::optional<base::Error> intent_error;  ///< Writing the intent failed: nothing was run.
  bool Ran(size_t index) const;
  bool Succeeded(size_t index) const;
};

/// Pure and total. Suspended and terminating workspaces get no steps and keep their rows.
PluginPlan PlanPlugins(const DeclaredSet& desired, const WorkspaceObservation& observed,
                       const Policy& policy, base::Now now);

/// True if the box must be asked now; else ProbeFromInventory stands for it (never for a Platform,
/// an untrusted inventory, or every policy.probe_every-th pass). `observed.probe` is not looked at.
/// Always false for External boxes.
bool ProbeNeeded(const DeclaredSet& desired, const WorkspaceObservation& observed,
                 const Policy& policy);

/// The status to write before acting: `last` with the plan's pendingRestart and recovery. Equal to
/// `last`: no write is needed.
api::WorkspaceStatus IntentStatus(const api::WorkspaceStatus& last, const PluginPlan& plan);

/// Whether to run step `index` given the outcomes so far: a dependency's failure (or its
/// delivery's) skips it, nothing else does; a restart runs only if it was owed already or an
/// activation or removal of this plan succeeded.
bool ShouldRun(const PluginPlan& plan, const Outcome& outcome, size_t index);

/// What the process remembers after a pass. Call it after every pass, also one that did nothing.
WorkspaceMemory Remember(const DeclaredSet& desired, const WorkspaceObservation& observed,
                         const PluginPlan& plan, const Outcome& outcome, const Policy& policy,
                         base::Now now);

/// What deleting a workspace still has to do in its box.
struct CleanupPlan {
  std::vector<std::string>
      remove;            ///< One Box::Remove with these names (rows with deletionPolicy Remove).
  bool release = false;  ///< Take the finalizer off now.
  std::string warning;   ///< Not empty with release: say it in a Warning event (something may be
                         ///< left behind).
  base::MonoTime next_check{};
};
struct CleanupFacts {
  bool namespace_terminating = false;
  bool box_gone = false;  ///< The box itself does not exist now. One that is about to be replaced
                          ///< (its volume stays) is waited for as long as in a namespace that ends.
  bool removed = false;   ///< A Remove of everything has succeeded.
  /// When this process first tried: bounds the wait whatever the wall clock does. Until then no
  /// deadline counts: nobody may have been there for that long, or a clock is ahead.
  std::optional<base::MonoTime> first_tried = {};
};
CleanupPlan PlanCleanup(const api::Workspace& workspace, const CleanupFacts& facts,
                        const Policy& policy, base::Now now);

}  // namespace core
