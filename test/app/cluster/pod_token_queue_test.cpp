#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "app/cluster/pod_tokens.hpp"
#include "box/pod/managed_pod.hpp"
#include "codec/json.hpp"
#include "support/byte_server.hpp"
#include "support/eventually.hpp"
#include "support/fake_clock.hpp"

namespace {

using support::ByteConnection;
using support::ByteRequest;
using support::Eventually;

/// An API server that vouches for every token, when the test lets it: all are of one Pod, the box
/// of one Workspace.
class Vouching {
 public:
  std::atomic<int> latency{0};  ///< Of each answer, in milliseconds.
  std::function<bool(ByteConnection&, const std::string& token)> before;  ///< False: it answered.

  /// Tokens in the order in which they were asked about.
  std::vector<std::string> Asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  int Now() const { return now_; }
  int MostAtOnce() const { return most_; }

 private:
  void Serve(ByteConnection& to, const ByteRequest& in) {
    if (latency != 0) std::this_thread::sleep_for(std::chrono::milliseconds(latency.load()));
    if (in.method == "GET") {
      to.Answer(200,
                R"({"metadata":{"name":"w-box","namespace":"team","uid":"u","ownerReferences":[)"
                R"({"apiVersion":"molecule.ai/v1alpha1","kind":"Workspace","name":"w",)"
                R"("uid":"w-uid"}]}})");
      return;
    }
    const auto review = codec::ParseJson(in.body);
    const std::string token = codec::GetString(codec::GetMember(*review, "spec"), "token");
    const int now = ++now_;
    for (int most = most_; most < now && !most_.compare_exchange_weak(most, now);) {
    }
    {
      const std::lock_guard lock(mutex_);
      asked_.push_back(token);
    }
    const bool answer = !before || before(to, token);
    --now_;
    if (answer)
      to.Answer(
          201,
          fmt::format(
              R"({{"status":{{"authenticated":true,"audiences":["{}"],"user":{{"username":)"
              R"("system:serviceaccount:team:sa","extra":{{"authentication.kubernetes.io/pod-name":)"
              R"(["w-box"],"authentication.kubernetes.io/pod-uid":["u"]}}}}}}}})",
              box::kTokenAudience));
  }

  mutable std::mutex mutex_;
  std::vector<std::string> asked_;
  std::atomic<int> now_{0}, most_{0};

 public:
  support::ByteServer server{[this](ByteConnection& to, const ByteRequest& in) { Serve(to, in); }};
};

std::string Token(int number, size_t padding = 0) {
  return fmt::format("eyJ{}.eyJ{}.c", number, std::string(padding, 'x'));
}

/// The tokens' side of an operator.
struct World {
  Vouching api;
  std::unique_ptr<kube::Client> client = [this] {
    kube::ClientConfig config;
    config.server = api.server.Url();
    return *kube::Client::Create(config);
  }();
  support::FakeClock clock;
  app::Reviews reviews{*client, clock};
  fleet::HeartbeatTable table{{}, [](const meta::ObjectKey&) {}};
  std::shared_ptr<api::Workspace> workspace = [] {
    auto out = std::make_shared<api::Workspace>();
    out->meta.ns = "team";
    out->meta.name = "w";
    out->meta.uid = "w-uid";
    out->spec.box.type = api::BoxType::kPod;
    out->spec.box.pod = api::PodBox{};
    out->spec.box.pod->image = "i";
    return out;
  }();
  app::PodTokens tokens{
      *client, reviews, table, [this](const meta::ObjectKey&) { return workspace; }, [] {}, clock};

  void Send(int from, int to) {
    for (int i = from; i < to; ++i)
      CHECK(tokens.Consider(Token(i))->reason == "TokenReviewPending");
  }
  std::jthread Run() {
    return std::jthread([this](std::stop_token stop) { (void)tokens.Run(std::move(stop)); });
  }
};

}  // namespace

TEST_CASE("tokens are found out side by side, a bounded number at once") {
  World w;
  // Only when as many are asked about as may be, and not one more comes in a while.
  std::atomic<bool> together{false};
  w.api.before = [&](ByteConnection& to, const std::string&) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{20};
    while (!together && std::chrono::steady_clock::now() < end) {
      if (w.api.Now() == app::PodTokens::kReviewers) to.StaySilent(100);
      if (w.api.Now() == app::PodTokens::kReviewers) together = true;
      to.StaySilent(1);
    }
    return true;
  };
  w.Send(0, 60);
  const auto run = w.Run();
  std::jthread another([&] { w.Send(0, 60); });
  w.Send(0, 60);
  another.join();
  REQUIRE(Eventually([&] { return !w.tokens.IsReviewing(); }));
  CHECK(w.api.MostAtOnce() == app::PodTokens::kReviewers);
  const auto asked = w.api.Asked();
  std::map<std::string, int> times;
  for (const std::string& token : asked) ++times[token];
  // Whoever sends after the answer is asked about again here: the table has no such workspace.
  CHECK(times.size() == 60);
  CHECK(w.tokens.Count().accepted == asked.size());
}

