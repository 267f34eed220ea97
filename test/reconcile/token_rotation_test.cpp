#include <doctest/doctest.h>

#include "base/base64.hpp"
#include "reconcile/instance_tokens.hpp"
#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

namespace {

struct Bench : OneBox {
  Bench() { Begin(); }
  /// As docs/how-to/install.md says.
  void Replace(const std::string& old, const std::string& token) {
    const Json data{{"current", base::EncodeBase64(token)}, {"previous", base::EncodeBase64(old)}};
    const std::string name = reconcile::InstanceTokens::SecretName("pod");
    REQUIRE(store.Patch({kube::kSecrets, kNamespace, name}, {{"data", data}}));
  }
  bool Opens(const std::string& token) {
    return process->fleet.Authenticate(token, clock.Read().mono).has_value();
  }
  std::string Given() const { return machines.at("pod")->Token(); }
};

const std::string kNew(64, 'b');

}  // namespace

TEST_CASE("a token that was replaced in its Secret is taken, and given to the box") {
  Bench b;
  const std::string old = b.Given();
  REQUIRE(b.Opens(old));
  b.Replace(old, kNew);
  SUBCASE("within six hours") {
    for (int i = 0; i < 13; ++i) b.Pass(base::Seconds{1'800});
  }
  SUBCASE("at once when a reconcile is requested") {
    const Json asks{{"annotations", {{api::kReconcileRequestedAnnotation, "now"}}}};
    REQUIRE(b.store.Patch(WorkspaceRef("pod"), {{"metadata", asks}}));
    b.Pass();
  }
  CAPTURE(b.trace.Text());
  CHECK(b.Given() == kNew);
  CHECK(b.Opens(old));  // Until the new one is used.
  CHECK(b.Opens(kNew));
  CHECK_FALSE(b.Opens(old));
}
