#include "bundle/manifest.hpp"

#include <doctest/doctest.h>

#include "bundle/installed/mcp_settings.hpp"
#include "bundle/installed/receipt.hpp"

using bundle::McpServers;

TEST_CASE("a full manifest is read") {
  auto m = bundle::ParseManifest(
      "name: git-tools\nversion: 1.2\ndescription: does things\nruntimes: [claude-code, "
      "langgraph]\nrequires:\n  - base-skill\n"
      "mcpServers:\n  git:\n    command: ./bin/git-mcp\n    args: [--quiet]\nstate: [data/, "
      "cache.db]\nreload: none\nsomethingNewer: 7\n");
  REQUIRE(m);
  CHECK(m->name == "git-tools");
  CHECK(m->version == "1.2");
  CHECK(m->runtimes.size() == 2);
  CHECK(m->required == std::vector<std::string>{"base-skill"});
  CHECK(m->mcp_servers.at("git") == R"({"args":["--quiet"],"command":"./bin/git-mcp"})");
  CHECK(m->state == std::vector<std::string>{"data", "cache.db"});
  CHECK(m->reload_none);
}

TEST_CASE("bad manifests are refused with the field's name") {
  const std::pair<std::string, std::string> rows[] = {
      {"version: 1\n", "name"},
      {"name: ../x\n", "name"},
      {"name: [a]\n", "name"},
      {"name: a\nname: b\n", ""},
      {"- a\n", "map"},
      {"name: a\n---\nname: b\n", "map"},
      {"name: a\nreload: sometimes\n", "reload"},
      {"name: a\nstate: [../x]\n", "state"},
      {"name: a\nstate: [plugin.yaml]\n", "state"},
      {"name: a\nstate: x\n", "state"},
      {"name: a\nmcpServers: [x]\n", "mcpServers"},
      {"name: a\nmcpServers: {\"a b\": {command: x}}\n", "mcpServers"},
      {"name: a\nmcpServers: {x: {}}\n", "mcpServers.x"},
      {"name: a\nrequires: [1]\n", "requires"},
      {"name: a\ndescription: \"" + std::string(5000, 'x') + "\"\n", "description"},
      {"a: &x [1]\nb: *x\nname: a\n", ""},
      {"name: a\nx: " + std::string(300 << 10, 'y') + "\n", "bytes"},
      {"name: a\nx: " + std::string(500, '[') + std::string(500, ']') + "\n", ""},
  };
  for (const auto& [yaml, word] : rows) {
    CAPTURE(yaml.substr(0, 60));
    const auto m = bundle::ParseManifest(yaml);
    REQUIRE_FALSE(m);
    CHECK(m.error().reason == "ManifestInvalid");
    CHECK(m.error().message.find(word) != std::string::npos);
  }
}

TEST_CASE(
    "a folder with only SKILL.md is a plugin under its folder's name, an empty file is none") {
  const std::string skill = "---\nname: other\ndescription: writes poems\n---\n# Poems\n",
                    odd = "---\n: : :\n---\nx", empty = " \n", yaml = "name: a\n";
  auto m = bundle::SelectManifest(nullptr, &skill, "poems");
  REQUIRE(m);
  CHECK(m->name == "poems");
  CHECK(m->description == "writes poems");
  CHECK(bundle::SelectManifest(nullptr, &odd, "poems"));
  CHECK(bundle::SelectManifest(&yaml, &skill, "poems")->name == "a");
  CHECK(bundle::SelectManifest(nullptr, nullptr, "x").error().reason == "ManifestMissing");
  CHECK(bundle::SelectManifest(&empty, &skill, "x").error().reason == "ManifestMissing");
  CHECK(bundle::SelectManifest(nullptr, &empty, "x").error().reason == "ManifestMissing");
}

