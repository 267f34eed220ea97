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
};

struct ObserveRequest {
  const api::Workspace& workspace;
  core::WorkspaceMemory memory;
  const core::Policy& policy;
};

/// Gathers the facts about a workspace: cache, heartbeat, sources, the box's state, at most one
/// probe. A failure is a field.
Observed Observe(const Dependencies& on, const ObserveRequest& request, std::stop_token stop);

}  // namespace reconcile
