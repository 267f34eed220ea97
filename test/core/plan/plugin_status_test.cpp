#include "core/plan/plugin_status.hpp"

#include <doctest/doctest.h>

#include "core/world.hpp"

using core::StepKind;
using world::Digest;
using world::World;
using namespace std::chrono_literals;

namespace {
/// As kstatus reads an object that is not being deleted (ux.md section 2).
std::string Kstatus(const std::vector<meta::Condition>& conditions) {
  const auto is = [&](const char* type, meta::ConditionStatus status) {
    const meta::Condition* c = meta::FindCondition(conditions, type);
    return c != nullptr && c->status == status;
  };
  if (is("Reconciling", meta::ConditionStatus::kTrue)) return "InProgress";
  if (is("Stalled", meta::ConditionStatus::kTrue)) return "Failed";
  return is("Ready", meta::ConditionStatus::kTrue) ? "Current" : "InProgress";
}
}  // namespace

TEST_CASE("the four situations of ux.md ST-02 read rightly") {
  World w;
  w.Declare("p", 'a');
  SUBCASE("working: Reconciling True and Ready Unknown") {
    w.unknown = {"*"};
    w.Pass();
    CHECK(w.Condition("Ready") == "Unknown");
    CHECK(w.Condition("Reconciling") == "True");
    CHECK(Kstatus(w.ws.status.conditions) == "InProgress");
  }
  SUBCASE("failed, will retry: Ready False and Reconciling True") {
    w.fault = [](const core::Step&) -> std::optional<base::Error> {
      return base::MakeError(base::Code::kUnavailable, "box refused");
    };
    w.Pass();
    CHECK(w.Condition("Ready") == "False");
    CHECK(w.Condition("Reconciling") == "True");
    CHECK(w.Condition("Stalled") == "False");
    CHECK(Kstatus(w.ws.status.conditions) == "InProgress");
  }
  SUBCASE("needs a human: Ready False and Stalled True, also before the box is up") {
    w.ws.spec.plugins[0].source = "nonsense";
    w.agent_reports = false;
    w.hb = {};
    w.Pass();
    CHECK(w.ws.status.state == "Provisioning");
    CHECK(w.Condition("Ready") == "False");
    CHECK(w.Condition("Stalled") == "True");
    CHECK(Kstatus(w.ws.status.conditions) == "Failed");
  }
  SUBCASE("done: Ready True, the others False") {
    w.Settle(3);
    CHECK(w.Condition("Ready") == "True");
    CHECK(w.Condition("Reconciling") == "False");
    CHECK(w.Condition("Stalled") == "False");
    CHECK(Kstatus(w.ws.status.conditions) == "Current");
  }
  for (const meta::Condition& c : w.ws.status.conditions) {
    CHECK(c.observed_generation == 1);
    CHECK(!c.reason.empty());
  }
}

TEST_CASE(
    "a fleet at rest writes nothing: heartbeats that change only figures leave the status "
    "byte-equal") {
  World w;
  w.Declare("p", 'a');
  w.Settle(4);
  const auto before = w.ws.status;
  for (int i = 0; i < 50; ++i) {
    w.hb.current_task = "task " + std::to_string(i);
    w.hb.error_rate = 0.001 * i;
    w.hb.monthly_spend = std::to_string(i);
    w.hb.active_tasks = i % 3;
    w.Advance(30s);
    w.Pass();
    REQUIRE(w.ws.status == before);
    CHECK(w.plan.steps.empty());
  }
  w.hb.boot_install = api::BootInstallStatus{"Done", ""};
  w.Pass();
  CHECK(w.ws.status != before);
  CHECK(w.ws.status.agent->current_task == "task 49");
}

TEST_CASE("lastTransitionTime moves only when a status flips") {
  World w;
  w.Declare("p", 'a');
  w.Settle(4);
  const auto ready = meta::FindCondition(w.ws.status.conditions, "Ready")->last_transition_time;
  w.ws.meta.generation = 2;
  w.Advance(100s);
  w.Pass();
  CHECK(w.ws.status.observed_generation == 2);
  CHECK(meta::FindCondition(w.ws.status.conditions, "Ready")->last_transition_time == ready);
  CHECK(meta::FindCondition(w.ws.status.conditions, "Ready")->observed_generation == 2);
}

