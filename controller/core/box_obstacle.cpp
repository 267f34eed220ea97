#include "core/box_obstacle.hpp"

#include "core/reasons.hpp"
#include "core/restart_debt.hpp"

namespace core {
namespace {

std::optional<Obstacle> Booting(const WorkspaceObservation& o, base::Now now) {
  const base::MonoTime deadline = ProvisioningDeadline(o, now);
  if (!HeartbeatIsOfThisBox(o)) {
    if (now.mono >= deadline) return std::nullopt;
    return Obstacle{reason::kAwaitingBootReport,
                    "the box has not reported since its start; it installs its plugins itself",
                    deadline};
  }
  if (!o.heartbeat.boot_install || o.heartbeat.boot_install->state != "Running")
    return std::nullopt;
  const bool known = o.memory.boot_id == o.heartbeat.boot_id;
  const base::MonoTime until = (known ? o.memory.boot_seen_at : now.mono) +
                               base::Seconds(o.workspace.spec.provisioning.deadline_seconds);
  if (now.mono >= until) return std::nullopt;
  return Obstacle{reason::kBootInstallRunning, "the box is installing its plugins itself", until};
}

}  // namespace

std::optional<Obstacle> BoxObstacle(const WorkspaceObservation& o, const Policy& policy,
                                    base::Now now) {
  const bool external = o.workspace.spec.box.type == api::BoxType::kExternal;
  if (o.box.state == BoxState::kStopped && !external)
    return Obstacle{reason::kBoxStopped, "the box is stopped", std::nullopt};
  if (auto booting = Booting(o, now)) return booting;
  if (const auto until = RestartInFlight(o, policy, now))
    return Obstacle{reason::kRestarting,
                    "a restart was asked for; waiting for the new start to report", until};
  return std::nullopt;
}

}  // namespace core
