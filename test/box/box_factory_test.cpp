#include "box/box_factory.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "support/temp_folder.hpp"

namespace {

std::string ReasonOf(const api::Workspace& workspace, const box::BoxDependencies& dependencies) {
  const auto made = box::MakeBox(workspace, dependencies);
  return made ? "" : made.error().reason;
}

api::Workspace Directory(const std::string& path) {
  api::Workspace workspace;
  workspace.spec.box.type = api::BoxType::kDirectory;
  workspace.spec.box.directory = api::DirectoryBox{path, api::DirectoryRun::kExternal};
  return workspace;
}

}  // namespace

TEST_CASE("a directory box must be beneath a folder that the admin allows") {
  box::BoxDependencies dependencies;
  CHECK(ReasonOf(Directory("/srv/boxes/a"), dependencies) == "BoxPathNotAllowed");
  dependencies.directory_roots = {"/srv/boxes/"};
  CHECK(ReasonOf(Directory("/srv/boxes/a"), dependencies) == "");
  CHECK(ReasonOf(Directory("/srv/boxes/a/"), dependencies) == "");
  CHECK(ReasonOf(Directory("/srv/boxes-other/a"), dependencies) == "BoxPathNotAllowed");
  CHECK(ReasonOf(Directory("/etc"), dependencies) == "BoxPathNotAllowed");
  for (const char* bad :
       {"", "/", "relative", "/srv/boxes/../../etc", "/srv/boxes//a", "/srv/boxes/a\n"})
    CHECK(ReasonOf(Directory(bad), dependencies) == "SpecInvalid");
  dependencies.directory_roots = {"/"};
  CHECK(ReasonOf(Directory("/etc"), dependencies) == "");
  api::Workspace missing = Directory("/x");
  missing.spec.box.directory.reset();
  CHECK(ReasonOf(missing, dependencies) == "SpecInvalid");
}

TEST_CASE(
    "whoever owns a box leads nobody out of it by a link; the admin's own links are followed") {
  support::TempFolder temp;
  namespace fs = std::filesystem;
  fs::create_directories(temp / "disk/a/deep");
  fs::create_directories(temp / "victim/deep");
  fs::create_directory_symlink(temp / "disk", temp / "boxes");
  fs::create_directory_symlink(temp / "victim", temp / "disk/a/link");
  box::BoxDependencies dependencies;
  dependencies.directory_roots = {temp / "boxes"};
  CHECK(ReasonOf(Directory(temp / "boxes"), dependencies) == "");
  CHECK(ReasonOf(Directory(temp / "boxes/a/deep"), dependencies) == "");
  CHECK(ReasonOf(Directory(temp / "boxes/a/new/one"), dependencies) == "");
  CHECK(ReasonOf(Directory(temp / "boxes/a/link"), dependencies) == "BoxPathNotAllowed");
  CHECK(ReasonOf(Directory(temp / "boxes/a/link/deep"), dependencies) == "BoxPathNotAllowed");
  dependencies.directory_roots = {temp / "boxes", temp / "boxes/a/link/"};
  CHECK(ReasonOf(Directory(temp / "boxes/a/link/deep"), dependencies) == "");
  dependencies.directory_roots = {"/"};
  CHECK(ReasonOf(Directory(temp / "boxes/a/link"), dependencies) == "");
}

