#include "app/plugin_routes.hpp"

#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

namespace {

struct Bench : OneBox {
  explicit Bench(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      api::Workspace workspace;
      workspace.meta.name = name;
      REQUIRE(store.Create({kube::kWorkspaces, kNamespace}, codec::EncodeWorkspace(workspace)));
    }
    Lead();
    app::ConnectPluginRoutes(ports, process->On(), reviews.emplace(process->client, clock));
  }
  server::Declaration Wanted(const std::string& workspace, const std::string& name,
                             const std::string& source) const {
    const auto found = ports.find_workspace(std::string(kNamespace) + "." + workspace);
    REQUIRE(found);
    return {*found, name, source, {}};
  }
  /// The reason of a refusal, or which object declares it now.
  std::string Declare(const std::string& workspace, const std::string& name,
                      const std::string& source = "gitea://demo/x#tag:v1") {
    const auto done = ports.declare_plugin(Wanted(workspace, name, source));
    return done ? done->key.name : done.error().reason;
  }
  void Hear() {
    while (process->plugins.Source().Next() != nullptr) process->plugins.Source().DeliverNext();
  }
  size_t Declared() const { return store.Keys(kube::kDeclaredPlugins.plural).size(); }

  server::ServerPorts ports;
  std::optional<app::Reviews> reviews;
};

}  // namespace

TEST_CASE("what is accepted is declared: for that workspace, by that name, from that source") {
  Bench b({"a", "a.b"});
  CHECK(b.Declare("a", "c") == "a.c");
  CHECK(b.Declare("a", "c") == "a.c");  // Before the watch has told of it, and after.
  CHECK(b.Declare("a", "c", "gitea://demo/x#tag:v2") == "Conflict");
  b.Hear();
  CHECK(b.Declare("a", "c") == "a.c");
  CHECK(b.Declare("a", "c", "gitea://demo/x#tag:v2") == "Conflict");
  const std::string one = b.Declare("a", "b.c"), other = b.Declare("a.b", "c");
  CHECK(one != other);
  CHECK(b.Declare("a", "My_Skill").find_first_of("MS_") == std::string::npos);
  CHECK(b.Declared() == 4);
}

TEST_CASE("a plugin that is withdrawn is declared by none of those that name the workspace") {
  Bench b({"a"});
  b.Declare("a", "c");
  api::DeclaredPlugin by_hand;
  by_hand.meta.name = "by-hand";
  by_hand.spec.workspace_ref = api::LocalRef{"a"};
  by_hand.spec.plugin_name = "c";
  by_hand.spec.source = "gitea://demo/x#tag:v1";
  REQUIRE(
      b.store.Create({kube::kDeclaredPlugins, kNamespace}, codec::EncodeDeclaredPlugin(by_hand)));
  b.Hear();
  REQUIRE(b.Declared() == 2);
  CHECK(b.ports.withdraw_plugin(b.Wanted("a", "c", "")));
  CHECK(b.Declared() == 0);
  // Before the watch has told of that.
  CHECK(b.Declare("a", "c", "gitea://demo/x#tag:v2") == "a.c");
  CHECK(b.Declared() == 1);
  b.Hear();
  CHECK(b.process->plugins.Get().Cache().Size() == 1);
}
