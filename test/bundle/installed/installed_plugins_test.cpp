#include "bundle/installed/installed_plugins.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "base/child_process.hpp"
#include "bundle/installed/mcp_settings.hpp"
#include "support/plugin_tar.hpp"

using namespace support;
namespace fs = std::filesystem;

namespace {

struct Box {
  TempFolder temp;
  std::shared_ptr<bundle::DigestCache> cache = std::make_shared<bundle::DigestCache>();
  bundle::InstalledPlugins::Options options{.configs_path = temp / "box/configs"};
  Box() { fs::create_directories(temp / "box"); }

  bundle::InstalledPlugins Open() { return {options, cache}; }
  std::string Path(const std::string& file) { return temp / ("box/configs/" + file); }
  PackedPlugin Pack(const Tree& tree, const std::string& as) {
    return PackPlugin(tree, temp / (as + ".tar"));
  }

  base::Status Stage(const std::string& name, const PackedPlugin& p,
                     const std::string& revision = "r1") {
    return Open().Stage({name, "gitea://o/" + name, revision, p.digest, p.tar_path});
  }
  void Install(const std::string& name, const PackedPlugin& p, const std::string& boot = "boot-1") {
    const auto staged = Stage(name, p);
    REQUIRE_MESSAGE(staged, (staged ? "" : staged.error().message));
    const auto active = Open().Activate(name, boot);
    REQUIRE_MESSAGE(active, (active ? "" : active.error().message));
  }
  bundle::InstalledPlugin Look(const std::string& name) {
    auto inventory = Open().Probe({name});
    REQUIRE(inventory);
    return inventory->plugins.at(0);
  }
  std::vector<bundle::Tombstone> Removals() { return Open().Probe({})->removals; }
};

std::string ReasonOf(const base::Status& status) { return status ? "" : status.error().reason; }

constexpr char kServers[] = "mcpServers:\n  tool:\n    command: ./bin/run.sh\n";

}  // namespace

TEST_CASE("a delivered and activated plugin is present with its digest, receipt and settings") {
  Box box;
  const auto p = box.Pack(SimplePlugin("hello", "1", kServers), "p");
  CHECK(box.Look("hello").found == bundle::Found::kAbsent);
  REQUIRE(box.Stage("hello", p));
  CHECK(box.Look("hello").found == bundle::Found::kAbsent);
  REQUIRE(box.Open().Activate("hello", "boot-1"));
  const auto seen = box.Look("hello");
  CHECK(seen.found == bundle::Found::kPresent);
  CHECK(seen.digest == p.digest);
  REQUIRE(seen.receipt);
  CHECK(seen.receipt->digest == p.digest);
  CHECK(seen.receipt->activated_boot_id == "boot-1");
  CHECK(seen.receipt->revision == "r1");
  CHECK(seen.mcp_merged);
  CHECK(ReadText(box.Path("settings.json")).find("./bin/run.sh") != std::string::npos);
  CHECK((fs::status(box.Path("plugins/hello/bin/run.sh")).permissions() & fs::perms::owner_exec) !=
        fs::perms::none);
}

TEST_CASE("repeating a delivery and an activation changes nothing, not even a time stamp") {
  Box box;
  const auto p = box.Pack(SimplePlugin("hello", "1", kServers), "p");
  box.Install("hello", p);
  const auto before = fs::last_write_time(box.Path("plugins/hello"));
  const std::string receipt = ReadText(box.Path(".molecule/receipts/hello.json"));
  box.Install("hello", p, "boot-2");
  CHECK(fs::last_write_time(box.Path("plugins/hello")) == before);
  CHECK(ReadText(box.Path(".molecule/receipts/hello.json")) == receipt);
  REQUIRE(box.Stage("hello", p));
  CHECK(fs::is_empty(box.Path(".molecule/staging")));
}

