#include "core/observation.hpp"

#include <algorithm>

namespace core {

std::string CurrentIdentity(const WorkspaceObservation& observation) {
  if (!observation.box.identity.empty()) return observation.box.identity;
  const auto& last = observation.workspace.status.box;
  return last ? last->identity : std::string();
}

bool HeartbeatIsOfThisBox(const WorkspaceObservation& observation) {
  const HeartbeatView& hb = observation.heartbeat;
  if (!hb.has_report) return false;
  const std::string identity = CurrentIdentity(observation);
  return hb.box_identity.empty() || identity.empty() || hb.box_identity == identity;
}

bool HeartbeatIsFresh(const WorkspaceObservation& observation, base::Now now) {
  const base::Seconds timeout(observation.workspace.spec.heartbeat.timeout_seconds);
  return HeartbeatIsOfThisBox(observation) && now.mono - observation.heartbeat.received <= timeout;
}

bool HasReported(const WorkspaceObservation& observation) {
  if (HeartbeatIsOfThisBox(observation)) return true;
  const api::WorkspaceStatus& last = observation.workspace.status;
  if (!last.agent || last.agent->boot_id.empty()) return false;
  return !last.box || last.box->identity == CurrentIdentity(observation);
}

std::string CurrentBootId(const WorkspaceObservation& observation) {
  if (HeartbeatIsOfThisBox(observation)) return observation.heartbeat.boot_id;
  if (!observation.box.boot_id.empty()) return observation.box.boot_id;
  if (HasReported(observation)) return observation.workspace.status.agent->boot_id;
  return "";
}

std::string FormerBootId(const WorkspaceObservation& observation) {
  const WorkspaceMemory& memory = observation.memory;
  const std::string identity = CurrentIdentity(observation);
  // The same, or the same known better: a Pod whose container has got its id.
  const auto same = [&](const std::string& before) { return identity.starts_with(before); };
  if (!memory.box_identity.empty()) {
    if (same(memory.box_identity)) return memory.former_boot_id;
    if (identity == memory.former_identity) return "";  // It is back.
    return memory.boot_id.empty() ? memory.former_boot_id : memory.boot_id;
  }
  const api::WorkspaceStatus& last = observation.workspace.status;
  return last.box && last.agent && !same(last.box->identity) ? last.agent->boot_id : "";
}

bool IsLastWordOfFormerBox(const WorkspaceObservation& observation) {
  const HeartbeatView& hb = observation.heartbeat;
  const WorkspaceMemory& memory = observation.memory;
  if (!hb.has_report || hb.boot_id != FormerBootId(observation)) return false;
  // What came after this box was seen cannot be another one's: then the boot was this one's, and
  // only heard of before its box was seen.
  const bool seen = memory.box_identity == CurrentIdentity(observation) && memory.box_seen_at;
  return !seen || hb.received < *memory.box_seen_at;
}

bool SpecChanged(const WorkspaceObservation& observation) {
  return observation.memory.generation != 0 &&
         observation.memory.generation != observation.workspace.meta.generation;
}

base::MonoTime ProvisioningDeadline(const WorkspaceObservation& observation, base::Now now) {
  const api::Workspace& w = observation.workspace;
  const base::Millis allowed = base::Seconds(w.spec.provisioning.deadline_seconds);
  base::WallTime start = w.meta.creation_time.value_or(now.wall);
  if (w.status.box && w.status.box->observed_time)
    start = std::max(start, *w.status.box->observed_time);
  // Also the first one, which may have been asked for in vain for long.
  const bool new_box = !observation.box.identity.empty() &&
                       (!w.status.box || w.status.box->identity != observation.box.identity);
  if (new_box) start = now.wall;
  // A start in the future (a clock that went back) waits once, not for years.
  const base::Millis left = std::min(start + allowed - now.wall, allowed);
  const base::MonoTime grace =
      observation.takeover.mono + base::Seconds(w.spec.heartbeat.timeout_seconds);
  base::MonoTime deadline = now.mono + left;
  if (observation.memory.box_seen_at &&
      observation.memory.box_identity == CurrentIdentity(observation))
    deadline = std::min(deadline, *observation.memory.box_seen_at + allowed);
  if (observation.memory.unreported_since)
    deadline = std::min(deadline, *observation.memory.unreported_since + allowed);
  return std::max(deadline, grace);
}

PluginView FindPlugin(const ProbeView& probe, const std::string& name) {
  PluginView unknown;
  unknown.name = name;
  unknown.cause = probe.cause.empty() ? "the box was not asked" : probe.cause;
  if (!probe.made) return unknown;
  for (const PluginView& plugin : probe.plugins)
    if (plugin.name == name) return plugin;
  unknown.cause = "the probe did not say";
  return unknown;
}

ProbeView ProbeFromInventory(const HeartbeatView& heartbeat,
                             const std::vector<std::string>& names) {
  ProbeView probe;
  probe.from_inventory = true;
  probe.taken = heartbeat.received;
  if (!heartbeat.has_report || !heartbeat.inventory) {
    probe.cause = "the agent has sent no inventory yet";
    return probe;
  }
  probe.made = true;
  for (const InventoryItem& item : *heartbeat.inventory) {
    PluginView view;
    view.name = item.name;
    view.presence = Presence::kPresent;
    // What we neither declare nor track and that has no revision is somebody else's folder: it owes
    // no restart.
    view.has_receipt =
        !item.revision.empty() || std::find(names.begin(), names.end(), item.name) != names.end();
    view.revision = item.revision;
    view.digest = item.digest;
    view.receipt_digest = item.digest;
    // Only "this boot or an earlier one" is known; no boot id has this form. What is not loaded may
    // be both: an agent that does not say which waits for a restart at most once, see IsLoaded.
    const bool this_boot = !item.loaded && item.activated_this_boot.value_or(true);
    view.activated_boot_id = this_boot ? heartbeat.boot_id : "(earlier)";
    view.came_after_start = this_boot && item.activated_this_boot.has_value();
    probe.plugins.push_back(std::move(view));
  }
  for (const std::string& name : names) {
    const auto named = [&](const PluginView& p) { return p.name == name; };
    if (std::any_of(probe.plugins.begin(), probe.plugins.end(), named)) continue;
    PluginView view;
    view.name = name;
    view.presence = Presence::kAbsent;
    probe.plugins.push_back(std::move(view));
  }
  return probe;
}

}  // namespace core
