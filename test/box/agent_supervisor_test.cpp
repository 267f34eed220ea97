#include "box/agent_supervisor.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include "bundle/installed/installed_plugins.hpp"
#include "support/temp_folder.hpp"

using box::AgentSupervisor;

namespace {

AgentSupervisor::Options Fast() {
  return {.min_backoff = base::Millis(20),
          .max_backoff = base::Millis(80),
          .stable_after = base::Millis(60'000),
          .grace = base::Millis(3'000),
          .poll = base::Millis(10)};
}

AgentSupervisor::Agent Script(const support::TempFolder& temp, const std::string& script) {
  AgentSupervisor::Agent agent;
  agent.command.argv = {"sh", "-c", script};
  agent.command.environment = {{"PATH", "/usr/bin:/bin"}};
  agent.configs_path = temp / "box/configs";
  agent.log_path = temp / "log";
  std::filesystem::create_directories(temp / "box");
  return agent;
}

bool Await(const std::function<bool()>& good) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!good() && std::chrono::steady_clock::now() < end) ::poll(nullptr, 0, 5);
  return good();
}

}  // namespace

TEST_CASE("an agent that ends is started again with a growing wait") {
  support::TempFolder temp;
  AgentSupervisor supervisor(Fast());
  supervisor.Ensure("a", Script(temp, "echo started; exit 3"));
  REQUIRE(Await([&] { return supervisor.Find("a")->starts >= 4; }));
  CHECK(supervisor.Find("a")->last_exit == 3);
  CHECK(support::ReadText(temp / "log").find("started") != std::string::npos);
}

TEST_CASE(
    "asking again for the same agent changes nothing, another command replaces it, removing ends "
    "it") {
  support::TempFolder temp;
  AgentSupervisor supervisor(Fast());
  const auto agent = Script(temp, "exec sleep 600");
  supervisor.Ensure("a", agent);
  REQUIRE(Await([&] { return supervisor.Find("a")->running; }));
  const pid_t first = supervisor.Find("a")->pid;
  supervisor.Ensure("a", agent);
  CHECK(supervisor.Find("a")->pid == first);
  supervisor.Ensure("a", Script(temp, "exec sleep 601"));
  REQUIRE(Await([&] { return supervisor.Find("a")->running; }));
  const pid_t second = supervisor.Find("a")->pid;
  CHECK(second != first);
  CHECK(::kill(first, 0) != 0);
  supervisor.Remove("a");
  CHECK_FALSE(supervisor.Find("a"));
  CHECK(Await([&] { return ::kill(second, 0) != 0; }));
}

TEST_CASE("nobody waits for an agent that takes its time to end, but its successor") {
  support::TempFolder temp;
  auto options = Fast();
  options.grace = base::Millis(600);
  AgentSupervisor supervisor(options);
  const auto deaf = [&](const std::string& word) {
    return Script(temp, "trap '' TERM; echo " + word + "; while :; do sleep 0.1; done");
  };
  const auto says = [&](const std::string& word) {
    return support::ReadText(temp / "log").find(word) != std::string::npos;
  };
  supervisor.Ensure("a", deaf("one"));
  REQUIRE(Await([&] { return says("one"); }));
  const pid_t first = supervisor.Find("a")->pid;
  supervisor.Ensure("a", deaf("two"));
  CHECK(::kill(first, 0) == 0);  // Before its grace is over.
  REQUIRE(Await([&] { return says("two"); }));
  CHECK(::kill(first, 0) != 0);
  const pid_t second = supervisor.Find("a")->pid;
  supervisor.Remove("a");
  CHECK(::kill(second, 0) == 0);
  CHECK(Await([&] { return ::kill(second, 0) != 0; }));
}

TEST_CASE("an agent that outlived its operator is adopted; when it ends a new one is started") {
  support::TempFolder temp;
  AgentSupervisor supervisor(Fast());
  const auto agent = Script(temp, "exec sleep 600");
  auto lock = std::make_unique<base::Result<bundle::AgentLock>>(
      bundle::AgentLock::Acquire(agent.configs_path));
  REQUIRE(*lock);
  supervisor.Ensure("a", agent);
  REQUIRE(Await([&] { return supervisor.Find("a")->adopted; }));
  CHECK(supervisor.Find("a")->starts == 0);
  lock.reset();
  REQUIRE(Await([&] { return supervisor.Find("a")->running; }));
  CHECK_FALSE(supervisor.Find("a")->adopted);
}

