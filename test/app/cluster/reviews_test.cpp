#include "app/cluster/reviews.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <atomic>
#include <thread>
#include <vector>

#include "app/cluster/access_review.hpp"
#include "app/cluster/pod_tokens.hpp"
#include "box/pod/managed_pod.hpp"
#include "support/byte_server.hpp"
#include "support/eventually.hpp"
#include "support/fake_clock.hpp"

namespace {

using support::ByteConnection;
using support::ByteRequest;

constexpr char kForbidden[] =
    R"({"kind":"Status","reason":"Forbidden","code":403,"message":"no, not you"})";

constexpr char kWho[] =
    R"({"status":{"authenticated":true,"user":{"username":"u","uid":"0-1","groups":["g"],)"
    R"("extra":{"scopes.example.com/names":["read"]}}}})";

/// An API server that forbids what it is told to, over a real connection.
struct ReviewApi {
  std::atomic<bool> tokens{false}, access{false};  ///< Allowed.
  std::atomic<int> asked{0}, failing{0};
  std::string who = kWho;  ///< Set before anybody asks.
  std::string last_body;   ///< Written before the answer that a test waits for.
  support::ByteServer server{[this](ByteConnection& to, const ByteRequest& in) {
    ++asked;
    if (failing != 0) {
      to.Answer(500, "");
      return;
    }
    last_body = in.body;
    const bool token = in.target == "/apis/authentication.k8s.io/v1/tokenreviews";
    const bool allowed = token ? tokens : access;
    to.Answer(allowed ? 201 : 403, !allowed ? kForbidden
                                   : token  ? who
                                            : R"({"status":{"allowed":true}})");
  }};
  std::unique_ptr<kube::Client> client = [this] {
    kube::ClientConfig config;
    config.server = server.Url();
    return *kube::Client::Create(config, {.max_attempts = 1});
  }();
  support::FakeClock clock;
  app::Reviews reviews{*client, clock};
};

bool Says(const std::optional<std::string>& problem, std::string_view text) {
  return problem && problem->find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("a forbidden review is told with the right and the remedy, and not asked at once again") {
  ReviewApi api;
  CHECK_FALSE(api.reviews.Problem());
  CHECK_FALSE(api.reviews.TokenRefusal());
  const auto first = api.reviews.Token({{"token", "t"}});
  REQUIRE_FALSE(first);
  CHECK(first.error().code == base::Code::kUnavailable);
  CHECK(first.error().reason == "ReviewsForbidden");
  CHECK(first.error().message.find("tokenreviews.authentication.k8s.io") != std::string::npos);
  CHECK(first.error().message.find("system:auth-delegator") != std::string::npos);
  CHECK(first.error().retry_after == app::Reviews::kPause);
  CHECK(Says(api.reviews.Problem(), "system:auth-delegator"));
  CHECK(api.reviews.Token({{"token", "t"}}).error().reason == "ReviewsForbidden");
  CHECK(api.reviews.TokenRefusal());
  CHECK(api.asked == 1);

  api.tokens = true;
  api.clock.Advance(app::Reviews::kPause);
  CHECK_FALSE(api.reviews.TokenRefusal());
  CHECK(api.reviews.Token({{"token", "t"}}));
  CHECK_FALSE(api.reviews.Problem());
  CHECK(api.asked == 2);
}

TEST_CASE("a missing right is shown as long as somebody needs it, and a while longer") {
  ReviewApi api;
  CHECK_FALSE(api.reviews.Token({}));
  api.clock.Advance(app::Reviews::kRemembered - app::Reviews::kPause);
  CHECK(api.reviews.Problem());
  CHECK_FALSE(api.reviews.Token({}));
  api.clock.Advance(app::Reviews::kRemembered - base::Millis{1});
  CHECK(api.reviews.Problem());
  api.clock.Advance(base::Millis{1});
  CHECK_FALSE(api.reviews.Problem());
}

TEST_CASE("a server that fails says nothing about rights") {
  ReviewApi api;
  api.failing = 1;
  const auto failed = api.reviews.Token({});
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == base::Code::kUnavailable);
  CHECK(failed.error().reason == "");
  CHECK_FALSE(api.reviews.Problem());
  api.failing = 0;
  CHECK_FALSE(api.reviews.Token({}));
  api.failing = 1;
  api.clock.Advance(app::Reviews::kPause);
  CHECK_FALSE(api.reviews.Token({}));
  CHECK(api.reviews.Problem());
}

TEST_CASE("each of the two rights is missed on its own, and both come through to a caller") {
  ReviewApi api;
  const auto asked = [&] { return app::ReviewAccess(api.reviews, "t", {}, "get on it"); };
  CHECK(asked().error().reason == "ReviewsForbidden");
  api.tokens = true;
  api.clock.Advance(app::Reviews::kPause);
  const auto second = asked();
  REQUIRE_FALSE(second);
  CHECK(second.error().reason == "ReviewsForbidden");
  CHECK(Says(api.reviews.Problem(), "subjectaccessreviews.authorization.k8s.io"));
  api.access = true;
  api.clock.Advance(app::Reviews::kPause);
  CHECK(asked());
  CHECK_FALSE(api.reviews.Problem());
}

TEST_CASE("authorizers are asked about the whole user that the token stands for") {
  ReviewApi api;
  api.tokens = api.access = true;
  REQUIRE(
      app::ReviewAccess(api.reviews, "t", {{"nonResourceAttributes", {{"verb", "get"}}}}, "it"));
  const auto review = codec::ParseJson(api.last_body);
  REQUIRE(review);
  CHECK(codec::Dump(codec::GetMember(*review, "spec")) ==
        R"({"extra":{"scopes.example.com/names":["read"]},"groups":["g"],)"
        R"("nonResourceAttributes":{"verb":"get"},"uid":"0-1","user":"u"})");
}

TEST_CASE("a token that the API server has checked for another audience is nobody's") {
  ReviewApi api;
  api.tokens = true;
  const auto answer = [](const char* audience) {
    return fmt::format(
        R"({{"status":{{"authenticated":true,"audiences":["{}"],"user":{{"username":)"
        R"("system:serviceaccount:ns:sa","extra":{{"authentication.kubernetes.io/pod-name":["p"],)"
        R"("authentication.kubernetes.io/pod-uid":["u"]}}}}}}}})",
        audience);
  };
  fleet::HeartbeatTable table({}, [](const meta::ObjectKey&) {});
  app::PodTokens tokens(
      *api.client, api.reviews, table,
      [](const meta::ObjectKey&) { return std::shared_ptr<const api::Workspace>(); }, [] {},
      api.clock);
  std::jthread reviewer([&](std::stop_token stop) { (void)tokens.Run(stop); });
  const auto requests = [&](const char* audience, const char* token) {
    api.who = answer(audience);
    const int before = api.asked;
    CHECK(tokens.Consider(token)->reason == "TokenReviewPending");
    REQUIRE(support::Eventually([&] { return api.asked > before && !tokens.IsReviewing(); }));
    return api.asked - before;
  };
  CHECK(requests(box::kTokenAudience, "eyJh.eyJi.a") == 2);  // The Pod is looked for.
  CHECK(requests("https://kubernetes.default.svc", "eyJh.eyJi.b") == 1);
}

TEST_CASE("an agent in a Pod is told that its token cannot be checked, instead of: soon") {
  ReviewApi api;
  fleet::HeartbeatTable table({}, [](const meta::ObjectKey&) {});
  std::atomic<int> refused{0};
  app::PodTokens tokens(
      *api.client, api.reviews, table,
      [](const meta::ObjectKey&) { return std::shared_ptr<const api::Workspace>(); },
      [&] { ++refused; }, api.clock);
  CHECK_FALSE(tokens.Consider("no-jwt"));
  CHECK(tokens.Consider("eyJh.eyJi.c")->reason == "TokenReviewPending");
  CHECK_FALSE(api.reviews.Token({}));  // What the reviewer's thread finds.
  CHECK(tokens.Consider("eyJh.eyJi.c")->reason == "ReviewsForbidden");
  CHECK(tokens.Consider("eyJx.eyJi.c")->reason == "ReviewsForbidden");

  // Whose agents they are is told, once; again when it goes on for long, or begins anew.
  std::jthread reviewer([&](std::stop_token stop) { (void)tokens.Run(stop); });
  CHECK(support::Eventually([&] { return !tokens.IsReviewing(); }));
  int sent = 0;
  const auto send = [&] {
    const int before = api.asked;
    api.clock.Advance(app::Reviews::kPause);
    CHECK(tokens.Consider(fmt::format("eyJ{}.eyJi.c", ++sent))->reason == "TokenReviewPending");
    return support::Eventually([&] { return api.asked > before; }) &&
           support::Eventually([&] { return !tokens.IsReviewing(); });
  };
  for (int i = 0; i < 3; ++i) CHECK(send());
  CHECK(refused == 1);
  api.clock.Advance(app::Reviews::kRemembered);
  CHECK(send());
  CHECK(refused == 2);
  CHECK(api.reviews.TokenProblem());
  api.tokens = true;
  CHECK(send());
  CHECK_FALSE(api.reviews.TokenProblem());
  api.tokens = false;
  CHECK(send());
  CHECK(refused == 3);
}
