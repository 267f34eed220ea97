#include <atomic>
#include <set>

#include "contract/served_api.hpp"

using namespace contract;
using base::Code;

TEST_CASE("api contract: an object is created, read, replaced under its lock and deleted") {
  const ServedApi api;
  Json object = api.CreatePlugin("a");
  CHECK(object["metadata"]["generation"] == 1);
  CHECK(object["metadata"]["uid"].get<std::string>().size() == 36);
  CHECK(Parsed(api->Get(api.Plugin("a"))) == object);

  const auto again = api->Create(api.Plugins(), codec::Dump(api.PluginObject("a")));
  CHECK(CodeOf(again) == Code::kAlreadyExists);
  CHECK(again.error().reason == "AlreadyExists");

  object["spec"]["source"] = ServedApi::Source("v2");
  const Json newer = Parsed(api->Update(api.Plugin("a"), codec::Dump(object)));
  CHECK(newer["metadata"]["generation"] == 2);
  CHECK(VersionOf(newer) != VersionOf(object));
  CHECK(CodeOf(api->Update(api.Plugin("a"), codec::Dump(object))) == Code::kConflict);

  CHECK(CodeOf(api->Delete(api.Plugin("a"), {.uid = "other"})) == Code::kConflict);
  CHECK(CodeOf(api->Delete(api.Plugin("a"), {.resource_version = VersionOf(object)})) ==
        Code::kConflict);
  CHECK(api->Delete(api.Plugin("a"), {.uid = object["metadata"]["uid"]}).has_value());
  CHECK(CodeOf(api->Get(api.Plugin("a"))) == Code::kNotFound);
  CHECK(CodeOf(api->Delete(api.Plugin("a"))) == Code::kNotFound);
  CHECK(CodeOf(api->Update(api.Plugin("a"), codec::Dump(newer))) == Code::kNotFound);
}

TEST_CASE("api contract: a write that changes nothing keeps the version") {
  const ServedApi api;
  api.CreatePlugin("a");
  // A real API server stores the default of a status with the first write after the creation.
  const Json object = api.Retag("a", "v1");
  CHECK(VersionOf(api.Retag("a", "v1")) == VersionOf(object));
  CHECK(VersionOf(Parsed(api->Update(api.Plugin("a"), codec::Dump(object)))) == VersionOf(object));
}

TEST_CASE("api contract: what is wrong is refused and named") {
  const ServedApi api;
  Json bad = api.PluginObject("a");
  bad["spec"]["source"] = "not a source";
  const auto invalid = api->Create(api.Plugins(), codec::Dump(bad));
  CHECK(CodeOf(invalid) == Code::kInvalid);
  CHECK(MessageOf(invalid).find("spec.source") != std::string::npos);

  Json unknown = api.PluginObject("a");
  unknown["spec"]["sorce"] = "x";
  const auto strict = api->Create(api.Plugins(), codec::Dump(unknown), {.strict = true});
  CHECK(CodeOf(strict) == Code::kInvalid);
  CHECK(MessageOf(strict).find("sorce") != std::string::npos);
  const Json pruned = Parsed(api->Create(api.Plugins(), codec::Dump(unknown)));
  CHECK_FALSE(pruned["spec"].contains("sorce"));

  Json elsewhere = api.PluginObject("b");
  elsewhere["metadata"]["namespace"] = "another";
  CHECK(CodeOf(api->Create(api.Plugins(), codec::Dump(elsewhere))) == Code::kInvalid);
  CHECK(CodeOf(api->Create(api.Plugins(), "{")) == Code::kInvalid);
  Json name = api.PluginObject("Not_A_Name");
  CHECK(CodeOf(api->Create(api.Plugins(), codec::Dump(name))) == Code::kInvalid);
  CHECK(CodeOf(api->GetRaw("/apis/molecule.ai/v1alpha1/nothing")) == Code::kNotFound);
}

TEST_CASE("api contract: a dry run validates and writes nothing") {
  const ServedApi api;
  CHECK(api->Create(api.Plugins(), codec::Dump(api.PluginObject("a")), {.dry_run = true})
            .has_value());
  CHECK(CodeOf(api->Get(api.Plugin("a"))) == Code::kNotFound);
  const Json object = api.CreatePlugin("a");
  CHECK(api->Delete(api.Plugin("a"), {.dry_run = true}).has_value());
  const Json patch = {{"spec", {{"source", ServedApi::Source("v9")}}}};
  const Json shown = Parsed(api->Patch(
      api.Plugin("a"), {kube::PatchType::kMerge, codec::Dump(patch)}, {.dry_run = true}));
  CHECK(shown["spec"]["source"] == ServedApi::Source("v9"));
  CHECK(Parsed(api->Get(api.Plugin("a"))) == object);
}