TEST_CASE("messages are bounded at a character's border and hold no control characters") {
  std::string text = std::string(1023, 'x') + "\xc3\xa4";
  CHECK(core::BoundedMessage(text) == std::string(1023, 'x'));
  CHECK(core::BoundedMessage("a\n\x1b[31mb") == "a  [31mb");
  World w;
  w.Declare("p", 'a');
  w.fault = [](const core::Step&) -> std::optional<base::Error> {
    return base::MakeError(base::Code::kInternal, std::string(100000, 'y'));
  };
  w.Pass();
  CHECK(w.Row("p")->message.size() == 1024);
  for (const meta::Condition& c : w.ws.status.conditions) CHECK(c.message.size() <= 1024);
}

TEST_CASE("an intent that could not be written leaves rows, debt and stamps as they were") {
  World w;
  w.Declare("p", 'a');
  const auto o = w.Observe();
  w.Decide();
  REQUIRE(w.plan.ChangesBox());
  core::Outcome outcome;
  outcome.intent_error = base::MakeError(base::Code::kConflict, "changed meanwhile");
  const auto status = core::SummariseWorkspace(o, w.decision, w.plan, outcome, w.now);
  CHECK(!status.pending_restart);
  CHECK(!status.plugins[0].origin);
  for (size_t i = 0; i < w.plan.steps.size(); ++i) CHECK(!core::ShouldRun(w.plan, outcome, i));
}

TEST_CASE("the debt is written before the first byte moves") {
  World w;
  w.Declare("p", 'a');
  w.Decide();
  const auto intent = core::IntentStatus(w.ws.status, w.plan);
  REQUIRE(intent.pending_restart);
  CHECK(intent.pending_restart->plugins == std::vector<std::string>{"p"});
  CHECK(intent.pending_restart->boot_id == "boot-1");
  CHECK(intent.pending_restart->epoch == 1);
  w.Settle(3);
  w.Decide();
  CHECK(core::IntentStatus(w.ws.status, w.plan) == w.ws.status);
}