TEST_CASE("MCP servers are merged, found and withdrawn; foreign keys stay") {
  const McpServers ours{{"git", R"({"command":"x"})"}},
      newer{{"git", R"({"command":"y"})"}, {"db", R"({"url":"http://h"})"}};
  const std::string foreign = R"({"theme": "dark", "mcpServers": {"theirs": {"command": "t"}}})";
  auto merged = bundle::MergeMcpServers(foreign, {}, ours);
  REQUIRE(merged);
  CHECK(bundle::HasMcpServers(*merged, ours));
  CHECK(bundle::HasMcpServers(*merged, {{"theirs", R"({"command":"t"})"}}));
  CHECK(merged->find("dark") != std::string::npos);
  CHECK(*bundle::MergeMcpServers(*merged, ours, ours) == *merged);
  auto replaced = bundle::MergeMcpServers(*merged, ours, newer);
  REQUIRE(replaced);
  CHECK(bundle::HasMcpServers(*replaced, newer));
  CHECK_FALSE(bundle::HasMcpServers(*replaced, ours));
  auto withdrawn = bundle::MergeMcpServers(*replaced, newer, {});
  REQUIRE(withdrawn);
  CHECK_FALSE(bundle::HasMcpServers(*withdrawn, {{"db", R"({"url":"http://h"})"}}));
  CHECK(bundle::HasMcpServers(*withdrawn, {{"theirs", R"({"command":"t"})"}}));
  CHECK(bundle::HasMcpServers(*bundle::MergeMcpServers("", {}, ours), ours));
  CHECK(*bundle::MergeMcpServers("not json", {}, {}) == "not json");
  CHECK(bundle::MergeMcpServers("not json", {}, ours).error().reason == "SettingsInvalid");
  CHECK(bundle::MergeMcpServers(R"({"mcpServers": []})", {}, ours).error().reason ==
        "SettingsInvalid");
  CHECK(bundle::MergeMcpServers(R"({"mcpServers": {"git": {"command": "mine"}}})", {}, ours)
            .error()
            .reason == "McpServerConflict");
  CHECK(bundle::MergeMcpServers(R"({"mcpServers": {"git": {"command": "x"}}})", {}, ours));
}

TEST_CASE("a receipt survives its file, a damaged one is none") {
  bundle::Receipt r{.name = "a",
                    .source = "gitea://o/r#tag:v1",
                    .revision = "abc",
                    .digest = "sha256:" + std::string(64, '0')};
  r.files = {{"plugin.yaml", 8, false, std::string(64, 'a')},
             {"bin/x", 3, true, std::string(64, 'b')}};
  r.activated_boot_id = "boot-1";
  r.reload_none = r.boot_installed = true;
  r.activated_time = *base::ParseTime("2026-11-21T10:34:13Z");
  r.mcp_servers = {{"git", R"({"command":"x"})"}};
  r.tree_inode = UINT64_MAX;
  r.previous_inode = 12;
  const std::string text = bundle::EncodeReceipt(r);
  REQUIRE(bundle::ParseReceipt(text));
  CHECK(*bundle::ParseReceipt(text) == r);
  for (size_t end = 0; end < text.size(); end += 5)
    CHECK_FALSE(bundle::ParseReceipt(text.substr(0, end)));
  std::string hostile = text;
  hostile.replace(hostile.find("bin/x"), 5, "../ab");
  CHECK(bundle::ParseReceipt(hostile).error().reason == "ReceiptInvalid");
}

TEST_CASE("equal inventories have equal digests in any order") {
  const bundle::InventoryItem a{"a", "r1", "sha256:1", true}, b{"b", "r2", "sha256:2", false};
  bundle::InventoryItem loaded = b;
  loaded.loaded = true;
  bundle::InventoryItem newer = b;  // Put there anew: the operator has to hear of it.
  newer.activated_this_boot = true;
  CHECK(bundle::InventoryDigest({a, b}) == bundle::InventoryDigest({b, a}));
  CHECK(bundle::InventoryDigest({a, b}) != bundle::InventoryDigest({a, loaded}));
  CHECK(bundle::InventoryDigest({a, b}) != bundle::InventoryDigest({a, newer}));
  CHECK(bundle::InventoryDigest({a}) != bundle::InventoryDigest({}));
}
