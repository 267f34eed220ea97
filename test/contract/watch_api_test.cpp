#include "contract/served_api.hpp"

using namespace contract;
using base::Code;

TEST_CASE("api contract: a watch from a list's version has every change once, in order") {
  const ServedApi api;
  api.CreatePlugin("old");
  WatchLog watch(api.Client(), api.Plugins(), {.resource_version = api.ListVersion()});
  api.CreatePlugin("a");
  api.Retag("a", "v2");
  api.Retag("old", "v3");
  REQUIRE(api->Delete(api.Plugin("a")).has_value());
  REQUIRE(watch.Await(4));
  CHECK(watch.Seen() == "+a@v1 ~a@v2 ~old@v3 -a@v2");
}

TEST_CASE("api contract: the version of a deletion is newer than the object's last") {
  const ServedApi api;
  const Json made = api.CreatePlugin("a");
  WatchLog watch(api.Client(), api.Plugins(), {.resource_version = api.ListVersion()});
  REQUIRE(api->Delete(api.Plugin("a")).has_value());
  REQUIRE(watch.Await(1));
  CHECK(std::stoll(watch.LastVersion()) > std::stoll(VersionOf(made)));
}

TEST_CASE("api contract: a watch without a version begins with what there is") {
  const ServedApi api;
  api.CreatePlugin("a");
  WatchLog watch(api.Client(), api.Plugins(), {});
  REQUIRE(watch.Await(2));
  api.CreatePlugin("b");
  REQUIRE(watch.Await(3));
  CHECK(watch.Seen() == "+a@v1 end +b@v1");
}

TEST_CASE("api contract: a streamed list ends with its marker, and goes on as a watch") {
  const ServedApi api;
  api.CreatePlugin("a");
  const Json last = api.CreatePlugin("b");
  WatchLog watch(api.Client(), api.Plugins(), {.send_initial_events = true});
  REQUIRE(watch.Await(3));
  CHECK(watch.Seen() == "+a@v1 +b@v1 end");
  CHECK(std::stoll(watch.LastVersion()) >= std::stoll(VersionOf(last)));
  api.Retag("a", "v2");
  REQUIRE(watch.Await(4));
  CHECK(watch.Seen() == "+a@v1 +b@v1 end ~a@v2");
}

TEST_CASE("api contract: an empty streamed list has its marker too") {
  const ServedApi api;
  WatchLog watch(api.Client(), api.Plugins(), {.send_initial_events = true});
  REQUIRE(watch.Await(1));
  CHECK(watch.Seen() == "end");
}

TEST_CASE("api contract: a watch that ends by its time-out is orderly; the next goes on from it") {
  const ServedApi api;
  api.CreatePlugin("a");
  std::string version = api.ListVersion();
  {
    WatchLog first(api.Client(), api.Plugins(),
                   {.resource_version = version, .timeout_seconds = 2});
    api.Retag("a", "v2");
    REQUIRE(first.AwaitEnd());
    CHECK(first.Ended().has_value());
    const std::string seen = first.Seen();
    CHECK((seen == "~a@v2" || seen == "~a@v2 bookmark"));
    version = first.LastVersion();
  }
  api.Retag("a", "v3");
  WatchLog second(api.Client(), api.Plugins(), {.resource_version = version});
  REQUIRE(second.Await(1));
  CHECK(second.Seen() == "~a@v3");
}

TEST_CASE("api contract: before its end a watch tells of the version that nothing else told of") {
  const ServedApi api, elsewhere;
  WatchLog watch(api.Client(), api.Plugins(),
                 {.resource_version = api.ListVersion(), .timeout_seconds = 6});
  api.CreatePlugin("a");
  REQUIRE(watch.Await(1));
  const Json other = elsewhere.CreatePlugin("b");  // In another namespace.
  REQUIRE(watch.AwaitEnd());
  CHECK(watch.Seen().starts_with("+a@v1 bookmark"));  // A real server may send it twice.
  CHECK(std::stoll(watch.LastVersion()) >= std::stoll(VersionOf(other)));
}

TEST_CASE("api contract: to a selective watch, what leaves the selection is deleted") {
  const ServedApi api;
  api.CreatePlugin("in", "v1");
  api.CreatePlugin("out", "v2");
  WatchLog watch(api.Client(), api.Plugins(),
                 {.resource_version = api.ListVersion(), .label_selector = "tag=v1"});
  api.Retag("in", "v2");   // Leaves.
  api.Retag("out", "v3");  // Nobody's concern.
  api.Retag("in", "v1");   // Comes back.
  REQUIRE(watch.Await(2));
  CHECK(watch.Seen() == "-in@v1 +in@v1");
}

TEST_CASE("api contract: a version that is forgotten is Gone") {
  const ServedApi api;
  const std::string version = api.ListVersion();
  api.CreatePlugin("a");
  // The embedded server of this process keeps 200 changes; a real one, asked from version 1, has
  // always forgotten.
  for (int i = 0; i < 260; ++i) api.Retag("a", "v" + std::to_string(i + 2));
  const bool embedded = std::getenv("WO_CONTRACT_KUBECONFIG") == nullptr;
  WatchLog watch(api.Client(), api.Plugins(), {.resource_version = embedded ? version : "1"});
  REQUIRE(watch.AwaitEnd());
  // Either as the answer, or as the first event.
  if (watch.Ended().has_value())
    CHECK(watch.Seen() == "error 410");
  else
    CHECK(CodeOf(watch.Ended()) == Code::kGone);
}

TEST_CASE("api contract: a version that is not there yet is refused for now, never answered") {
  const ServedApi api({.max_attempts = 1});
  const std::string far = std::to_string(std::stoll(api.ListVersion()) + 1'000'000);
  const auto listed = api->ListEach(api.Plugins(),
                                    {.resource_version = far,
                                     .resource_version_match = "NotOlderThan",
                                     .call = {.deadline = base::Millis{10'000}}},
                                    [](std::string_view) { return base::Status(); });
  CHECK(CodeOf(listed) == Code::kTimeout);
}

TEST_CASE("api contract: a watch stops at once when it is told to") {
  const ServedApi api;
  const auto begin = std::chrono::steady_clock::now();
  {
    WatchLog watch(api.Client(), api.Plugins(), {.send_initial_events = true});
    REQUIRE(watch.Await(1));
  }
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds{5});
}
