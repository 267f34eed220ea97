#include <doctest/doctest.h>

#include "base/base64.hpp"
#include "kube/client.hpp"
#include "reconcile/instance_tokens.hpp"
#include "reconcile/simulation/one_box.hpp"
#include "support/captured_log.hpp"

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

TEST_CASE("a new leader that cannot read a token yet calls no agent's token void") {
  Bench b;
  const std::string token = b.Given();
  b.process = nullptr;  // It ends; another one takes over.
  b.Lead();
  const auto answer = [&](const std::string& sent) {
    return b.process->fleet.Authenticate(sent, b.clock.Read().mono);
  };
  b.weather.LoseAnswerOf("get secrets");
  b.Pass();
  CAPTURE(b.trace.Text());
  REQUIRE(b.process->fleet.TakeOverTime());
  REQUIRE_FALSE(answer(token));
  CHECK(answer(token).error().code == base::Code::kUnavailable);
  CHECK(answer(kNew).error().code == base::Code::kUnavailable);
  b.Pass();
  CHECK(answer(token));
  CHECK(answer(kNew).error().code == base::Code::kUnauthorized);
}

TEST_CASE("a token Secret that cannot be read for a minute is named in the log, once") {
  Bench b;
  b.process = nullptr;
  b.Lead();
  const support::CapturedLog log;
  const std::string name =
      std::string(kNamespace) + "/" + reconcile::InstanceTokens::SecretName("pod");
  const auto told = [&] {
    size_t count = 0;
    const std::string text = log.Text();
    for (size_t at = text.find("a token Secret cannot be read"); at != std::string::npos;
         at = text.find("a token Secret cannot be read", at + 1)) {
      CHECK(text.find("secret=\"" + name + "\"", at) != std::string::npos);
      ++count;
    }
    return count;
  };
  const auto fail = [&](base::Millis later) {
    b.weather.LoseAnswerOf("get secrets");
    b.Pass(later);
  };
  fail(base::Seconds{2});
  fail(base::Seconds{30});
  CHECK(told() == 0);
  fail(base::Seconds{31});
  CHECK(told() == 1);
  fail(base::Seconds{600});
  CHECK(told() == 1);
  b.Pass();
  CHECK(b.process->fleet.Authenticate(kNew, b.clock.Read().mono).error().code ==
        base::Code::kUnauthorized);
}

TEST_CASE("a token that only a person can mend keeps nobody else's from being refused") {
  Bench b;
  const std::string name = reconcile::InstanceTokens::SecretName("pod");
  const Json bad{{"current", base::EncodeBase64("short")}};
  REQUIRE(b.store.Patch({kube::kSecrets, kNamespace, name}, {{"data", bad}}));
  b.process = nullptr;
  b.Lead();
  b.Pass();
  CAPTURE(b.trace.Text());
  REQUIRE(b.process->fleet.TakeOverTime());
  CHECK(b.process->fleet.Authenticate(kNew, b.clock.Read().mono).error().code ==
        base::Code::kUnauthorized);
}
