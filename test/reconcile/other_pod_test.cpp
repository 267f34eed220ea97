#include <doctest/doctest.h>

#include "reconcile/simulation/process.hpp"
#include "reconcile/simulation/user.hpp"
#include "support/temp_folder.hpp"

using namespace simulation;

namespace {

/// A workspace whose box is somebody else's Pod; who reports for it is written here.
struct Bench {
  Bench() {
    machines["pod"] = std::make_unique<Machine>("pod", "pod:0c0ffee0/1", trace);
    api::Workspace workspace;
    workspace.meta.name = "pod";
    workspace.spec.box.type = api::BoxType::kPod;
    workspace.spec.box.pod.emplace().pod_ref = api::LocalRef{"pod"};
    REQUIRE(store.Create({kube::kWorkspaces, kNamespace}, codec::EncodeWorkspace(workspace)));
    in.witness = [](const std::string&, const std::vector<std::string>&) {};
    process = std::make_unique<Process>(in, 1, folder / "store");
    process->Lead();
    Pass();  // The finalizer.
    Pass();
  }
  void Pass() {
    clock.Advance(base::Seconds{2});
    process->PassOfWorkspace();
    while (process->workspaces.Source().Next() != nullptr)
      process->workspaces.Source().DeliverNext();
  }
  /// What the state is after such a report, and the pass that follows.
  std::string After(const std::string& box, const std::string& boot) {
    const auto object = codec::DecodeWorkspace(codec::Dump(*store.Find(WorkspaceRef("pod"))));
    REQUIRE(object);
    protocol::Heartbeat said;
    said.workspace = object->meta.uid;
    said.boot_id = boot;
    said.sequence = ++sequence;
    said.box_identity = box;
    const auto slot = process->fleet.Authenticate(machines.at("pod")->Token(), clock.Read().mono);
    REQUIRE(slot);
    REQUIRE(process->fleet.Record(*slot, said, clock.Read()));
    process->Resync();
    Pass();
    return codec::DecodeWorkspace(codec::Dump(*store.Find(WorkspaceRef("pod"))))->status.state;
  }

  support::FakeClock clock;
  support::TempFolder folder;
  Trace trace{clock};
  Dice dice{1};
  Weather weather{dice, trace};
  ApiStore store{clock};
  std::map<std::string, std::unique_ptr<Machine>> machines;
  Surroundings in{clock,
                  trace,
                  weather,
                  store,
                  std::make_shared<Repositories>(weather, trace),
                  machines,
                  std::make_shared<core::Policy>(),
                  nullptr};
  std::unique_ptr<Process> process;
  int64_t sequence = 0;
};

}  // namespace

TEST_CASE("a heartbeat that names another Pod makes nobody Online; one that names none does") {
  {
    Bench b;
    CAPTURE(b.trace.Text());
    CHECK(b.After("pod:dead0000", "old") == "Provisioning");
    CHECK(b.After("pod:dead0000", "old") == "Provisioning");
    CHECK(b.After("pod:0c0ffee0", "new") == "Online");
    CHECK(b.After("pod:dead0000", "older") == "Online");
    CHECK(b.process->fleet.Counts().refused == 3);
  }
  Bench b;
  CHECK(b.After("", "untold") == "Online");
}