TEST_CASE("a link that is put on the way to a box after the check leads nobody out of it") {
  support::TempFolder temp;
  namespace fs = std::filesystem;
  fs::create_directories(temp / "boxes/team/a");
  fs::create_directories(temp / "victim/a/configs/plugins/p");
  support::WriteText(temp / "victim/a/configs/plugins/p/plugin.yaml", "name: p\n");
  box::BoxDependencies dependencies;
  dependencies.directory_roots = {temp / "boxes/"};
  auto made = box::MakeBox(Directory(temp / "boxes/team/a"), dependencies);
  REQUIRE(made);
  CHECK((*made)->WriteToken("t", {}));
  CHECK(fs::exists(temp / "boxes/team/a/configs/.molecule/token"));
  fs::rename(temp / "boxes/team", temp / "boxes/moved");
  fs::create_directory_symlink(temp / "victim", temp / "boxes/team");
  CHECK((*made)->State({}).state == box::BoxState::kUnknown);
  CHECK((*made)->State({}).cause.find("symbolic link") != std::string::npos);
  CHECK((*made)->Probe({"p"}, {}, {}).error().reason == "LinkNotAllowed");
  CHECK((*made)->WriteToken("t", {}).error().reason == "LinkNotAllowed");
  CHECK((*made)->WriteToken("", {}).error().reason == "LinkNotAllowed");
  const auto removed = (*made)->Remove({"p"}, "boot", {});
  REQUIRE(removed);
  CHECK((*removed)[0].status.error().reason == "LinkNotAllowed");
  CHECK_FALSE(fs::exists(temp / "victim/a/configs/.molecule"));
}

TEST_CASE("types that are not served say so by name") {
  for (const auto type : {api::BoxType::kPod, api::BoxType::kDocker, api::BoxType::kSSH}) {
    api::Workspace workspace;
    workspace.spec.box.type = type;
    CHECK(ReasonOf(workspace, {}) == "BoxTypeUnavailable");
  }
}

TEST_CASE("the settings file is the runtime's, and restarts without a way are refused") {
  support::TempFolder temp;
  std::filesystem::create_directories(temp / "box");
  box::BoxDependencies dependencies;
  dependencies.directory_roots = {temp.Path()};
  dependencies.settings_file_by_runtime = {{"claude-code", "claude.json"}};
  api::Workspace workspace = Directory(temp / "box");
  workspace.spec.runtime = "claude-code";
  support::WriteText(temp / "box/configs/plugins/p/plugin.yaml",
                     "name: p\nmcpServers: {s: {command: x}}\n");
  auto made = box::MakeBox(workspace, dependencies);
  REQUIRE(made);
  CHECK_FALSE((*made)->Probe({"p"}, {}, {})->plugins[0].mcp_merged);
  support::WriteText(temp / "box/configs/claude.json", R"({"mcpServers":{"s":{"command":"x"}}})");
  CHECK((*made)->Probe({"p"}, {}, {})->plugins[0].mcp_merged);
  CHECK((*made)->Restart("b", {}).error().reason == "RestartUnsupported");
}

TEST_CASE(
    "an external box answers the probe from the last inventory, and does not know without one") {
  box::BoxDependencies dependencies;
  std::optional<std::vector<bundle::InventoryItem>> inventory;
  dependencies.inventory = [&](const api::Workspace&) { return inventory; };
  auto made = box::MakeBox({}, dependencies);
  REQUIRE(made);
  CHECK((*made)->Probe({"a"}, {}, {})->plugins[0].presence == box::Presence::kUnknown);
  inventory = {{"a", "r1", "sha256:1", true}};
  const auto report = (*made)->Probe({"a", "b"}, {}, {});
  CHECK(report->plugins[0].presence == box::Presence::kPresent);
  CHECK(report->plugins[0].digest == "sha256:1");
  CHECK(report->plugins[1].presence == box::Presence::kAbsent);
}

TEST_CASE("a root that is a link to another place outside is refused when configs is a link") {
  support::TempFolder temp;
  std::filesystem::create_directories(temp / "box");
  std::filesystem::create_directories(temp / "outside");
  std::filesystem::create_directory_symlink(temp / "outside", temp / "box/configs");
  box::BoxDependencies dependencies;
  dependencies.directory_roots = {temp.Path()};
  auto made = box::MakeBox(Directory(temp / "box"), dependencies);
  REQUIRE(made);
  CHECK((*made)->WriteToken("t", {}).error().reason == "LinkNotAllowed");
  CHECK((*made)->State({}).state == box::BoxState::kUnknown);
  CHECK_FALSE((*made)->Probe({"x"}, {}, {}));
  CHECK(std::filesystem::is_empty(temp / "outside"));
}