TEST_CASE("a token that is being asked about is not asked about a second time") {
  World w;
  std::atomic<bool> go{false};
  w.api.before = [&](ByteConnection& to, const std::string&) {
    while (!go && !to.Over()) to.StaySilent(1);
    return true;
  };
  const auto run = w.Run();
  w.Send(0, 1);
  REQUIRE(Eventually([&] { return w.api.Now() == 1; }));
  for (int i = 0; i < 20; ++i) w.Send(0, 1);
  w.Send(1, 2);  // By then another reviewer would have taken one of those.
  REQUIRE(Eventually([&] { return w.api.Now() == 2; }));
  CHECK(w.tokens.Count().waiting == 2);
  go = true;
  REQUIRE(Eventually([&] { return !w.tokens.IsReviewing(); }));
  CHECK(w.api.Asked().size() == 2);
}

TEST_CASE("who came first is answered first, however often others are sent again") {
  World w;
  std::atomic<bool> go{false};
  w.api.before = [&](ByteConnection& to, const std::string&) {
    while (!go && !to.Over()) to.StaySilent(1);
    return true;
  };
  const auto run = w.Run();
  w.Send(0, app::PodTokens::kReviewers);  // All have work: the next ones wait.
  REQUIRE(Eventually([&] { return w.api.Now() == app::PodTokens::kReviewers; }));
  w.Send(100, 140);
  for (int i = 0; i < 5; ++i) w.Send(120, 180);
  go = true;
  REQUIRE(Eventually([&] { return !w.tokens.IsReviewing(); }));
  const auto asked = w.api.Asked();
  REQUIRE(asked.size() == 80 + app::PodTokens::kReviewers);
  const auto place = [&](int number) {
    return std::find(asked.begin(), asked.end(), Token(number)) - asked.begin();
  };
  constexpr int kSlack = app::PodTokens::kReviewers;
  // Side by side: not in order to the last one, and each reviewer may be held up with one.
  int late = 0;
  for (int i = 100; i < 180; ++i) late += std::abs(place(i) - (i - 100) - kSlack) > kSlack;
  CHECK(late <= kSlack);
}

TEST_CASE("so many wait at most, so many bytes of them, and who found no room comes later") {
  World w;
  constexpr int kMost = app::PodTokens::kMostWaiting;
  w.Send(0, kMost + 10);
  CHECK(w.tokens.Count().waiting == kMost);
  CHECK(w.tokens.Count().turned_away == 10);
  w.Send(0, 10);  // They have a place: they are not turned away.
  CHECK(w.tokens.Count().turned_away == 10);

  World large;
  const size_t size = Token(10'000, 4'000).size();
  const size_t room = app::PodTokens::kMostBytes / size;
  for (size_t i = 0; i < room + 5; ++i)
    (void)large.tokens.Consider(Token(10'000 + static_cast<int>(i), 4'000));
  CHECK(large.tokens.Count().waiting == room);
  CHECK(large.tokens.Count().turned_away == 5);
  const auto run = large.Run();
  REQUIRE(Eventually([&] { return large.tokens.Count().waiting + 20 < room; }));
  (void)large.tokens.Consider(Token(10'000 + static_cast<int>(room) + 1, 4'000));
  CHECK(large.tokens.Count().turned_away == 5);
}

TEST_CASE("a token that the API server puts off with 429 waits for itself alone") {
  World w;
  std::atomic<bool> busy{true};
  w.api.before = [&](ByteConnection& to, const std::string& token) {
    return token != Token(0) || !busy || !to.Answer(429, "", "Retry-After: 1\r\n");
  };
  const auto run = w.Run();
  w.Send(0, 1);
  w.Send(1, 200);
  CHECK(Eventually([&] { return w.tokens.Count().accepted == 199; }));
  CHECK(w.tokens.Count().waiting == 1);
  busy = false;
  CHECK(Eventually([&] { return w.tokens.Count().accepted == 200; }));
}

TEST_CASE("an API server that does not answer holds up no stop, and nobody is denied for it") {
  World w;
  w.api.before = [](ByteConnection& to, const std::string&) {
    to.FallSilent();
    return false;
  };
  w.Send(0, 100);
  auto run = w.Run();
  REQUIRE(Eventually([&] { return w.api.Now() == app::PodTokens::kReviewers; }));
  const auto begin = std::chrono::steady_clock::now();
  run.request_stop();
  run.join();
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds{5});
  CHECK(w.tokens.Count().denied == 0);
  CHECK(w.tokens.Count().unanswered == app::PodTokens::kReviewers);
  CHECK(w.tokens.Consider(Token(0))->reason == "TokenReviewPending");
}
