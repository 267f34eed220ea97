#include <doctest/doctest.h>

#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

namespace {

/// A workspace whose agent is asked for restarts; who reports for it is written here.
struct Bench : OneBox {
  Bench() {
    in.witness = [this](const std::string&, const std::vector<std::string>& names) {
      if (!names.empty()) return;
      ++asked;
      if (starts_itself) Report("b2");
    };
    MakeWorkspace(api::BoxType::kDirectory);
    api::DeclaredPlugin plugin;
    plugin.meta.name = "alpha";
    plugin.spec.workspace_ref = api::LocalRef{"pod"};
    plugin.spec.source = Repositories::Uri("alpha");
    REQUIRE(
        store.Create({kube::kDeclaredPlugins, kNamespace}, codec::EncodeDeclaredPlugin(plugin)));
    Lead();
    for (int i = 0; i < 40 && asked == 0; ++i) {
      if (!machines.at("pod")->Token().empty()) Report(machines.at("pod")->BootId());
      Pass();
      process->resolver.RunDue({});
    }
    process->SendEvents();
  }
  void Report(const std::string& boot) {
    protocol::Heartbeat said = machines.at("pod")->Report(Stored().meta.uid, false);
    said.boot_id = boot;
    const auto slot = process->fleet.Authenticate(machines.at("pod")->Token(), clock.Read().mono);
    if (slot) (void)process->fleet.Record(*slot, said, clock.Read());
  }
  bool Says(const char* text) { return trace.Text().find(text) != std::string::npos; }

  static inline bool starts_itself = false;
  int asked = 0;
};

}  // namespace

TEST_CASE("a restart that nobody was asked for, since the box had started anew, is no Event") {
  for (const bool itself : {false, true}) {
    Bench::starts_itself = itself;
    Bench b;
    CAPTURE(b.trace.Text());
    REQUIRE(b.asked == 1);
    CHECK(b.Says("pod PluginDelivered"));
    CHECK(b.Says("pod RestartRequested") != itself);
    CHECK_FALSE(b.Says("event pod BootChanged"));
  }
}
