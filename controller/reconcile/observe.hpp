#pragma once

#include <memory>
#include <stop_token>

#include "core/declared_set.hpp"
#include "core/observation.hpp"
#include "reconcile/dependencies.hpp"

namespace reconcile {

/// What one pass began with.
struct Observed {
  core::WorkspaceObservation observation;
  core::DeclaredSet desired;      ///< With resolutions.
  std::unique_ptr<box::Box> box;  ///< Null: this box cannot be made; `box_error` says why.
  std::optional<base::Error> box_error;
  std::optional<base::Error> provide_error;  ///< Why the box could not be made.
  base::Status ProvideStatus() const {
    return provide_error ? base::Status(*provide_error) : base::Status();
  }
  /// Why it could not be asked what is in it, where somebody has to mend that (no space for the
  /// helper).
  std::optional<base::Error> probe_error;
  base::Status ProbeStatus() const {
    return probe_error ? base::Status(*probe_error) : base::Status();
  }
  bool end_waits = false;  ///< The box is to be made anew once its agent is idle.
  /// Something new is declared whose source is being looked up for the first time.
  bool awaits_sources = false;
};

struct ObserveRequest {
  const api::Workspace& workspace;
  core::WorkspaceMemory memory;
  const core::Policy& policy;
  /// Nothing is asked of the box while sources are awaited: it would have to be asked again.
  bool may_wait = false;
};

/// Gathers the facts about a workspace: cache, heartbeat, sources, the box's state, at most one
/// probe. A failure is a field.
Observed Observe(const Dependencies& on, const ObserveRequest& request, std::stop_token stop);

}  // namespace reconcile
