#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/declared_plugin.hpp"
#include "api/workspace.hpp"
#include "base/clock.hpp"
#include "box/box.hpp"
#include "core/policy.hpp"
#include "fleet/heartbeat_table.hpp"
#include "kube/client.hpp"
#include "reconcile/download_table.hpp"
#include "reconcile/sources/source_lookup.hpp"
#include "runtime/controller.hpp"
#include "runtime/event_recorder.hpp"
#include "runtime/informer/informer.hpp"
#include "source/artifact_store.hpp"

namespace reconcile {

/// What both reconcilers work with. Everything outlives them and is thread safe. Ports only: app/
/// decides what is behind them.
struct Dependencies {
  kube::Client& client;
  runtime::Informer<api::Workspace>& workspaces;    ///< Indexed by IndexOf(Workspace).
  runtime::Informer<api::DeclaredPlugin>& plugins;  ///< Indexed by IndexOf(DeclaredPlugin).
  fleet::HeartbeatTable& fleet;
  SourceLookup& sources;
  source::ArtifactStore& artifacts;
  runtime::EventRecorder& events;
  DownloadTable& downloads;
  std::function<base::Result<std::unique_ptr<box::Box>>(const api::Workspace&)> make_box;
  std::function<std::shared_ptr<const core::Policy>()> policy;  ///< The settings as last read.
  /// Wakes the summary of a DeclaredPlugin after that time; set by app/ once the queues exist.
  std::function<void(const meta::ObjectKey&, base::Millis)> wake_declared = nullptr;
  const base::Clock* clock = &base::SystemClock::Get();
  /// The informers hand out every object once in this time anyway, so that nothing later than that
  /// needs a timer of its own; zero: they do not.
  base::Millis resync{0};
  int slow_places = 2;  ///< Workers that boxes may share which take long to answer.
};

/// The result of a pass that wants to look again at `at`.
runtime::Requeue Until(const Dependencies& on, base::MonoTime at);

/// Index values of the caches: the namespace, so that declarations and workspaces of one namespace
/// find each other; and the Pod that a workspace adopts.
std::vector<std::string> IndexOf(const api::Workspace& workspace);
std::vector<std::string> IndexOf(const api::DeclaredPlugin& plugin);

/// Whom an adopted Pod belongs to of several that name it: `a`, or `b`? The elder; of one age the
/// first by name.
bool ComesFirst(const api::Workspace& a, const api::Workspace& b);

/// The box of a workspace. Errors beside those of make_box: kInvalid kPodTaken, where another
/// workspace comes first that names the same Pod: two would install, remove and restart in it, and
/// exchange its agent's token.
base::Result<std::unique_ptr<box::Box>> BoxOf(const Dependencies& on,
                                              const api::Workspace& workspace);
inline constexpr char kPodTaken[] = "PodTaken";

/// Whether two versions of an object declare the same: its status (a summary of its workspaces)
/// concerns no workspace's pass.
bool SameDeclaration(const api::DeclaredPlugin& before, const api::DeclaredPlugin& after);

/// Whether two versions of a workspace are the same to its DeclaredPlugins, whose status tells of
/// its spec and status: a new annotation, say, concerns none of them.
bool SameForDeclarations(const api::Workspace& before, const api::Workspace& after);

/// The DeclaredPlugins that select the workspace, by name.
std::vector<std::shared_ptr<const api::DeclaredPlugin>> DeclaredFor(
    const Dependencies& on, const api::Workspace& workspace);
/// Whom a change of a workspace or of a declaration concerns: declarations, or workspaces. Null: it
/// is new, or gone. A declaration that is being deleted selects nothing (core::Selects), but whom
/// it selected is concerned all the same.
std::vector<meta::ObjectKey> Concerned(const Dependencies& on, const api::Workspace* before,
                                       const api::Workspace* after);
std::vector<meta::ObjectKey> Concerned(const Dependencies& on, const api::DeclaredPlugin* before,
                                       const api::DeclaredPlugin* after);
/// The workspaces that a DeclaredPlugin selects, by name; `examined` counts all that were looked at
/// (SC-8).
std::vector<std::shared_ptr<const api::Workspace>> SelectedBy(const Dependencies& on,
                                                              const api::DeclaredPlugin& plugin,
                                                              size_t* examined);

}  // namespace reconcile
