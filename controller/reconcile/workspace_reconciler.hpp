#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "core/observation.hpp"
#include "core/plan/plugin_plan.hpp"
#include "core/workspace_state.hpp"
#include "reconcile/dependencies.hpp"
#include "reconcile/ending_namespaces.hpp"
#include "reconcile/instance_tokens.hpp"
#include "reconcile/observe.hpp"
#include "reconcile/slow_boxes.hpp"
#include "reconcile/status_contests.hpp"
#include "runtime/controller.hpp"

namespace reconcile {

/// One pass over a workspace: observe -> decide -> act -> summarise -> one write (walks.md walk 3).
/// Level-triggered: it never asks why it was woken. Runs on several threads, one key at a time.
class WorkspaceReconciler final : public runtime::Reconciler {
 public:
  explicit WorkspaceReconciler(Dependencies on)
      : on_(std::move(on)), tokens_(on_), slow_(on_.slow_places, base::Seconds{5}, *on_.clock) {}
  base::Result<runtime::Requeue> Reconcile(const meta::ObjectKey& key,
                                           std::stop_token stop) override;

 private:
  struct Pass;
  base::Result<runtime::Requeue> Forget(const meta::ObjectKey& key);
  void ForgetUid(const std::string& uid);
  base::Result<runtime::Requeue> Converge(const api::Workspace& workspace, SlowBoxes::Turn& turn,
                                          std::stop_token stop);
  base::Result<runtime::Requeue> Delete(const api::Workspace& workspace, SlowBoxes::Turn& turn,
                                        std::stop_token stop);
  std::string TakeBack(const api::Workspace& workspace, SlowBoxes::Turn& turn,
                       std::stop_token stop);
  base::Status AddFinalizer(const api::Workspace& workspace, std::stop_token stop);
  base::Status RemoveFinalizer(const api::Workspace& workspace, std::stop_token stop);
  base::Status WriteTerminating(const api::Workspace& workspace, const core::Policy& policy,
                                std::stop_token stop);
  core::Outcome Act(Pass& pass, const core::WorkspaceDecision& decision, SlowBoxes::Turn& turn,
                    std::stop_token stop);
  base::Error Shown(const api::Workspace& workspace, base::Error error) const;
  void WarnOfAnother(const api::Workspace& workspace) const;
  void Publish(const Pass& pass, const core::WorkspaceDecision& decision);
  void NoteWrite(const std::string& uid, const base::Error& error);
  base::Status CatchUp(const meta::ObjectKey& key, std::stop_token stop);
  core::WorkspaceMemory Recall(const std::string& uid);
  base::Millis MayAwaitSources(const std::string& uid);
  void NoteAwaited(const std::string& uid, bool awaits);

  const Dependencies on_;
  InstanceTokens tokens_;
  SlowBoxes slow_;
  StatusContests contests_;
  EndingNamespaces ending_;
  std::mutex mutex_;
  std::map<std::string, core::WorkspaceMemory> memory_;  ///< By uid.
  std::map<std::string, base::MonoTime>
      deleting_since_;  ///< By uid: when this process first tried to clean up.
  std::map<std::string, base::MonoTime> awaiting_;  ///< By uid: sources of new plugins, since.
  std::set<std::string> unsure_;  ///< Uids whose last status write was not answered, or refused.
  std::map<meta::ObjectKey, std::string>
      uids_;  ///< Last seen uid of a key, to forget it when it is gone.
};

}  // namespace reconcile
