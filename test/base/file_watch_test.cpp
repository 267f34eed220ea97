#include "base/file_watch.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "support/temp_folder.hpp"

namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

void Write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

}  // namespace

TEST_CASE("a change of the file ends the wait, however the file is replaced") {
  const support::TempFolder temp;
  const fs::path folder = temp.Path();
  const fs::path file = folder / "settings.yaml";
  struct Row {
    const char* name;
    std::function<void()> prepare, change;
  };
  // As the kubelet does: the file is a link through ..data, which is swapped by a rename.
  const auto link = [&](const std::string& version) {
    fs::create_directory(folder / version);
    Write(folder / version / "settings.yaml", version);
    fs::create_symlink(version, folder / "..data_tmp");
    fs::rename(folder / "..data_tmp", folder / "..data");
  };
  const Row rows[] = {
      {"written", [&] { Write(file, "a"); }, [&] { Write(file, "b"); }},
      {"renamed over", [&] { Write(file, "a"); },
       [&] {
         Write(folder / "new", "b");
         fs::rename(folder / "new", file);
       }},
      {"removed", [&] { Write(file, "a"); }, [&] { fs::remove(file); }},
      {"a mounted ConfigMap",
       [&] {
         link("..first");
         fs::create_symlink("..data/settings.yaml", file);
       },
       [&] { link("..second"); }},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    row.prepare();
    base::FileWatch watch(file);
    std::jthread changer([&] { row.change(); });
    const auto begin = std::chrono::steady_clock::now();
    CHECK(watch.Wait(30s, {}));
    CHECK(std::chrono::steady_clock::now() - begin < 10s);
    changer.join();
    fs::remove(file);
  }
}

TEST_CASE("a stop ends the wait, before and while it lasts") {
  const support::TempFolder temp;
  base::FileWatch watch(temp.Path() + "/file");
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  CHECK_FALSE(watch.Wait(30s, stop.get_token()));
  CHECK_FALSE(watch.Wait(30s, stop.get_token()));
}

TEST_CASE("a folder that is not there: the file is looked at every two seconds") {
  base::FileWatch watch("/nonexistent/file");
  const auto begin = std::chrono::steady_clock::now();
  CHECK(watch.Wait(30s, {}));
  CHECK(std::chrono::steady_clock::now() - begin < 10s);
}