TEST_CASE("a tree that was there before us with equal bytes is recorded and owes no restart") {
  Box box;
  const Tree tree = SimplePlugin("hello", "1");
  for (const auto& [path, content] : tree) WriteText(box.Path("plugins/hello/" + path), content);
  ::chmod(box.Path("plugins/hello/bin/run.sh").c_str(), 0755);
  WriteText(box.Path("plugins/hello/lib/__pycache__/x.pyc"), "cache");
  const auto p = box.Pack(tree, "p");
  const auto seen = box.Look("hello");
  CHECK(seen.found == bundle::Found::kPresent);
  CHECK(seen.digest == p.digest);
  CHECK_FALSE(seen.receipt);
  const auto before = fs::last_write_time(box.Path("plugins/hello"));
  box.Install("hello", p);
  CHECK(fs::last_write_time(box.Path("plugins/hello")) == before);
  CHECK(box.Look("hello").receipt->activated_boot_id == "");
}

TEST_CASE("a replacement carries state over, keeps the previous tree, and owes a restart") {
  Box box;
  const std::string state = "state: [data/, notes.txt]\n";
  Tree one = SimplePlugin("hello", "1", state), two = SimplePlugin("hello", "2", state);
  one["data/default.txt"] = "shipped 1";
  two["data/default.txt"] = "shipped 2";
  box.Install("hello", box.Pack(one, "one"), "boot-1");
  WriteText(box.Path("plugins/hello/data/mine/learned.txt"), "learned");
  WriteText(box.Path("plugins/hello/notes.txt"), "note");
  WriteText(box.Path("plugins/hello/scratch.txt"), "not state");
  const auto packed = box.Pack(two, "two");
  box.Install("hello", packed, "boot-2");
  CHECK(box.Look("hello").digest == packed.digest);
  CHECK(box.Look("hello").receipt->activated_boot_id == "boot-2");
  CHECK(ReadText(box.Path("plugins/hello/data/mine/learned.txt")) == "learned");
  CHECK(ReadText(box.Path("plugins/hello/notes.txt")) == "note");
  CHECK(ReadText(box.Path("plugins/hello/data/default.txt")) == "shipped 2");
  CHECK_FALSE(fs::exists(box.Path("plugins/hello/scratch.txt")));
  CHECK(ReadText(box.Path(".molecule/previous/hello/plugin.yaml")).find("\"1\"") !=
        std::string::npos);
}

TEST_CASE(
    "files made at run time are no difference, a changed, missing or retyped listed file is") {
  Box box;
  const auto p = box.Pack(SimplePlugin("hello", "1"), "p");
  box.Install("hello", p);
  WriteText(box.Path("plugins/hello/run.log"), "made at run time");
  CHECK(box.Look("hello").digest == p.digest);
  const std::string script = box.Path("plugins/hello/bin/run.sh"), original = ReadText(script);
  WriteText(script, std::string(original.size(), 'x'));
  const std::string changed = box.Look("hello").digest;
  CHECK(changed != p.digest);
  CHECK(changed == box.Look("hello").digest);
  fs::remove(script);
  CHECK(box.Look("hello").digest != p.digest);
  fs::create_symlink("/bin/sh", script);
  CHECK(box.Look("hello").digest != p.digest);
  CHECK(box.Look("hello").found == bundle::Found::kPresent);
  box.Install("hello", p, "boot-2");
  CHECK(box.Look("hello").digest == p.digest);
  CHECK(ReadText(script) == original);
}

TEST_CASE("an empty, missing or unreadable manifest counts as absent") {
  Box box;
  const auto p = box.Pack(SimplePlugin("hello", "1"), "p");
  box.Install("hello", p);
  for (const char* text : {"", "\n", "name: [", "version: 1\n"}) {
    WriteText(box.Path("plugins/hello/plugin.yaml"), text);
    CHECK(box.Look("hello").found == bundle::Found::kAbsent);
  }
  fs::remove(box.Path("plugins/hello/plugin.yaml"));
  CHECK(box.Look("hello").found == bundle::Found::kAbsent);
  box.Install("hello", p);
  CHECK(box.Look("hello").found == bundle::Found::kPresent);
}