TEST_CASE("api contract: status and spec are written by different doors") {
  const ServedApi api;
  const Json made = api.CreatePlugin("a");
  const Json both = {{"spec", {{"source", ServedApi::Source("v5")}}},
                     {"status", {{"observedGeneration", 1}}}};
  const Json status =
      Parsed(api->PatchStatus(api.Plugin("a"), {kube::PatchType::kMerge, codec::Dump(both)}));
  CHECK(status["status"]["observedGeneration"] == 1);
  CHECK(status["spec"] == made["spec"]);
  CHECK(status["metadata"]["generation"] == 1);
  const Json other = {{"spec", {{"source", ServedApi::Source("v5")}}},
                      {"status", {{"observedGeneration", 7}}}};
  const Json spec = Parsed(api.Merge(api.Plugin("a"), other));
  CHECK(spec["status"]["observedGeneration"] == 1);
  CHECK(spec["metadata"]["generation"] == 2);
  // A version in the patch is a lock.
  const Json stale = {{"metadata", {{"resourceVersion", VersionOf(made)}}},
                      {"status", {{"observedGeneration", 2}}}};
  CHECK(CodeOf(api->PatchStatus(api.Plugin("a"), {kube::PatchType::kMerge, codec::Dump(stale)})) ==
        Code::kConflict);
}

TEST_CASE(
    "api contract: another uid: a conflict to replace, invalid to patch, ignored in a status") {
  const ServedApi api;
  const std::string other = "11111111-1111-1111-1111-111111111111";
  const Json made = api.CreatePlugin("a");
  const Json patch = {{"metadata", {{"uid", other}}}, {"status", {{"observedGeneration", 1}}}};
  const kube::Patch merge{kube::PatchType::kMerge, codec::Dump(patch)};
  const kube::Patch json{kube::PatchType::kJson,
                         R"([{"op":"replace","path":"/metadata/uid","value":")" + other + "\"}]"};
  Json config = api.PluginObject("a");
  config["metadata"]["uid"] = other;
  const kube::Patch apply{kube::PatchType::kApply, codec::Dump(config)};
  const kube::WriteOptions by{.field_manager = "other", .force = true};

  for (const auto& one : {merge, json, apply}) {
    CAPTURE(one.body);
    const auto refused = api->Patch(api.Plugin("a"), one, by);
    CHECK(CodeOf(refused) == Code::kInvalid);
    CHECK(MessageOf(refused).find("metadata.uid: Invalid value: \"" + other +
                                  "\": field is immutable") != std::string::npos);
  }
  Json replaced = made;
  replaced["metadata"]["uid"] = other;
  CHECK(CodeOf(api->Update(api.Plugin("a"), codec::Dump(replaced))) == Code::kConflict);
  replaced["metadata"].erase("uid");
  CHECK(api->Update(api.Plugin("a"), codec::Dump(replaced)).has_value());
  Json none = config;
  none["metadata"]["name"] = "none";
  CHECK(CodeOf(api->Patch(api.Plugin("none"), {kube::PatchType::kApply, codec::Dump(none)}, by)) ==
        Code::kConflict);

  for (const auto& one : {merge, json}) {
    CAPTURE(one.body);
    const Json status = Parsed(api->PatchStatus(api.Plugin("a"), one));
    CHECK(status["metadata"]["uid"] == made["metadata"]["uid"]);
    CHECK(status["status"]["observedGeneration"] == 1);
  }
  // The lock is looked at all the same.
  const Json locked = {{"metadata", {{"uid", other}, {"resourceVersion", "1"}}},
                       {"status", {{"observedGeneration", 2}}}};
  const kube::Patch old{kube::PatchType::kMerge, codec::Dump(locked)};
  CHECK(CodeOf(api->PatchStatus(api.Plugin("a"), old)) == Code::kConflict);
  CHECK(CodeOf(api->Patch(api.Plugin("a"), old)) == Code::kConflict);
}

