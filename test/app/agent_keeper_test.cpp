#include "app/agent_keeper.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>

#include <atomic>
#include <thread>

#include "support/temp_folder.hpp"

namespace {

bool Await(const std::function<bool()>& good) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!good() && std::chrono::steady_clock::now() < end) ::poll(nullptr, 0, 5);
  return good();
}

/// Boxes whose agent is a script that writes its process id.
struct Fixture {
  support::TempFolder temp;
  app::AgentKeeper keeper{Program(), [this] {
                            auto settings = std::make_shared<app::Settings>();
                            settings->directory_roots = {temp.Path()};
                            return settings;
                          }};

  std::string Program() const {
    support::WriteText(temp / "agent", "#!/bin/sh\necho $$ > \"$3/pid\"\nexec sleep 600\n");
    std::filesystem::permissions(temp / "agent", std::filesystem::perms::owner_all);
    return temp / "agent";
  }
  api::Workspace Box(const std::string& name) const {
    std::filesystem::create_directories(temp / (name + "/configs/.molecule"));
    api::Workspace workspace;
    workspace.meta.uid = workspace.meta.name = name;
    workspace.spec.box.type = api::BoxType::kDirectory;
    workspace.spec.box.directory = api::DirectoryBox{temp / name, api::DirectoryRun::kOperator};
    return workspace;
  }
  pid_t Pid(const std::string& name) const {
    REQUIRE(Await([&] { return support::ReadText(temp / (name + "/pid")).ends_with('\n'); }));
    return std::stoi(support::ReadText(temp / (name + "/pid")));
  }
};

}  // namespace

TEST_CASE("the agent of a suspended workspace is left alone, that of a deleted one ends") {
  Fixture f;
  api::Workspace one = f.Box("one");
  f.keeper.Look(one);
  const pid_t pid = f.Pid("one");
  one.spec.suspend = true;
  f.keeper.Look(one);
  one.spec.suspend = false;
  f.keeper.Look(one);
  api::Workspace idle = f.Box("idle");
  idle.spec.suspend = true;
  f.keeper.Look(idle);
  f.keeper.Look(f.Box("two"));  // What was begun before has been seen to when this one runs.
  f.Pid("two");
  CHECK(::kill(pid, 0) == 0);
  CHECK(f.Pid("one") == pid);
  CHECK_FALSE(std::filesystem::exists(f.temp / "idle/pid"));
  one.spec.suspend = true;
  one.meta.deletion_time = base::WallTime{};
  f.keeper.Look(one);
  CHECK(Await([&] { return ::kill(pid, 0) != 0; }));
}

namespace {

/// A cache of one workspace. Its deletion, and what the informer's handler then tells the keeper,
/// comes between a look at it and what is done about it.
struct DyingCache {
  app::AgentKeeper& keeper;
  api::Workspace workspace;
  bool before_read;  ///< Else what is read is the last that there was of it.
  mutable bool there = true;
  mutable std::atomic<bool> forgotten = false;
  mutable std::jthread handler = {};

  void Delete() const {
    there = false;
    handler = std::jthread([this] {
      keeper.Forget(workspace);
      forgotten = true;
    });
  }
  /// Whoever keeps the handler waiting is not waited for.
  void Settle() const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
    while (!forgotten && std::chrono::steady_clock::now() < end) ::poll(nullptr, 0, 5);
  }
  std::vector<meta::ObjectKey> Keys() const { return {workspace.meta.Key()}; }
  std::shared_ptr<const api::Workspace> Get(const meta::ObjectKey&) const {
    auto read = before_read ? nullptr : std::make_shared<const api::Workspace>(workspace);
    Delete();
    Settle();
    return read;
  }
  void ForEach(const std::function<void(const api::Workspace&)>& look) const {
    Delete();
    Settle();
    look(workspace);
  }
};

}  // namespace

TEST_CASE("a look at all never starts an agent again for a workspace that was just forgotten") {
  bool before_read = false;
  SUBCASE("deleted before it was read") { before_read = true; }
  SUBCASE("deleted after it was read") {}
  Fixture f;
  DyingCache cache{f.keeper, f.Box("one"), before_read};
  f.keeper.LookAtAll(cache);
  cache.handler.join();
  f.keeper.Look(f.Box("two"));  // What was begun before has been seen to when this one runs.
  f.Pid("two");
  CHECK_FALSE(f.keeper.Find("one"));
}
