#include <doctest/doctest.h>
#include <fmt/format.h>

#include <thread>

#include "codec/crd.hpp"
#include "codec/packed_workspace.hpp"
#include "codec/resources.hpp"

namespace {

using codec::Json;
using codec::StringInterner;

base::WallTime At(const char* text) { return *base::ParseTime(text); }

meta::ObjectMeta FullMeta() {
  meta::ObjectMeta meta;
  meta.ns = "team-a";
  meta.name = "w1";
  meta.uid = "6f1c7d36-9e3b-4b53-8f5e-1e0d4a1f3c11";
  meta.resource_version = "18446744073709551615";
  meta.generation = INT64_MAX;
  meta.creation_time = At("2026-11-21T10:34:13Z");
  meta.deletion_time = At("2026-11-21T10:34:13Z") + base::Millis{7};
  meta.labels = {{"a", ""}, {"team", "x"}};
  meta.annotations = {{"molecule.ai/reconcile-requested-at", "2026"}};
  meta.finalizers = {"molecule.ai/box-cleanup"};
  meta.owners = {{"v1", "Pod", "p", "not-a-uuid", true, false}};
  return meta;
}

TEST_CASE("objects with every member come back exactly from their packed form") {
  StringInterner interner;
  const Json workspaces = crd::Load("workspaces"), plugins = crd::Load("declaredplugins");
  for (int variant = 0; variant < 6; ++variant) {
    auto workspace =
        codec::DecodeWorkspace(codec::Dump(crd::Full(crd::Schema(workspaces), variant)));
    auto plugin =
        codec::DecodeDeclaredPlugin(codec::Dump(crd::Full(crd::Schema(plugins), variant)));
    REQUIRE(workspace);
    REQUIRE(plugin);
    workspace->meta = plugin->meta = FullMeta();
    for (int again = 0; again < 3;
         ++again) {  // Perhaps-shared texts are inline first, then numbers.
      const std::string packed = codec::Pack(*workspace, interner);
      CHECK(*codec::UnpackWorkspace(packed, interner) == *workspace);
      CHECK(*codec::UnpackMeta(packed, interner) == workspace->meta);
      CHECK(*codec::UnpackKey(packed, interner) == workspace->meta.Key());
      const std::string other = codec::Pack(*plugin, interner);
      CHECK(*codec::UnpackDeclaredPlugin(other, interner) == *plugin);
      CHECK(other.capacity() <= other.size() + 15);
    }
  }
}

TEST_CASE("a default object and odd texts come back exactly") {
  StringInterner interner;
  CHECK(*codec::UnpackWorkspace(codec::Pack(api::Workspace{}, interner), interner) ==
        api::Workspace{});
  CHECK(codec::Pack(api::Workspace{}, interner).size() == 3);
  CHECK(*codec::UnpackDeclaredPlugin(codec::Pack(api::DeclaredPlugin{}, interner), interner) ==
        api::DeclaredPlugin{});
  for (const char* uid :
       {"6F1C7D36-9e3b-4b53-8f5e-1e0d4a1f3c11", "6f1c7d36_9e3b-4b53-8f5e-1e0d4a1f3c11",
        "6f1c7d36-9e3b-4b53-8f5e-1e0d4a1f3c1g", "x"})
    for (const char* version :
         {"0", "00", "007", "7", "-7", "+7", "18446744073709551616", "a7", " 7"}) {
      meta::ObjectMeta meta;
      meta.uid = uid;
      meta.resource_version = version;
      CHECK(*codec::UnpackMeta(codec::Pack(meta, interner), interner) == meta);
    }
  for (const int64_t millis : {INT64_C(0), INT64_C(-1), INT64_C(1), INT64_C(-86'400'000'000'000),
                               INT64_C(253'402'300'799'999)}) {
    meta::ObjectMeta meta;
    meta.creation_time = base::WallTime{base::Millis{millis}};
    meta.deletion_time = base::WallTime{base::Millis{-millis}};
    CHECK(*codec::UnpackMeta(codec::Pack(meta, interner), interner) == meta);
  }
}

TEST_CASE("damaged bytes are an error, never a crash") {
  StringInterner interner;
  api::Workspace workspace;
  workspace.meta = FullMeta();
  workspace.spec.plugins = {{"a", "local://a"}};
  const std::string packed = codec::Pack(workspace, interner);
  for (size_t length = 0; length < packed.size(); ++length)
    CHECK(!codec::UnpackWorkspace(packed.substr(0, length), interner));
  CHECK(!codec::UnpackWorkspace(packed + "x", interner));
  CHECK(!codec::UnpackWorkspace(packed, StringInterner()));
  for (size_t at = 0; at < packed.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bent = packed;
      bent[at] = static_cast<char>(bent[at] ^ (1 << bit));
      (void)codec::UnpackWorkspace(bent, interner);
    }
}

TEST_CASE("a full interner packs inline and loses nothing") {
  StringInterner none({.bytes = 0, .count = 0, .max_length = 0});
  StringInterner little({.bytes = 20, .count = 3, .max_length = 10});
  api::Workspace workspace;
  workspace.meta = FullMeta();
  for (StringInterner* interner : {&none, &little})
    CHECK(*codec::UnpackWorkspace(codec::Pack(workspace, *interner), *interner) == workspace);
  CHECK(none.Used().count == 0);
  CHECK(little.Used().bytes <= 20);
  CHECK(little.Used().count <= 3);
}

TEST_CASE("a text that comes once, or with an own write and its echo, does not stay") {
  StringInterner interner;
  CHECK(!interner.InternRepeated("once"));
  CHECK(!interner.InternRepeated("once"));
  CHECK(interner.Used().count == 0);
  const auto number = interner.InternRepeated("once");
  REQUIRE(number);
  CHECK(interner.Find(*number) == "once");
  CHECK(interner.InternRepeated("once") == number);
  CHECK(interner.Intern("once") == number);
  CHECK(!interner.Find(*number + 1));
}

TEST_CASE("threads that intern the same texts get the same numbers") {
  StringInterner interner;
  std::vector<std::vector<uint32_t>> numbers(4, std::vector<uint32_t>(5000));
  {
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < numbers.size(); ++t)
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < numbers[t].size(); ++i) {
          const size_t at = t % 2 == 0 ? i : numbers[t].size() - 1 - i;
          numbers[t][at] = *interner.Intern("text " + std::to_string(at));
          if (interner.Find(numbers[t][at]) != "text " + std::to_string(at))
            numbers[t][at] = UINT32_MAX;
        }
      });
  }
  for (const auto& one : numbers) CHECK(one == numbers[0]);
  CHECK(interner.Used().count == 5000);
}

