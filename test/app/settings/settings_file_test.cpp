#include "app/settings/settings_file.hpp"

#include <doctest/doctest.h>

#include <semaphore>
#include <thread>

#include "support/temp_folder.hpp"

namespace {

/// A file that is read again whenever it changes, by a thread of its own.
struct Watched {
  std::unique_ptr<app::SettingsFile> file;
  std::counting_semaphore<> taken{0};
  std::jthread thread;

  Watched(const std::string& path, const app::Settings& defaults) {
    auto opened = app::SettingsFile::Open(path, defaults);
    REQUIRE(opened);
    file = *std::move(opened);
    thread = std::jthread(
        [this](std::stop_token stop) { CHECK(file->Run([this] { taken.release(); }, stop)); });
  }
  bool Take() { return taken.try_acquire_for(std::chrono::seconds(20)); }
};

app::Settings Defaults() {
  app::Settings defaults;
  defaults.agent_url = "https://default";
  return defaults;
}

}  // namespace

TEST_CASE("a settings file that is not there yet is no fault, and is taken when it appears") {
  support::TempFolder temp;
  Watched watched(temp / "settings.yaml", Defaults());
  CHECK(watched.file->Current()->agent_url == "https://default");
  CHECK_FALSE(watched.file->Problem());
  // Beside it something else changes: that is no reason to miss it.
  support::WriteText(temp / "another", "");
  support::WriteText(temp / "settings.yaml", "boxes: {agentURL: https://file}\n");
  REQUIRE(watched.Take());
  CHECK(watched.file->Current()->agent_url == "https://file");
  CHECK_FALSE(watched.file->Problem());
}

TEST_CASE("a settings file that is there must be right from the start") {
  support::TempFolder temp;
  support::WriteText(temp / "settings.yaml", "boxes: {agentUrl: x}\n");
  const auto opened = app::SettingsFile::Open(temp / "settings.yaml", Defaults());
  REQUIRE_FALSE(opened);
  CHECK(opened.error().reason == "SettingsInvalid");
  // Not a file: not one that is still to come.
  CHECK_FALSE(app::SettingsFile::Open(temp.Path(), Defaults()));
}
