#include "reconcile/pass_log.hpp"

#include <fmt/format.h>

#include "base/log.hpp"

namespace reconcile {
namespace {

void Append(std::string& text, const std::string& word) {
  constexpr size_t kMaxBytes = 500;
  if (text.size() > kMaxBytes) return;
  text += (text.empty() ? "" : ", ") + (text.size() + word.size() > kMaxBytes ? "..." : word);
}

const char* Word(core::BoxState state) {
  return state == core::BoxState::kRunning   ? "Running"
         : state == core::BoxState::kStopped ? "Stopped"
                                             : "Unknown";
}

const char* Word(core::Presence presence) {
  return presence == core::Presence::kPresent  ? "present"
         : presence == core::Presence::kAbsent ? "absent"
                                               : "unknown";
}

std::string Agent(const core::HeartbeatView& heartbeat) {
  if (!heartbeat.has_report) return "silent";
  std::string text;
  for (const core::InventoryItem& item :
       heartbeat.inventory.value_or(std::vector<core::InventoryItem>{}))
    Append(text, item.name + (item.loaded ? " loaded" : " not loaded"));
  return fmt::format("boot {} report {}: {}", heartbeat.boot_id, heartbeat.sequence,
                     heartbeat.inventory ? text : "no inventory");
}

std::string Probe(const core::ProbeView& probe) {
  if (!probe.made) return "no answer: " + probe.cause;
  std::string text;
  for (const core::PluginView& plugin : probe.plugins)
    Append(text, plugin.name + " " + Word(plugin.presence));
  return (probe.from_inventory ? "not asked: " : "asked: ") + text;
}

std::string Rows(const std::vector<core::RowDecision>& rows) {
  std::string text;
  for (const core::RowDecision& d : rows)
    Append(text, fmt::format("{} {} {}", d.name, d.row.reason, d.row.message));
  return text;
}

std::string Steps(const core::PluginPlan& plan, const core::Outcome& outcome) {
  std::string text;
  for (size_t i = 0; i < plan.steps.size() && i < outcome.steps.size(); ++i) {
    const core::StepOutcome& done = outcome.steps[i];
    Append(text, fmt::format("{} {} {}", core::StepName(plan.steps[i].kind), plan.steps[i].plugin,
                             !done.ran     ? "not run"
                             : !done.error ? "ok"
                                           : done.error->message));
  }
  return text;
}

}  // namespace

void LogPass(const core::WorkspaceObservation& seen, const core::PluginPlan& plan,
             const core::Outcome& outcome, base::Millis next) {
  if (!base::Logs(base::LogLevel::kDebug)) return;
  base::LogDebug("pass", {{"workspace", seen.workspace.meta.Key().Text()},
                          {"box", Word(seen.box.state)},
                          {"agent", Agent(seen.heartbeat)},
                          {"probe", Probe(seen.probe)},
                          {"rows", Rows(plan.rows)},
                          {"steps", Steps(plan, outcome)},
                          {"nextMilliseconds", std::to_string(next.count())}});
}

}  // namespace reconcile
