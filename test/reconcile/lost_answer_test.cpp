#include <doctest/doctest.h>

#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

namespace {

/// One workspace on a Pod, with two plugins declared; the Pod has brought one of them along.
struct Bench : OneBox {
  explicit Bench(api::BoxType type = api::BoxType::kPod) : type_(type) {
    machines["pod"]->Bring("alpha", 'a', true);
    Make();
    for (const char* name : {"alpha", "beta"}) Declare(name);
    Lead();
  }
  void Make() { MakeWorkspace(type_); }
  void Declare(const std::string& name) {
    api::DeclaredPlugin plugin;
    plugin.meta.name = name;
    plugin.spec.workspace_ref = api::LocalRef{"pod"};
    plugin.spec.source = Repositories::Uri(name);
    REQUIRE(
        store.Create({kube::kDeclaredPlugins, kNamespace}, codec::EncodeDeclaredPlugin(plugin)));
  }
  void Pass(base::Millis later) { Pass(*process, later); }
  void Pass(Process& by, base::Millis later) {
    clock.Advance(later);
    by.PassOfWorkspace();
  }
  std::vector<api::PluginRow> Rows() { return Stored().status.plugins; }

  const api::BoxType type_;
};

}  // namespace

TEST_CASE("a row whose write had no answer outlives the next pass, which has not seen it yet") {
  Bench b;
  b.Pass(base::Millis{0});  // The finalizer.
  b.weather.LoseAnswerOf("(status)");
  b.Pass(base::Millis{1});
  REQUIRE(b.Rows().size() == 2);
  CHECK(b.Rows().front().name == "alpha");
  CHECK(b.Rows().front().origin == api::PluginOrigin::kBootInstalled);
  // Nobody declares it any more; of the workspace the watch has told nothing.
  REQUIRE(b.store.Delete(PluginRef("alpha")));
  while (b.process->plugins.Source().Next() != nullptr) b.process->plugins.Source().DeliverNext();
  b.Pass(base::Seconds{2});
  CAPTURE(b.trace.Text());
  REQUIRE(b.Rows().size() == 2);
  CHECK(b.Rows().front().name == "alpha");
}

TEST_CASE("a new leader whose view is old overwrites no row of the one before it") {
  Bench b;
  b.Pass(base::Millis{0});  // The finalizer.
  // It stands by; of what follows its watch tells nothing.
  Process next(b.in, 2, b.folder / "other");
  b.Pass(base::Millis{1});
  REQUIRE(b.Rows().size() == 2);
  next.Lead();
  REQUIRE(b.store.Delete(PluginRef("alpha")));
  while (next.plugins.Source().Next() != nullptr) next.plugins.Source().DeliverNext();
  for (int i = 0; i < 12; ++i) {  // No agent has reported: a box is given its time for that.
    next.Resync();
    b.Pass(next, base::Seconds{120});
    CAPTURE(b.trace.Text());
    // Gone from the rows only when it is gone from the box: what has no row is never removed.
    const bool has_row = b.Rows().front().name == "alpha";
    CHECK(has_row == b.machines["pod"]->Has("alpha"));
  }
  CHECK_MESSAGE(!b.machines["pod"]->Has("alpha"), b.trace.Text());
}

TEST_CASE("no status is written to a namesake that was made meanwhile") {
  Bench b(api::BoxType::kExternal);  // Without a finalizer, as a DeclaredPlugin.
  REQUIRE(b.store.Delete(WorkspaceRef("pod")));
  for (const char* name : {"alpha", "beta"}) REQUIRE(b.store.Delete(PluginRef(name)));
  b.Make();
  for (const char* name : {"alpha", "beta"}) b.Declare(name);
  for (int i = 0; i < 4; ++i) {  // The watches have told of none of this.
    b.Pass(base::Seconds{2});
    b.process->PassOfPlugin();
  }
  CAPTURE(b.trace.Text());
  // The workspace is read anew then: what it gets afterwards is its own.
  CHECK(b.trace.Text().find("team/pod (status) -> conflict") != std::string::npos);
  for (const char* name : {"alpha", "beta"})
    CHECK_FALSE(b.store.Find(PluginRef(name))->contains("status"));
}
