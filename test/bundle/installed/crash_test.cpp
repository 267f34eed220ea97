#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "base/child_process.hpp"
#include "bundle/installed/installed_plugins.hpp"
#include "support/plugin_tar.hpp"

using namespace support;
namespace fs = std::filesystem;

/// The places to die at are not picked by hand: a first run prints them, then one run dies at each.
namespace {

constexpr char kServers[] = "mcpServers:\n  tool:\n    command: \"./run";

Tree Version(const std::string& version) {
  Tree tree = SimplePlugin("hello", version, kServers + version + "\"\nstate: [data]\n");
  tree["only-in-" + version] = version;
  return tree;
}

bundle::InstalledPlugins Open(const std::string& folder, bool without_exchange) {
  return {{.configs_path = folder + "/box/configs", .without_exchange = without_exchange}, nullptr};
}

/// The story: version 2 replaces version 1 (boot-2), then the plugin is removed (boot-3).
bool Deliver(const std::string& folder, bool without_exchange) {
  const auto packed = PackPlugin(Version("2"), folder + "/two.tar");
  auto plugins = Open(folder, without_exchange);
  return plugins.Stage({"hello", "src", "r2", packed.digest, packed.tar_path}) &&
         plugins.Activate("hello", "boot-2");
}

bool Remove(const std::string& folder, bool without_exchange) {
  return static_cast<bool>(Open(folder, without_exchange).Remove("hello", "boot-3"));
}

std::string Prepare(const TempFolder& temp) {
  fs::remove_all(temp / "box");
  fs::create_directories(temp / "box");
  const auto one = PackPlugin(Version("1"), temp / "one.tar");
  auto plugins = Open(temp.Path(), false);
  REQUIRE(plugins.Stage({"hello", "src", "r1", one.digest, one.tar_path}));
  REQUIRE(plugins.Activate("hello", "boot-1"));
  WriteText(temp / "box/configs/plugins/hello/data/kept", "state");
  return one.digest;
}

base::CommandResult RunChild(const TempFolder& temp, const std::string& act,
                             const std::string& failpoints, bool without_exchange) {
  auto result =
      base::RunCommand({.argv = {"/proc/self/exe", "--test-case=crash child", "--no-skip"},
                        .environment = {{"WO_CRASH_FOLDER", temp.Path()},
                                        {"WO_CRASH_ACT", act},
                                        {"WO_CRASH_PLAIN", without_exchange ? "1" : ""},
                                        {"WORKSPACE_OPERATOR_FAILPOINTS", failpoints},
                                        {"ASAN_OPTIONS", "detect_leaks=0"}},
                        .working_directory = "",
                        .input = ""});
  REQUIRE(result);
  return *result;
}

std::set<std::string> Places(const std::string& trace) {
  std::set<std::string> out;
  const std::string mark = "failpoint ";
  for (size_t at = trace.find(mark); at != std::string::npos; at = trace.find(mark, at + 1)) {
    const size_t start = at + mark.size();
    out.insert(trace.substr(start, trace.find('\n', start) - start));
  }
  return out;
}

}  // namespace

TEST_CASE("crash child" * doctest::skip()) {
  const char* folder = std::getenv("WO_CRASH_FOLDER");
  if (folder == nullptr) return;
  const bool without_exchange = std::string(std::getenv("WO_CRASH_PLAIN")) == "1";
  const bool ok = std::string(std::getenv("WO_CRASH_ACT")) == "deliver"
                      ? Deliver(folder, without_exchange)
                      : Remove(folder, without_exchange);
  CHECK(ok);
}

TEST_CASE(
    "killed at any step of a replacement: the old plugin, or the new one with its debt; and "
    "repeating finishes it") {
  for (const bool without_exchange : {false, true}) {
    TempFolder temp;
    const std::string two = PackPlugin(Version("2"), temp / "two.tar").digest;
    Prepare(temp);
    const auto places = Places(RunChild(temp, "deliver", "*=trace", without_exchange).error);
    REQUIRE(places.size() >= 14);
    for (const std::string& place : places) {
      CAPTURE(place);
      const std::string one = Prepare(temp);
      REQUIRE(RunChild(temp, "deliver", place + "=kill", without_exchange).exit_code ==
              128 + SIGKILL);
      const auto seen = Open(temp.Path(), without_exchange).Probe({"hello"})->plugins.at(0);
      const bool between = place == "box.activate.between";
      if (!between) REQUIRE(seen.found == bundle::Found::kPresent);
      if (seen.found == bundle::Found::kPresent) {
        REQUIRE(seen.receipt);
        CHECK(seen.digest == seen.receipt->digest);
        CHECK((seen.digest == one || seen.digest == two));
        CHECK(seen.receipt->activated_boot_id == (seen.digest == one ? "boot-1" : "boot-2"));
      }
      REQUIRE(Deliver(temp.Path(), without_exchange));
      const auto after = Open(temp.Path(), without_exchange).Probe({"hello"})->plugins.at(0);
      CHECK(after.digest == two);
      REQUIRE(after.receipt);
      CHECK(after.receipt->activated_boot_id == "boot-2");
      CHECK(after.mcp_merged);
      CHECK(ReadText(temp / "box/configs/plugins/hello/data/kept") == "state");
      CHECK(ReadText(temp / "box/configs/settings.json").find("run1") == std::string::npos);
      CHECK_FALSE(fs::exists(temp / "box/configs/plugins/hello/only-in-1"));
      CHECK(fs::is_empty(temp / "box/configs/.molecule/staging"));
      CHECK(fs::is_empty(temp / "box/configs/.molecule/activating"));
    }
  }
}

TEST_CASE(
    "killed at any step of a removal: still there, or gone with its debt; and repeating finishes "
    "it") {
  TempFolder temp;
  Prepare(temp);
  const auto places = Places(RunChild(temp, "remove", "*=trace", false).error);
  REQUIRE(places.size() >= 6);
  for (const std::string& place : places) {
    CAPTURE(place);
    const std::string one = Prepare(temp);
    REQUIRE(RunChild(temp, "remove", place + "=kill", false).exit_code == 128 + SIGKILL);
    const auto inventory = Open(temp.Path(), false).Probe({"hello"});
    const auto& seen = inventory->plugins.at(0);
    if (seen.found == bundle::Found::kPresent) {
      CHECK(seen.digest == one);
      CHECK(inventory->removals.empty());
    } else {
      REQUIRE(inventory->removals.size() == 1);
      CHECK(inventory->removals[0].boot_id == "boot-3");
    }
    REQUIRE(Remove(temp.Path(), false));
    const auto after = Open(temp.Path(), false).Probe({"hello"});
    CHECK(after->plugins.at(0).found == bundle::Found::kAbsent);
    CHECK(after->removals.size() == 1);
    CHECK(ReadText(temp / "box/configs/settings.json").find("run1") == std::string::npos);
    CHECK_FALSE(fs::exists(temp / "box/configs/.molecule/receipts/hello.json"));
  }
}