TEST_CASE("the cache never answers for a tree that has changed") {
  Box box;
  const auto p = box.Pack(SimplePlugin("hello", "1"), "p");
  box.Install("hello", p);
  const std::string script = box.Path("plugins/hello/bin/run.sh"), original = ReadText(script);
  const timespec old_times[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
  for (int round = 0; round < 3; ++round) {
    CHECK(box.Look("hello").digest == p.digest);
    WriteText(script, std::string(original.size(), static_cast<char>('a' + round)));
    ::utimensat(AT_FDCWD, script.c_str(), old_times, 0);  // A forged mtime: the ctime tells.
    CHECK(box.Look("hello").digest != p.digest);
    WriteText(script, original);
  }
}

TEST_CASE("removing withdraws settings and leaves a tombstone; what is not ours stays") {
  Box box;
  WriteText(box.Path("settings.json"), R"({"theme":"dark"})");
  box.Install("hello", box.Pack(SimplePlugin("hello", "1", kServers), "p"));
  WriteText(box.Path("plugins/theirs/plugin.yaml"), "name: theirs\n");
  CHECK(ReasonOf(box.Open().Remove("theirs", "boot-1")) == "NotOurs");
  REQUIRE(box.Open().Remove("hello", "boot-1"));
  REQUIRE(box.Open().Remove("hello", "boot-1"));
  REQUIRE(box.Open().Remove("never-there", "boot-1"));
  CHECK(box.Look("hello").found == bundle::Found::kAbsent);
  CHECK_FALSE(box.Look("hello").receipt);
  CHECK(box.Look("theirs").found == bundle::Found::kPresent);
  CHECK(ReadText(box.Path("settings.json")).find("run.sh") == std::string::npos);
  CHECK(ReadText(box.Path("settings.json")).find("dark") != std::string::npos);
  REQUIRE(box.Removals().size() == 1);
  CHECK(box.Removals()[0].boot_id == "boot-1");
  CHECK(box.Removals()[0].removed_time);
  REQUIRE(box.Open().ClearRemovals("boot-1"));
  CHECK(box.Removals().size() == 1);
  REQUIRE(box.Open().ClearRemovals("boot-2"));
  CHECK(box.Removals().empty());
}

TEST_CASE("the boot that the agent recorded counts, not the caller's older knowledge") {
  Box box;
  REQUIRE(box.Open().RecordBoot("boot-7"));
  box.Install("hello", box.Pack(SimplePlugin("hello", "1"), "p"), "boot-6");
  CHECK(box.Look("hello").receipt->activated_boot_id == "boot-7");
  REQUIRE(box.Open().Remove("hello", "boot-6"));
  CHECK(box.Removals().at(0).boot_id == "boot-7");
}

TEST_CASE("bad deliveries are refused with their reason and leave nothing in staging") {
  Box box;
  const auto good = box.Pack(SimplePlugin("hello", "1"), "good");
  const auto no_manifest = box.Pack({{"x", "y"}}, "no-manifest");
  const auto bad_manifest = box.Pack({{"plugin.yaml", "name: ["}}, "bad-manifest");
  WriteText(box.temp / "garbage.tar", "garbage");
  const struct {
    const char* name;
    PackedPlugin tar;
    const char* reason;
  } rows[] = {
      {"hello", {"sha256:" + std::string(64, '0'), good.tar_path}, "DigestMismatch"},
      {"other", good, "NameMismatch"},
      {"hello", no_manifest, "ManifestMissing"},
      {"hello", bad_manifest, "ManifestInvalid"},
      {"hello", {good.digest, box.temp / "garbage.tar"}, "NotCanonical"},
      {"..", good, "NameNotAllowed"},
      {"a/b", good, "NameNotAllowed"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.reason);
    CHECK(ReasonOf(box.Stage(row.name, row.tar)) == row.reason);
    if (fs::exists(box.Path(".molecule/staging")))
      CHECK(fs::is_empty(box.Path(".molecule/staging")));
  }
  CHECK(ReasonOf(box.Open().Activate("hello", "b")) == "NotStaged");
}

TEST_CASE("staged bytes that somebody changed are not activated") {
  Box box;
  const auto p = box.Pack(SimplePlugin("hello", "1"), "p");
  REQUIRE(box.Stage("hello", p));
  WriteText(box.Path(".molecule/staging/hello_/bin/run.sh"), "#!evil");
  CHECK(ReasonOf(box.Open().Activate("hello", "b")) == "NotStaged");
  box.Install("hello", p);
  CHECK(box.Look("hello").digest == p.digest);
}

TEST_CASE("settings that cannot be merged undo the activation: old tree, old receipt") {
  Box box;
  const auto one = box.Pack(SimplePlugin("hello", "1"), "one");
  box.Install("hello", one);
  for (const bool without_exchange : {false, true}) {
    box.options.without_exchange = without_exchange;
    WriteText(box.Path("settings.json"), "{ not json");
    const auto two = box.Pack(SimplePlugin("hello", "2", kServers), "two");
    REQUIRE(box.Stage("hello", two));
    CHECK(ReasonOf(box.Open().Activate("hello", "boot-2")) == "SettingsInvalid");
    CHECK(box.Look("hello").digest == one.digest);
    CHECK(box.Look("hello").receipt->digest == one.digest);
    CHECK(ReadText(box.Path("settings.json")) == "{ not json");
  }
  fs::remove(box.Path("settings.json"));
  const auto two = box.Pack(SimplePlugin("hello", "2", kServers), "two");
  box.Install("hello", two);
  CHECK(box.Look("hello").digest == two.digest);
}

TEST_CASE("a link planted anywhere is refused with the reason and never followed") {
  const char* places[] = {"plugins",           "plugins/hello",      ".molecule",
                          ".molecule/staging", ".molecule/receipts", ".molecule/staging/hello_",
                          ".molecule/previous"};
  for (const char* place : places) {
    CAPTURE(place);
    Box box;
    fs::create_directories(box.temp / "outside");
    WriteText(box.temp / "outside/plugin.yaml", "name: hello\n");
    fs::create_directories(fs::path(box.Path(place)).parent_path());
    fs::create_directory_symlink(box.temp / "outside", box.Path(place));
    const auto p = box.Pack(SimplePlugin("hello", "1"), "p");
    const auto staged = box.Stage("hello", p);
    const auto done = staged ? box.Open().Activate("hello", "b") : staged;
    if (done)
      CHECK(box.Look("hello").digest == p.digest);  // The link itself was cleared away.
    else
      CHECK(done.error().reason == "LinkNotAllowed");
    CHECK(ReadText(box.temp / "outside/plugin.yaml") == "name: hello\n");
    CHECK(std::distance(fs::directory_iterator(box.temp / "outside"), fs::directory_iterator()) ==
          1);
    const auto inventory = box.Open().Probe({"hello"});
    if (inventory && !done) CHECK(inventory->plugins[0].found != bundle::Found::kPresent);
  }
}

TEST_CASE(
    "links inside an old tree are removed with it, not followed; links in state are refused") {
  Box box;
  fs::create_directories(box.temp / "outside");
  WriteText(box.temp / "outside/keep", "keep");
  box.Install("hello", box.Pack(SimplePlugin("hello", "1"), "one"));
  fs::create_directory_symlink(box.temp / "outside", box.Path("plugins/hello/out"));
  box.Install("hello", box.Pack(SimplePlugin("hello", "2"), "two"));
  box.Install("hello", box.Pack(SimplePlugin("hello", "3", "state: [data]\n"), "three"));
  CHECK(ReadText(box.temp / "outside/keep") == "keep");
  fs::create_directory_symlink(box.temp / "outside", box.Path("plugins/hello/data"));
  REQUIRE(box.Stage("hello", box.Pack(SimplePlugin("hello", "4", "state: [data]\n"), "four")));
  CHECK(ReasonOf(box.Open().Activate("hello", "b")) == "LinkNotAllowed");
  CHECK(box.Look("hello").receipt->digest ==
        box.Pack(SimplePlugin("hello", "3", "state: [data]\n"), "x").digest);
}

TEST_CASE("only one process changes a box at a time, and a held lock does not hang") {
  Box box;
  fs::create_directories(box.Path(".molecule"));
  const int fd = ::open(box.Path(".molecule/install.lock").c_str(), O_RDWR | O_CREAT, 0644);
  REQUIRE(::flock(fd, LOCK_EX) == 0);
  box.options.lock_deadline = base::Millis(30);
  CHECK(ReasonOf(box.Stage("hello", box.Pack(SimplePlugin("hello", "1"), "p"))) == "Locked");
  CHECK(box.Open().Probe({"hello"}));
  ::close(fd);
  CHECK(box.Stage("hello", box.Pack(SimplePlugin("hello", "1"), "p")));
}

TEST_CASE(
    "the token is written once with mode 0600, the agent's lock is seen without being taken") {
  Box box;
  REQUIRE(box.Open().WriteToken("secret-token"));
  struct stat info {};
  REQUIRE(::stat(box.Path(".molecule/token").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  const auto inode = info.st_ino;
  REQUIRE(box.Open().WriteToken("secret-token"));
  REQUIRE(::stat(box.Path(".molecule/token").c_str(), &info) == 0);
  CHECK(info.st_ino == inode);
  CHECK_FALSE(*bundle::IsAgentRunning(box.options.configs_path));
  {
    auto lock = bundle::AgentLock::Acquire(box.options.configs_path);
    REQUIRE(lock);
    CHECK(*bundle::IsAgentRunning(box.options.configs_path));
    CHECK(bundle::AgentLock::Acquire(box.options.configs_path).error().reason == "AgentRunning");
  }
  CHECK_FALSE(*bundle::IsAgentRunning(box.options.configs_path));
}

TEST_CASE("a box whose root is gone is unavailable, not empty") {
  Box box;
  fs::remove_all(box.temp / "box");
  const auto inventory = box.Open().Probe({"hello"});
  REQUIRE_FALSE(inventory);
  CHECK(inventory.error().code == base::Code::kUnavailable);
}

TEST_CASE(
    "a full disk is named, leaves the old plugin whole, and mends itself when there is space "
    "again") {
  Box box;
  if (::geteuid() != 0 ||
      ::mount("tmpfs", (box.temp / "box").c_str(), "tmpfs", 0, "size=300k") != 0) {
    MESSAGE("skipped: needs root to mount a small tmpfs");
    return;
  }
  const auto one = box.Pack(SimplePlugin("hello", "1"), "one");
  box.Install("hello", one);
  Tree big = SimplePlugin("hello", "2");
  big["data.bin"] = std::string(400'000, 'x');
  const auto staged = box.Stage("hello", box.Pack(big, "big"));
  CHECK(ReasonOf(staged) == "NoSpace");
  CHECK(box.Look("hello").digest == one.digest);
  big["data.bin"] = std::string(40'000, 'x');
  const auto small = box.Pack(big, "small");
  box.Install("hello", small);
  CHECK(box.Look("hello").digest == small.digest);
  ::umount2((box.temp / "box").c_str(), MNT_DETACH);
}

TEST_CASE(
    "recording gives a boot-installed tree a receipt: then run-time files are no difference") {
  Box box;
  const auto tar = box.Pack(SimplePlugin("hello", "1"), "p");
  box.Install("hello", tar);
  const std::string digest = box.Look("hello").digest;
  std::filesystem::remove_all(box.Path(".molecule/receipts"));
  REQUIRE_FALSE(box.Look("hello").receipt);
  bundle::StageRequest request;
  request.name = "hello";
  request.digest = "sha256:" + std::string(64, '0');
  REQUIRE(box.Open().Adopt(request));
  CHECK_FALSE(box.Look("hello").receipt);  // Other bytes are left alone.
  request.digest = digest;
  REQUIRE(box.Open().Adopt(request));
  REQUIRE(box.Look("hello").receipt);
  CHECK(box.Look("hello").receipt->activated_boot_id.empty());
  WriteText(box.Path("plugins/hello/made-at-run-time.log"), "x");
  CHECK(box.Look("hello").digest == digest);
}
