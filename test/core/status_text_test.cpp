#include "core/status_text.hpp"

#include <doctest/doctest.h>

#include "core/world.hpp"

using world::World;

TEST_CASE("whatever a reason was, it is one that a condition may have") {
  const std::pair<const char*, const char*> cases[] = {
      {"ImagePullBackOff", "ImagePullBackOff"},  // What is one stays as it is.
      {"Error_2", "Error_2"},
      {"seccomp killed", "seccompKilled"},  // CRI-O's word for a container that seccomp ended.
      {"2 many: things.", "manyThings"},
      {"caf\xc3\xa9", "caf"},
      {"", "Other"},
      {" .-", "Other"},
  };
  for (const auto& [given, wanted] : cases) CHECK(core::ReasonWord(given) == wanted);
  CHECK(core::ReasonWord(std::string(2000, 'a')).size() == 128);
}

TEST_CASE("a request of any length is answered once, with a value that the status can hold") {
  World w;
  w.Declare("p", 'a');
  w.Settle(3);
  std::string asked(255, 'r');
  asked += "\xc3\xa9 and so on";  // The limit is in the middle of a character.
  w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = asked;
  CHECK(core::ReconcileRequested(w.ws.meta.annotations, w.ws.status.last_handled_reconcile_at));
  w.Settle(2);
  CHECK(w.ws.status.last_handled_reconcile_at == std::string(255, 'r'));
  CHECK(!core::ReconcileRequested(w.ws.meta.annotations, w.ws.status.last_handled_reconcile_at));

  core::DeclaredPluginObservation o;
  o.object.meta.annotations = w.ws.meta.annotations;
  const auto status = core::SummariseDeclaredPlugin(o, w.policy, w.now).status;
  CHECK(status.last_handled_reconcile_at == std::string(255, 'r'));
}

TEST_CASE(
    "a reason of the box that no condition may have does not keep the status from being "
    "written") {
  World w;
  w.Declare("p", 'a');
  w.Settle(3);
  core::WorkspaceDecision decision = w.decision;
  decision.box_running.reason = "seccomp killed";
  const auto status = core::SummariseWorkspace(w.Observe(), decision, w.plan, w.outcome, w.now);
  CHECK(meta::FindCondition(status.conditions, "BoxRunning")->reason == "seccompKilled");
}
