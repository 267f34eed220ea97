#include <doctest/doctest.h>

#include "base/base64.hpp"
#include "protocol/answer.hpp"
#include "reconcile/instance_tokens.hpp"
#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

namespace {

/// An External box with a pinned plugin; what its agent says and is told is done here.
struct Bench : OneBox {
  Bench() {
    MakeWorkspace(api::BoxType::kExternal);
    Declare("alpha", [](api::DeclaredPluginSpec& spec) {
      spec.update.policy = api::UpdatePolicy::kManual;
      spec.update.interval_seconds = 60;
    });
    Lead();
    Pass();  // The token is made.
  }
  void Follow() {
    const auto answer = Answer();
    machines.at("pod")->Pull(answer, [] { return false; });
    if (answer.restart_expected_boot_id)
      machines.at("pod")->Restart(*answer.restart_expected_boot_id);
  }
  /// Ten passes, after each of which the agent reports and does what it is told.
  void Settle() {
    for (int i = 0; i < 10; ++i) {
      Pass(base::Seconds{30});
      process->resolver.RunDue({});
      while (process->plugin_line.Ready()) process->PassOfPlugin();
      Follow();
    }
  }
  /// What is answered to a report now.
  protocol::HeartbeatAnswer Answer() {
    const Json* secret =
        store.Find({kube::kSecrets, kNamespace, reconcile::InstanceTokens::SecretName("pod")});
    REQUIRE(secret != nullptr);
    const auto token =
        base::DecodeBase64(codec::GetString(codec::GetMember(*secret, "data"), "current"));
    const auto slot = process->fleet.Authenticate(token.value_or(""), clock.Read().mono);
    REQUIRE(slot);
    const auto said = machines.at("pod")->Report(Stored().meta.uid, false);
    REQUIRE(process->fleet.Record(*slot, said, clock.Read()));
    auto answer = protocol::DecodeHeartbeatAnswer(process->fleet.Answer(*slot));
    REQUIRE(answer);
    return *std::move(answer);
  }
};

}  // namespace

TEST_CASE("an External box is told the revision that is held, and nothing while it is suspended") {
  Bench b;
  b.Settle();
  CAPTURE(b.trace.Text());
  const std::string held = Repositories::Digest("alpha", 'a');
  REQUIRE(b.machines.at("pod")->DigestOf("alpha") == held);
  std::dynamic_pointer_cast<Repositories>(b.in.repositories)->Publish("alpha", 'b');
  b.Settle();
  const auto row = b.Stored().status.plugins.at(0);
  REQUIRE(row.reason == "UpdateAvailable");
  auto answer = b.Answer();
  CHECK(answer.plugins_known);
  REQUIRE(answer.plugins.size() == 1);
  CHECK(answer.plugins[0].digest == held);
  CHECK(answer.plugins[0].revision == Repositories::Commit('a'));
  CHECK(b.machines.at("pod")->DigestOf("alpha") == held);

  REQUIRE(b.store.Patch(WorkspaceRef("pod"), {{"spec", {{"suspend", true}}}}));
  b.Settle();
  CHECK_FALSE(b.Answer().plugins_known);
}