TEST_SUITE("a DeclaredPlugin's status") {
  core::DeclaredPluginSummary Summarise(World & w, size_t examined = 1) {
    core::DeclaredPluginObservation o;
    o.object = w.declared[0];
    const auto found = w.sources.find(w.declared[0].spec.source);
    if (found != w.sources.end()) o.resolution = found->second;
    if (core::Selects(w.declared[0], w.ws)) o.matched = {&w.ws};
    o.workspaces_examined = examined;
    auto summary = core::SummariseDeclaredPlugin(o, w.policy, w.now);
    CHECK(summary.next_check > w.now.mono);
    w.declared[0].status = summary.status;
    return summary;
  }
  std::string Of(const core::DeclaredPluginSummary& s, const char* type) {
    const meta::Condition* c = meta::FindCondition(s.status.conditions, type);
    return c == nullptr ? "(none)"
                        : std::string(meta::ConditionStatusName(c->status)) + " " + c->reason;
  }
  TEST_CASE("a first status may wait while it would say only that everything is on its way") {
    const auto may_wait = [](const std::function<void(World&)>& prepare) {
      World w;
      w.DeclareObject("p", 'a');
      prepare(w);
      return Summarise(w).may_wait;
    };
    CHECK(may_wait([](World&) {}));
    CHECK_FALSE(may_wait([](World& w) { w.Settle(6); }));   // Loaded.
    CHECK_FALSE(may_wait([](World& w) { Summarise(w); }));  // Not the first one.
    CHECK_FALSE(may_wait([](World& w) { w.declared[0].spec.suspend = true; }));
    CHECK_FALSE(may_wait([](World& w) { w.declared[0].spec.source = "nonsense"; }));
    CHECK_FALSE(may_wait([](World& w) {
      w.sources[w.declared[0].spec.source].state = core::ResolutionView::State::kFailed;
    }));
  }
  TEST_CASE("counts follow the workspaces' rows until all are ready") {
    World w;
    w.DeclareObject("p", 'a');
    auto s = Summarise(w);
    CHECK(s.status.workspaces->pending == 1);
    CHECK(Of(s, "Ready") == "Unknown PluginsPending");
    CHECK(Of(s, "Reconciling") == "True PluginsPending");
    w.Settle(3);
    s = Summarise(w);
    CHECK(s.status.workspaces->ready == 1);
    CHECK(s.status.workspaces->worst.empty());
    CHECK(Of(s, "Ready") == "True Ready");
    CHECK(Of(s, "Accepted") == "True Accepted");
    CHECK(Of(s, "SourceResolved") == "True SourceResolved");
    CHECK(s.status.resolved->digest == Digest('a'));
    w.Advance(4000s);
    CHECK(Summarise(w).status == s.status);
  }
  TEST_CASE("what cannot work is Stalled with its reason") {
    World w;
    w.DeclareObject("p", 'a');
    SUBCASE("invalid source") {
      w.declared[0].spec.source = "nonsense";
      CHECK(Of(Summarise(w), "Accepted") == "False InvalidSource");
    }
    SUBCASE("a selector that no API server would take for its own kinds") {
      w.declared[0].spec.workspace_ref.reset();
      w.declared[0].spec.workspace_selector = api::LabelSelector{{{"my team", "a"}}, {}};
      const auto s = Summarise(w);
      CHECK(Of(s, "Accepted") == "False InvalidSelector");
      CHECK(meta::FindCondition(s.status.conditions, "Ready")
                ->message.starts_with("spec.workspaceSelector.matchLabels: "));
    }
    SUBCASE("not entitled") {
      w.policy.privileged = {{"p", w.declared[0].spec.source, {Digest('a')}, false, {}}};
      const auto s = Summarise(w);
      CHECK(Of(s, "Accepted") == "False NotEntitled");
      CHECK(s.status.workspaces->blocked == 1);
    }
    SUBCASE("conflict") {
      w.ws.spec.plugins.push_back({"p", "gitea://o/elsewhere#v2"});
      w.Settle(2);
      CHECK(Of(Summarise(w), "Conflict") == "True Conflict");
    }
    SUBCASE("no such ref") {
      auto& r = w.sources[w.declared[0].spec.source];
      r = {};
      r.state = core::ResolutionView::State::kFailed;
      r.error = base::MakeError(base::Code::kInvalid, "no tag v1 in o/p", "RefNotFound");
      CHECK(Of(Summarise(w), "SourceResolved") == "False RefNotFound");
    }
    const auto s = Summarise(w);
    CHECK(Of(s, "Ready").starts_with("False"));
    CHECK(Of(s, "Stalled").starts_with("True"));
    CHECK(Of(s, "Reconciling").starts_with("False"));
  }
  TEST_CASE(
      "nothing matched while workspaces exist is never taken for success, and says how many were "
      "examined (SC-8)") {
    World w;
    w.DeclareObject("p", 'a').spec.workspace_ref->name = "nobody";
    const auto s = Summarise(w, 7);
    CHECK(Of(s, "Ready") == "False NoWorkspaceMatches");
    CHECK(meta::FindCondition(s.status.conditions, "Ready")->message.find("7") !=
          std::string::npos);
    const auto none = Summarise(w, 0);
    CHECK(Of(none, "Ready") == "Unknown NoWorkspaceMatches");
    CHECK(meta::FindCondition(none.status.conditions, "Ready")
              ->message.find("there is no Workspace nobody in namespace") != std::string::npos);
  }
  TEST_CASE("suspended is Unknown and neither Reconciling nor Stalled") {
    World w;
    w.DeclareObject("p", 'a').spec.suspend = true;
    const auto s = Summarise(w);
    CHECK(Of(s, "Ready") == "Unknown Suspended");
    CHECK(Of(s, "Reconciling") == "False Idle");
  }
  TEST_CASE("the worst are listed first, ten at most") {
    World w;
    w.DeclareObject("p", 'a');
    std::vector<api::Workspace> many(40, w.ws);
    core::DeclaredPluginObservation o;
    o.object = w.declared[0];
    o.resolution = w.sources.begin()->second;
    for (size_t i = 0; i < many.size(); ++i) {
      many[i].meta.name = "w" + std::to_string(i);
      if (i == 39)
        many[i].status.plugins = {{.name = "p",
                                   .owner = {},
                                   .source = o.object.spec.source,
                                   .origin = {},
                                   .revision = "",
                                   .digest = "",
                                   .installed_time = {},
                                   .loaded = false,
                                   .deletion_policy = {},
                                   .reason = "NoSpace",
                                   .message = "disk full",
                                   .attempts = 3,
                                   .next_attempt_time = {}}};
      o.matched.push_back(&many[i]);
    }
    o.workspaces_examined = 40;
    const auto s = core::SummariseDeclaredPlugin(o, w.policy, w.now).status;
    REQUIRE(s.workspaces->worst.size() == 10);
    CHECK(s.workspaces->worst[0].name == "w39");
    CHECK(s.workspaces->failed == 1);
    CHECK(s.workspaces->pending == 39);
  }
}