TEST_CASE("api contract: JSON patches test and change") {
  const ServedApi api;
  api.CreatePlugin("a");
  const auto patch = [&](const char* text) {
    return api->Patch(api.Plugin("a"), {kube::PatchType::kJson, text});
  };
  CHECK(patch(R"([{"op":"test","path":"/metadata/labels/tag","value":"v1"},
                  {"op":"replace","path":"/metadata/labels/tag","value":"v2"}])")
            .has_value());
  CHECK(CodeOf(patch(R"([{"op":"test","path":"/metadata/labels/tag","value":"v1"}])")) ==
        Code::kInvalid);
  CHECK(Parsed(api->Get(api.Plugin("a")))["metadata"]["labels"]["tag"] == "v2");
}

TEST_CASE("api contract: server-side apply owns fields, and takes them only by force") {
  const ServedApi api;
  const auto apply = [&](const char* manager, const char* tag, bool force) {
    return api->Patch(api.Plugin("a"),
                      {kube::PatchType::kApply, codec::Dump(api.PluginObject("a", tag))},
                      {.field_manager = manager, .force = force});
  };
  REQUIRE(apply("one", "v1", false).has_value());
  const Json made = Parsed(apply("one", "v1", false));  // Stores the status's default, see above.
  CHECK(VersionOf(Parsed(apply("one", "v1", false))) == VersionOf(made));
  const auto refused = apply("two", "v2", false);
  CHECK(CodeOf(refused) == Code::kConflict);
  CHECK(MessageOf(refused).find(".spec.source") != std::string::npos);
  CHECK(MessageOf(refused).find("one") != std::string::npos);
  CHECK(Parsed(apply("two", "v2", true))["spec"]["source"] == ServedApi::Source("v2"));
  CHECK(CodeOf(apply("one", "v1", false)) == Code::kConflict);
}

TEST_CASE("api contract: a finalizer keeps what is being deleted") {
  const ServedApi api;
  Json object = api.PluginObject("a");
  object["metadata"]["finalizers"] = {"molecule.ai/test"};
  REQUIRE(api->Create(api.Plugins(), codec::Dump(object)).has_value());
  REQUIRE(api->Delete(api.Plugin("a")).has_value());
  const Json leaving = Parsed(api->Get(api.Plugin("a")));
  CHECK(leaving["metadata"].contains("deletionTimestamp"));
  CHECK(leaving["metadata"]["generation"] == 2);
  const auto more = api.Merge(
      api.Plugin("a"), {{"metadata", {{"finalizers", {"molecule.ai/test", "molecule.ai/x"}}}}});
  CHECK(CodeOf(more) == Code::kInvalid);  // None may be added any more.
  REQUIRE(api.Merge(api.Plugin("a"), {{"metadata", {{"finalizers", nullptr}}}}).has_value());
  CHECK(CodeOf(api->Get(api.Plugin("a"))) == Code::kNotFound);
}

TEST_CASE("api contract: a list is whole however it is cut into pages") {
  const ServedApi api;
  for (int i = 0; i < 25; ++i) api.CreatePlugin("p" + std::to_string(i), i % 5 ? "v1" : "v2");
  const auto names = [&](const kube::ListOptions& options) {
    std::multiset<std::string> seen;
    const auto listed = Value(api->ListEach(api.Plugins(), options, [&](std::string_view item) {
      seen.insert(codec::ParseJson(item).value()["metadata"]["name"].get<std::string>());
      return base::Status();
    }));
    CHECK(listed.items == seen.size());
    CHECK_FALSE(listed.resource_version.empty());
    return seen;
  };
  const auto all = names({.page_size = 0});
  CHECK(all.size() == 25);
  CHECK(std::set<std::string>(all.begin(), all.end()).size() == 25);
  for (const int size : {1, 7, 25, 100}) CHECK(names({.page_size = size}) == all);
  CHECK(names({.label_selector = "tag=v2", .page_size = 2}).size() == 5);
  CHECK(names({.label_selector = "tag notin (v2)"}).size() == 20);
  CHECK(names({.label_selector = "!tag"}).empty());
  CHECK(names({.field_selector = "metadata.name=p3"}) == std::multiset<std::string>{"p3"});
  CHECK(names({.resource_version = "0"}).size() <= 25);  // May be old, never wrong.
  CHECK(names({.resource_version = api.ListVersion(), .resource_version_match = "NotOlderThan"}) ==
        all);
  // What is written while pages are read does not change the list that was begun.
  std::multiset<std::string> during;
  CHECK(api->ListEach(api.Plugins(), {.page_size = 10},
                      [&](std::string_view item) {
                        during.insert(
                            codec::ParseJson(item).value()["metadata"]["name"].get<std::string>());
                        if (during.size() == 1) {
                          CHECK(api->Delete(api.Plugin("p24")).has_value());
                          api.CreatePlugin("p99");
                        }
                        return base::Status();
                      })
            .has_value());
  CHECK(during == all);
  CHECK(CodeOf(api->ListEach(api.Plugins(), {.label_selector = "tag in v2"},
                             [](std::string_view) { return base::Status(); })) == Code::kInvalid);
}

