#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "reconcile/simulation/process.hpp"
#include "reconcile/simulation/user.hpp"
#include "support/fake_clock.hpp"
#include "support/temp_folder.hpp"

namespace simulation {

/// One operator, one machine and their surroundings, without a schedule of events: a test says what
/// comes next. For what is to happen in one order only.
struct OneBox {
  OneBox() {
    machines["pod"] = std::make_unique<Machine>("pod", Machine::Form::kPod, trace);
    in.witness = [](const std::string&, const std::vector<std::string>&) {};
  }
  /// The Workspace whose box that machine is: an adopted Pod, or one of another type.
  void MakeWorkspace(api::BoxType type = api::BoxType::kPod) {
    api::Workspace workspace;
    workspace.meta.name = "pod";
    workspace.spec.box.type = type;
    if (type == api::BoxType::kPod) workspace.spec.box.pod.emplace().pod_ref = api::LocalRef{"pod"};
    REQUIRE(store.Create({kube::kWorkspaces, kNamespace}, codec::EncodeWorkspace(workspace)));
  }
  /// For that Workspace alone. `change` may say more.
  void Declare(const std::string& name,
               const std::function<void(api::DeclaredPluginSpec&)>& change = nullptr) {
    api::DeclaredPlugin plugin;
    plugin.meta.name = name;
    plugin.spec.workspace_ref = api::LocalRef{"pod"};
    plugin.spec.source = Repositories::Uri(name);
    if (change) change(plugin.spec);
    REQUIRE(
        store.Create({kube::kDeclaredPlugins, kNamespace}, codec::EncodeDeclaredPlugin(plugin)));
  }
  /// Its agent reports, if it has a token and that is taken; of that start, or of the machine's.
  void Report(const std::string& boot = "") {
    protocol::Heartbeat said = machines.at("pod")->Report(Stored().meta.uid, false);
    if (!boot.empty()) said.boot_id = boot;
    const auto slot = process->fleet.Authenticate(machines.at("pod")->Token(), clock.Read().mono);
    if (slot) (void)process->fleet.Record(*slot, said, clock.Read());
  }
  /// After what is there from the beginning.
  void Lead() {
    process = std::make_unique<Process>(in, 1, folder / "store");
    process->Lead();
  }
  /// Up to its first decision: the finalizer, then the status.
  void Begin(api::BoxType type = api::BoxType::kPod) {
    MakeWorkspace(type);
    Lead();
    Pass();
    Pass();
  }
  /// What the watch has to tell.
  void Hear() {
    while (process->workspaces.Source().Next() != nullptr)
      process->workspaces.Source().DeliverNext();
  }
  /// A pass of the Workspace so much later, and what it wrote is heard of.
  void Pass(base::Millis later = base::Seconds{2}) {
    Hear();
    clock.Advance(later);
    process->Resync();
    process->PassOfWorkspace();
    Hear();
  }
  api::Workspace Stored() const {
    const auto object = codec::DecodeWorkspace(codec::Dump(*store.Find(WorkspaceRef("pod"))));
    REQUIRE(object);
    return *object;
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
};

}  // namespace simulation