TEST_CASE("the end of the supervisor ends all agents, also those that ignore SIGTERM") {
  support::TempFolder temp;
  std::vector<pid_t> pids;
  {
    auto options = Fast();
    options.grace = base::Millis(200);
    AgentSupervisor supervisor(options);
    supervisor.Ensure("polite", Script(temp, "exec sleep 600"));
    supervisor.Ensure("deaf", Script(temp, "trap '' TERM; echo deaf; while :; do sleep 1; done"));
    REQUIRE(Await([&] {
      return support::ReadText(temp / "log").find("deaf") != std::string::npos &&
             supervisor.Find("polite")->running;
    }));
    for (const char* key : {"polite", "deaf"}) pids.push_back(supervisor.Find(key)->pid);
  }
  for (const pid_t pid : pids) CHECK(::kill(pid, 0) != 0);
}

TEST_CASE("an agent is not started again in a box whose way has become a link") {
  support::TempFolder temp;
  std::filesystem::create_directories(temp / "boxes/a/configs/.molecule");
  std::filesystem::create_directories(temp / "victim/configs/.molecule");
  AgentSupervisor supervisor(Fast());
  auto agent = Script(temp, "until [ -e " + (temp / "go") + " ]; do sleep 0.01; done");
  agent.configs_path = temp / "boxes/a/configs";
  agent.links_end_at = temp / "boxes";
  agent.log_path = agent.configs_path + "/.molecule/agent.log";
  supervisor.Ensure("a", agent);
  REQUIRE(Await([&] { return supervisor.Find("a")->running; }));
  std::filesystem::rename(temp / "boxes/a", temp / "boxes/moved");
  std::filesystem::create_directory_symlink(temp / "victim", temp / "boxes/a");
  support::WriteText(temp / "go", "");
  REQUIRE(Await([&] { return supervisor.Find("a")->starts >= 3; }));
  CHECK_FALSE(supervisor.Find("a")->running);
  CHECK(supervisor.Find("a")->last_error.find("symbolic link") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(temp / "victim/configs/.molecule/agent.log"));
}

TEST_CASE("a program that is not there is an error that shows, not a crash") {
  support::TempFolder temp;
  AgentSupervisor supervisor(Fast());
  auto agent = Script(temp, "");
  agent.command.argv = {"/no/such/program"};
  supervisor.Ensure("a", agent);
  REQUIRE(Await([&] { return supervisor.Find("a")->starts >= 2; }));
  CHECK(supervisor.Find("a")->last_error != "");
}

TEST_CASE("the log of an agent stays bounded, and its newest lines are kept") {
  support::TempFolder temp;
  auto options = Fast();
  options.log_limit = 4'000;
  options.log_look = base::Millis(10);
  AgentSupervisor supervisor(options);
  // The log of a box of which nobody is told that it is there: that of an operator before.
  support::WriteText(temp / "log", std::string(100'000, 'x') + "\nend of the old one\n");
  supervisor.Ensure("a", Script(temp, "until [ -e " + (temp / "log.1") +
                                          " ]; do sleep 0.01; done; n=0; "
                                          "while :; do n=$((n+1)); echo line $n; done"));
  REQUIRE(Await([&] { return support::ReadText(temp / "log.1") == "end of the old one\n"; }));
  // Then it writes without end: it goes on with a file that was emptied beneath it.
  REQUIRE(Await([&] { return support::ReadText(temp / "log.1").find("line ") == 0; }));
  const std::string kept = support::ReadText(temp / "log.1");
  CHECK(kept.size() <= 4'000);
  CHECK(kept.size() > 3'000);
  CHECK(kept.ends_with('\n'));
  CHECK(supervisor.Find("a")->starts == 1);
  supervisor.Remove("a");
}

TEST_CASE("a log that is no file is refused: nothing is written through a link, no pipe blocks") {
  support::TempFolder temp;
  support::WriteText(temp / "victim", "");
  std::filesystem::create_symlink(temp / "victim", temp / "log");
  AgentSupervisor supervisor(Fast());
  const auto error_has = [&](const char* text) {
    return Await([&] { return supervisor.Find("a")->last_error.find(text) != std::string::npos; });
  };
  supervisor.Ensure("a", Script(temp, "echo out; exec sleep 600"));
  CHECK(error_has("symbolic link"));
  CHECK(support::ReadText(temp / "victim") == "");
  std::filesystem::remove(temp / "log");
  REQUIRE(::mkfifo((temp / "log").c_str(), 0600) == 0);
  CHECK(error_has("log"));
  CHECK(error_has("open"));
  std::filesystem::remove(temp / "log");
  CHECK(Await([&] { return supervisor.Find("a")->running; }));
}
