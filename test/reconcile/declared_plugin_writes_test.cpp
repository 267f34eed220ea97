#include <doctest/doctest.h>

#include "kube/client.hpp"
#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

namespace {

constexpr int kWorkspaces = 60;

/// Many workspaces without a box to reach, and a declaration that selects them all.
struct Bench : OneBox {
  Bench() {
    for (int i = 0; i < kWorkspaces; ++i) {
      api::Workspace workspace;
      workspace.meta.name = fmt::format("w{}", i);
      workspace.meta.labels["team"] = "x";
      workspace.spec.box.type = api::BoxType::kExternal;
      REQUIRE(store.Create({kube::kWorkspaces, kNamespace}, codec::EncodeWorkspace(workspace)));
    }
    api::DeclaredPlugin plugin;
    plugin.meta.name = "common";
    plugin.spec.workspace_selector.emplace().match_labels["team"] = "x";
    plugin.spec.source = Repositories::Uri("common");
    REQUIRE(
        store.Create({kube::kDeclaredPlugins, kNamespace}, codec::EncodeDeclaredPlugin(plugin)));
    Lead();
    for (int i = 0; i < 200; ++i) Pass(base::Millis{500});
  }
  /// What is due is done.
  void Pass(base::Millis later) {
    clock.Advance(later);
    for (auto* source : {&process->workspaces.Source(), &process->plugins.Source()})
      while (source->Next() != nullptr) source->DeliverNext();
    process->resolver.RunDue({});
    while (process->plugin_line.Ready()) process->PassOfPlugin();
  }
  size_t Writes() const {
    return trace.Count("api patch declaredplugins.molecule.ai team/common (status)");
  }
  api::DeclaredPluginStatus Status() const {
    const auto object = codec::DecodeDeclaredPlugin(codec::Dump(*store.Find(PluginRef("common"))));
    REQUIRE(object);
    return object->status;
  }
  int32_t Matched() const { return Status().workspaces ? Status().workspaces->matched : -1; }
  void DeleteWorkspace(int i) {
    REQUIRE(store.Delete(WorkspaceRef(fmt::format("w{}", i))));
    Pass(base::Millis{50});
  }
};

}  // namespace

TEST_CASE("a mass deletion writes the status of a declaration a few times, and rightly at last") {
  Bench b;
  REQUIRE(b.Matched() == kWorkspaces);
  const size_t before = b.Writes();
  b.DeleteWorkspace(0);
  CHECK(b.Matched() == kWorkspaces - 1);  // The first is seen at once.
  const auto begin = b.clock.Read().mono;
  for (int i = 1; i < kWorkspaces; ++i) b.DeleteWorkspace(i);
  for (int i = 0; i < 20; ++i) b.Pass(base::Millis{500});
  const auto seconds = std::chrono::ceil<base::Seconds>(b.clock.Read().mono - begin).count();
  CAPTURE(b.trace.Tail(40));
  CHECK(b.Matched() == 0);
  CHECK(seconds < 20);
  CHECK(b.Writes() - before <= 4 + 4);  // Four at once, then one a second of the three of it.
}

TEST_CASE("a declaration that is edited, or to be reconciled, is answered however much goes on") {
  Bench b;
  for (int i = 0; i < 40; ++i) b.DeleteWorkspace(i);
  REQUIRE(b.Matched() > kWorkspaces - 40);  // Its counts wait.
  SUBCASE("edited") {
    REQUIRE(b.store.Patch(PluginRef("common"), {{"spec", {{"suspend", true}}}}));
  }
  SUBCASE("to be reconciled") {
    const Json asks{{"annotations", {{api::kReconcileRequestedAnnotation, "now"}}}};
    REQUIRE(b.store.Patch(PluginRef("common"), {{"metadata", asks}}));
  }
  b.Pass(base::Millis{1});
  CHECK(b.Matched() == kWorkspaces - 40);
}
