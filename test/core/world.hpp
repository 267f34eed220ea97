#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/declared_set.hpp"
#include "core/plan/plugin_plan.hpp"
#include "core/plan/plugin_status.hpp"
#include "core/plan/row_decision.hpp"
#include "core/reasons.hpp"
#include "core/workspace_state.hpp"

/// A small real model of one workspace and its box: what the pure core decides is carried out here,
/// with two clocks that only tests move.
namespace world {

inline constexpr char kUid[] = "0c0ffee0-0000-4000-8000-000000000001";

/// A digest as the project writes it, made from a word.
inline std::string Digest(char c) { return "sha256:" + std::string(64, c); }

struct OnBox {
  std::string digest, receipt_digest, revision, boot;
  bool receipt = true, reload_none = false, mcp = true;
  bool boot_installed = false;
  bool files = true;  ///< False: only the receipt is left.
};

struct World {
  api::Workspace ws;
  std::vector<api::DeclaredPlugin> declared;
  std::map<std::string, core::ResolutionView> sources;   ///< By source text.
  std::map<std::string, core::ResolutionView> put_back;  ///< By plugin: its bytes are not at hand.
  core::Policy policy;
  core::WorkspaceMemory memory;
  base::Now now{base::WallTime(base::Seconds(1'800'000'000)), base::MonoTime(base::Seconds(5000))};
  base::Now takeover;

  core::BoxState box_state = core::BoxState::kRunning;
  std::string identity = "box-1";
  int boot = 1;
  bool agent_reports = true;
  core::HeartbeatView hb;
  std::map<std::string, OnBox> box;
  std::map<std::string, std::string> removals, staged;
  std::set<std::string> unknown;  ///< Names that the probe cannot tell; "*": all.
  bool path_persistent = true;
  bool loses_restart = false;  ///< A restart is accepted and nothing comes of it.
  std::function<std::optional<base::Error>(const core::Step&)> fault;
  std::vector<core::StepKind> done;  ///< What has changed the box.

  core::WorkspaceDecision decision;
  core::PluginPlan plan;
  core::Outcome outcome;
  core::DeclaredSet set;

  World() {
    policy.gather = policy.gather_limit = base::Millis{0};  // Tests of gathering set them.
    ws.meta.ns = "team";
    ws.meta.name = "a";
    ws.meta.uid = kUid;
    ws.meta.generation = 1;
    ws.meta.creation_time = now.wall;
    ws.spec.box.type = api::BoxType::kDirectory;
    takeover = now;
    Beat();
  }

  std::string BootId() const { return "boot-" + std::to_string(boot); }
  void Beat() {
    hb.has_report = true;
    hb.box_identity = identity;
    hb.boot_id = BootId();
    ++hb.sequence;
    hb.received = now.mono;
    hb.received_wall = now.wall;
  }
  void Advance(base::Millis by) {
    now.mono += by;
    now.wall += by;
    if (agent_reports && hb.has_report) Beat();
  }
  void Reboot() {
    ++boot;
    if (agent_reports) Beat();
  }
  void Declare(const std::string& name, char digest, const std::string& more = "") {
    ws.spec.plugins.push_back({name, Source(name, more)});
    Publish(Source(name, more), digest);
  }
  static std::string Source(const std::string& name, const std::string& more = "") {
    return "gitea://o/" + name + "#tag:v1" + more;
  }
  void Publish(const std::string& source, char digest) {
    core::ResolutionView r;
    r.state = core::ResolutionView::State::kFetched;
    r.commit = std::string(40, digest);
    r.digest = Digest(digest);
    r.ref_kind = "Tag";
    sources[source] = r;
  }
  api::DeclaredPlugin& DeclareObject(const std::string& name, char digest) {
    api::DeclaredPlugin dp;
    dp.meta.ns = ws.meta.ns;
    dp.meta.name = name;
    dp.meta.uid = "dp-" + name;
    dp.meta.generation = 1;
    dp.spec.workspace_ref = api::LocalRef{ws.meta.name};
    dp.spec.source = Source(name);
    Publish(dp.spec.source, digest);
    declared.push_back(dp);
    return declared.back();
  }
  void BootInstall(const std::string& name, char digest) {
    box[name] = {
        Digest(digest), Digest(digest), std::string(40, digest), "boot-0", true, false, true, true};
  }
  /// A management plugin that a Platform workspace needs, with a model.
  void MakePlatform() {
    ws.spec.kind = api::WorkspaceKind::kPlatform;
    policy.privileged = {{"mgmt", "gitea://o/mgmt#tag:v1", {Digest('f')}, true, {}}};
    Publish("gitea://o/mgmt#tag:v1", 'f');
    hb.model_present = true;
  }
  void ManagementRuns() {
    BootInstall("mgmt", 'f');
    hb.management_present = true;
    hb.loaded_tools = {"mcp__mgmt__list"};
  }

  core::WorkspaceObservation Observe() {
    core::WorkspaceObservation o;
    o.workspace = ws;
    o.memory = memory;
    o.takeover = takeover;
    o.heartbeat = hb;
    o.box.state = box_state;
    if (box_state != core::BoxState::kUnknown)
      o.box.identity = identity;
    else
      o.box.cause = "no route";
    std::vector<const api::DeclaredPlugin*> pointers;
    for (const auto& d : declared) pointers.push_back(&d);
    set = core::BuildDeclaredSet(ws, pointers, policy);
    for (core::DesiredPlugin& p : set.plugins)
      if (const auto found = sources.find(p.source); found != sources.end())
        p.resolution = found->second;
    o.probe = Probe();
    for (core::DesiredPlugin& p : set.plugins)
      if (put_back.contains(p.name) && core::ToPutBack(p, o)) p.put_back = put_back[p.name];
    return o;
  }
  core::ProbeView Probe() const {
    core::ProbeView probe;
    probe.taken = now.mono;
    if (ws.spec.box.type == api::BoxType::kExternal)
      return core::ProbeFromInventory(hb, set.probe_names);
    probe.made = box_state == core::BoxState::kRunning && !unknown.contains("*");
    probe.plugins_path_persistent = path_persistent;
    if (!probe.made) {
      probe.cause = "no answer";
      return probe;
    }
    std::set<std::string> names(set.probe_names.begin(), set.probe_names.end());
    for (const auto& [name, p] : box)
      if (p.receipt) names.insert(name);
    for (const std::string& name : names) {
      core::PluginView view;
      view.name = name;
      const auto found = box.find(name);
      if (unknown.contains(name)) {
        view.cause = "no answer";
      } else if (found == box.end()) {
        view.presence = core::Presence::kAbsent;
      } else {
        const OnBox& p = found->second;
        view = {name,
                core::Presence::kPresent,
                "",
                p.receipt,
                p.revision,
                p.digest,
                p.receipt_digest,
                p.boot,
                p.reload_none,
                p.mcp,
                p.boot_installed};
        if (!p.files) view.presence = core::Presence::kAbsent;
      }
      probe.plugins.push_back(view);
    }
    for (const auto& [name, act] : removals) probe.removals.push_back({name, act});
    return probe;
  }

  std::optional<base::Error> Execute(const core::Step& step) {
    if (fault)
      if (auto error = fault(step)) return error;
    switch (step.kind) {
      case core::StepKind::kFetch: {
        if (put_back.contains(step.plugin)) return {};  // It takes its time.
        core::ResolutionView& r = sources[step.source];
        r.state = core::ResolutionView::State::kFetched;
        r.digest = "sha256:" + step.revision + step.revision.substr(0, 24);
        return {};
      }
      case core::StepKind::kRecord:
        return {};
      case core::StepKind::kDeliver:
        staged[step.plugin] = step.digest;
        break;
      case core::StepKind::kActivate: {
        OnBox& p = box[step.plugin];
        const bool same =
            p.receipt && p.digest == step.digest && p.receipt_digest == step.digest && p.mcp;
        if (!same)
          p = {step.digest,  step.digest, step.revision,
               step.boot_id, true,        sources[step.source].reload_none,
               true};
        staged.erase(step.plugin);
        break;
      }
      case core::StepKind::kRemove:
        if (box.erase(step.plugin) > 0) removals[step.plugin] = step.boot_id;
        break;
      case core::StepKind::kForgetRemovals:
        std::erase_if(removals, [&](const auto& r) { return r.second != step.boot_id; });
        return {};
      case core::StepKind::kRestart:
        if (step.boot_id == BootId() && !loses_restart) Reboot();
        break;
    }
    done.push_back(step.kind);
    return {};
  }

  void Decide() {
    const core::WorkspaceObservation o = Observe();
    decision = core::DecideWorkspace(o, ws.status, policy, now);
    plan = core::PlanPlugins(set, o, policy, now);
  }

  /// One pass: observe, decide, act, summarise. `crash_after` steps the process dies: nothing is
  /// written but the intent.
  void Pass(int crash_after = -1) {
    const core::WorkspaceObservation o = Observe();
    decision = core::DecideWorkspace(o, ws.status, policy, now);
    plan = core::PlanPlugins(set, o, policy, now);
    outcome = {};
    outcome.steps.resize(plan.steps.size());
    ws.status = core::IntentStatus(ws.status, plan);
    core::WorkspaceObservation with_intent = o;
    with_intent.workspace.status = ws.status;
    for (size_t i = 0; i < plan.steps.size(); ++i) {
      if (crash_after == static_cast<int>(i)) return Restarted();
      if (core::ShouldRun(plan, outcome, i)) outcome.steps[i] = {true, Execute(plan.steps[i])};
    }
    if (crash_after == static_cast<int>(plan.steps.size())) return Restarted();
    ws.status = core::SummariseWorkspace(with_intent, decision, plan, outcome, now);
    memory = core::Remember(set, o, plan, outcome, policy, now);
  }

  /// A pass whose intent has no answer, written or not: nothing is done, and what it would say of
  /// that is refused where the intent was written (its version is an old one).
  void PassUnheard(bool written) {
    const core::WorkspaceObservation o = Observe();
    decision = core::DecideWorkspace(o, ws.status, policy, now);
    plan = core::PlanPlugins(set, o, policy, now);
    outcome = {};
    outcome.steps.resize(plan.steps.size());
    outcome.intent_error = base::MakeError(base::Code::kUnavailable, "no answer", "ConnectionLost");
    ws.status = written ? core::IntentStatus(ws.status, plan)
                        : core::SummariseWorkspace(o, decision, plan, outcome, now);
    memory = core::Remember(set, o, plan, outcome, policy, now);
  }

  /// The operator starts anew: memory and heartbeats are gone; the agent's next heartbeat comes at
  /// once.
  void Restarted() {
    memory = {};
    takeover = now;
    hb.sequence = 0;
    if (agent_reports)
      Beat();
    else
      hb = {};
  }

  void Settle(int passes = 8, base::Millis step = base::Seconds(30)) {
    for (int i = 0; i < passes; ++i) {
      Pass();
      Advance(step);
    }
  }

  int Count(core::StepKind kind) const {
    return static_cast<int>(std::count(done.begin(), done.end(), kind));
  }
  int Planned(core::StepKind kind) const {
    return static_cast<int>(std::count_if(plan.steps.begin(), plan.steps.end(),
                                          [&](const core::Step& s) { return s.kind == kind; }));
  }
  const api::PluginRow* Row(const std::string& name) const {
    for (const api::PluginRow& row : ws.status.plugins)
      if (row.name == name) return &row;
    return nullptr;
  }
  std::string Reason(const std::string& name) const {
    return Row(name) == nullptr ? "(no row)" : Row(name)->reason;
  }
  std::string Condition(const std::string& type) const {
    const meta::Condition* c = meta::FindCondition(ws.status.conditions, type);
    return c == nullptr ? "(none)" : meta::ConditionStatusName(c->status);
  }
  std::string Why(const std::string& type) const {
    const meta::Condition* c = meta::FindCondition(ws.status.conditions, type);
    return c == nullptr ? "(none)" : c->reason;
  }
};

}  // namespace world
