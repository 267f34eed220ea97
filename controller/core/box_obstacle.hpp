#pragma once

#include <optional>
#include <string>

#include "core/observation.hpp"
#include "core/policy.hpp"

namespace core {

/// Why the box is left alone for now, whatever it lacks.
struct Obstacle {
  std::string reason;  ///< BoxStopped, AwaitingBootReport, BootInstallRunning or Restarting.
  std::string message;
  std::optional<base::MonoTime> until;  ///< When it ends by itself.
};

/// A box that boots is left alone; so is one that may be on its way through a restart of ours.
std::optional<Obstacle> BoxObstacle(const WorkspaceObservation& observation, const Policy& policy,
                                    base::Now now);

}  // namespace core