TEST_CASE("api contract: writers that lose the race and try again lose nothing") {
  const ServedApi api;
  const Json map = {{"apiVersion", "v1"},
                    {"kind", "ConfigMap"},
                    {"metadata", {{"name", "count"}, {"namespace", api.ns}}},
                    {"data", {{"n", "0"}}}};
  REQUIRE(api->Create(api.Maps(), codec::Dump(map)).has_value());
  std::vector<std::thread> writers;
  std::atomic<int> failures = 0;
  for (int t = 0; t < 4; ++t)
    writers.emplace_back([&] {
      for (int i = 0; i < 10; ++i) {
        for (;;) {
          auto read = api->Get(api.Map("count"));
          if (!read) ++failures;
          Json object = codec::ParseJson(read.value()).value();
          object["data"]["n"] =
              std::to_string(std::stoi(object["data"]["n"].get<std::string>()) + 1);
          const auto written = api->Update(api.Map("count"), codec::Dump(object));
          if (written) break;
          if (written.error().code != Code::kConflict) ++failures;
        }
      }
    });
  for (auto& writer : writers) writer.join();
  CHECK(failures == 0);
  CHECK(Parsed(api->Get(api.Map("count")))["data"]["n"] == "40");
}

TEST_CASE("api contract: secrets, leases, events and reviews, as the operator uses them") {
  const ServedApi api;
  const Json secret = {{"apiVersion", "v1"},
                       {"kind", "Secret"},
                       {"metadata", {{"name", "s"}, {"namespace", api.ns}}},
                       {"stringData", {{"token", "abc"}}}};
  const Json kept = Parsed(api->Create({kube::kSecrets, api.ns}, codec::Dump(secret)));
  CHECK(kept["data"]["token"] == "YWJj");
  CHECK_FALSE(kept.contains("stringData"));
  CHECK(kept["type"] == "Opaque");

  const Json lease = {{"apiVersion", "coordination.k8s.io/v1"},
                      {"kind", "Lease"},
                      {"metadata", {{"name", "l"}, {"namespace", api.ns}}},
                      {"spec",
                       {{"holderIdentity", "one"},
                        {"leaseDurationSeconds", 15},
                        {"renewTime", "2026-01-02T03:04:05.678901Z"}}}};
  Json held = Parsed(api->Create({kube::kLeases, api.ns}, codec::Dump(lease)));
  CHECK(held["spec"]["renewTime"] == "2026-01-02T03:04:05.678901Z");
  const Json before = held;
  held["spec"]["holderIdentity"] = "two";
  CHECK(api->Update({kube::kLeases, api.ns, "l"}, codec::Dump(held)).has_value());
  CHECK(CodeOf(api->Update({kube::kLeases, api.ns, "l"}, codec::Dump(before))) == Code::kConflict);

  const Json review = {{"apiVersion", "authorization.k8s.io/v1"},
                       {"kind", "SelfSubjectAccessReview"},
                       {"spec",
                        {{"resourceAttributes",
                          {{"group", "molecule.ai"},
                           {"resource", "declaredplugins"},
                           {"verb", "create"},
                           {"namespace", api.ns}}}}}};
  const Json may = Parsed(
      api->PostRaw("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", codec::Dump(review)));
  CHECK(may["status"]["allowed"] == true);
  const Json token = {{"apiVersion", "authentication.k8s.io/v1"},
                      {"kind", "TokenReview"},
                      {"spec", {{"token", "nobody's"}}}};
  const Json who =
      Parsed(api->PostRaw("/apis/authentication.k8s.io/v1/tokenreviews", codec::Dump(token)));
  CHECK_FALSE(codec::GetBool(who["status"], "authenticated"));
}