api::DeclaredPlugin TypicalPlugin(int i) {
  api::DeclaredPlugin p;
  p.meta.ns = fmt::format("team-{}", i % 200);
  p.meta.name = fmt::format("plugin-{:06}", i);
  p.meta.uid = fmt::format("{:08x}-9e3b-4b53-8f5e-1e0d4a1f3c11", i * 2654435761u);
  p.meta.resource_version = std::to_string(5'000'000 + i);
  p.meta.generation = 2;
  p.meta.creation_time = At("2026-11-21T10:34:13Z") + base::Seconds{i};
  p.meta.labels = {{"app.kubernetes.io/managed-by", "argocd"}, {"team", p.meta.ns}};
  p.spec.workspace_ref = api::LocalRef{fmt::format("workspace-{:05}", i / 5)};
  p.spec.source = fmt::format("github://example/plugins/plugin-{}#tag:v1.2.{}", i % 1000, i % 3);
  p.status.observed_generation = 2;
  p.status.resolved = api::ResolvedSource{"v1.2.0",
                                          "Tag",
                                          fmt::format("{:040x}", i % 3000),
                                          fmt::format("sha256:{:064x}", i % 3000),
                                          12345,
                                          At("2026-11-21T10:34:20Z") + base::Seconds{i}};
  p.status.workspaces = api::WorkspaceCounts{1, 1, 0, 0, 0, {}};
  for (const char* type :
       {"Ready", "Reconciling", "Stalled", "Accepted", "SourceResolved", "Conflict"})
    p.status.conditions.push_back({type, meta::ConditionStatus::kTrue, 2,
                                   At("2026-11-21T10:34:25Z") + base::Seconds{i}, "Succeeded",
                                   "the plugin is on 1 of 1 workspaces and loaded"});
  return p;
}

TEST_CASE("a typical DeclaredPlugin packs into less than 150 bytes") {
  StringInterner interner;
  size_t bytes = 0;
  for (int i = 0; i < 5000; ++i) {
    const api::DeclaredPlugin plugin = TypicalPlugin(i);
    const std::string packed = codec::Pack(plugin, interner);
    bytes += packed.size();
    if (i % 100 == 0) CHECK(*codec::UnpackDeclaredPlugin(packed, interner) == plugin);
  }
  MESSAGE("bytes a DeclaredPlugin: ", bytes / 5000, ", interner: ", interner.Used().bytes / 5000);
  CHECK(bytes / 5000 < 150);
}

}  // namespace
