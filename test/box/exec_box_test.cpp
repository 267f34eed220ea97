#include "box/exec_box.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include "base/child_process.hpp"
#include "base/program_files.hpp"
#include "bundle/installed/installed_plugins.hpp"
#include "contract/box_contract.hpp"

namespace fs = std::filesystem;

namespace {

/// What is brought into a box is the program that brings it: here this test. Asked to be the
/// helper, it becomes the real one.
[[gnu::constructor]] void BecomeHelper(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "box-helper") ::execv(WO_PROGRAM, argv);
}

/// Runs programs of this machine: a real child process with the real helper.
class LocalChannel final : public box::ExecChannel {
 public:
  /// `keeper`, if any, is a program that is put before each call.
  explicit LocalChannel(std::shared_ptr<int> runs, std::string path = "/usr/bin:/bin",
                        std::vector<std::string> keeper = {})
      : runs_(std::move(runs)), path_(std::move(path)), keeper_(std::move(keeper)) {}

  base::Result<box::ExecOutcome> Run(const box::ExecCall& call) override {
    ++*runs_;
    ::signal(SIGPIPE, SIG_IGN);  // As in the program: a helper that does not read is no end of us.
    base::Command command;
    command.argv = keeper_;
    command.argv.insert(command.argv.end(), call.argv.begin(), call.argv.end());
    command.environment = {{"PATH", path_}};
    command.input_source = call.input;
    command.output_limit = call.output_limit;
    command.deadline = call.deadline;
    auto result = base::RunCommand(command, call.stop);
    if (!result) return std::move(result).error();
    return box::ExecOutcome{result->exit_code, std::move(result->output), std::move(result->error)};
  }

 private:
  std::shared_ptr<int> runs_;
  const std::string path_;
  const std::vector<std::string> keeper_;
};

class LocalBox final : public box::ExecBox {
 public:
  LocalBox(std::unique_ptr<box::ExecChannel> channel, box::ExecBoxOptions options,
           std::shared_ptr<std::vector<std::string>> restarts)
      : ExecBox(std::move(channel), options), root_(options.root), restarts_(std::move(restarts)) {}

  box::StateReport State(std::stop_token stop) override {
    const auto running = AgentRuns(stop);
    if (!running) return {box::BoxState::kUnknown, running.error().message, ""};
    if (!*running) return {box::BoxState::kStopped, "no agent", root_};
    return {box::BoxState::kRunning, "", root_};
  }
  base::Status Restart(const std::string& boot, std::stop_token) override {
    restarts_->push_back(boot);
    return {};
  }

 private:
  std::string root_;
  std::shared_ptr<std::vector<std::string>> restarts_;
};

struct Local {
  std::string root;
  std::shared_ptr<int> runs = std::make_shared<int>(0);
  std::shared_ptr<std::vector<std::string>> restarts = std::make_shared<std::vector<std::string>>();
  std::shared_ptr<box::HelperMemory> memory = std::make_shared<box::HelperMemory>();

  explicit Local(const support::TempFolder& temp) : root(temp / "root") {
    fs::create_directories(root);
  }
  std::unique_ptr<box::Box> Make(std::vector<std::vector<std::string>> helpers,
                                 bool bring = false) const {
    box::ExecBoxOptions options;
    options.root = root;
    options.helpers = std::move(helpers);
    options.bring_helper = bring;
    options.memory_key = "box";
    options.memory = memory;
    return std::make_unique<LocalBox>(std::make_unique<LocalChannel>(runs), options, restarts);
  }
};

/// Of a box in which there is none yet, and nobody has looked.
box::ExecBoxOptions NoHelper(const std::string& root) {
  box::ExecBoxOptions options;
  options.root = root;
  options.helpers = {{"no-such-helper"}};
  options.memory_key = "box";
  return options;
}

contract::BoxUnderTest MakeLocal(const support::TempFolder& temp) {
  const Local local(temp);
  contract::BoxUnderTest out;
  out.type = "a box that is reached by running the helper in it";
  out.box = local.Make({{WO_PROGRAM}});
  out.restarts = [restarts = local.restarts] { return *restarts; };
  contract::UseFolder(out, local.root);
  return out;
}

}  // namespace

TEST_CASE("a box behind an exec channel keeps the contract") {
  contract::RunBoxContract(MakeLocal);
}

TEST_CASE("all that is missing goes in one run, and one run probes all names") {
  support::TempFolder temp;
  const Local local(temp);
  auto box = local.Make({{WO_PROGRAM}});
  std::vector<box::Delivery> deliveries;
  std::vector<std::string> names;
  for (int i = 0; i < 5; ++i) {
    names.push_back("plugin-" + std::to_string(i));
    deliveries.push_back(contract::detail::Pack(temp, names.back(), "1"));
  }
  const auto delivered = box->Deliver(deliveries, {});
  REQUIRE(delivered);
  for (const auto& result : *delivered) CHECK(result.status);
  CHECK(*local.runs == 1);
  REQUIRE(box->Activate({names, "boot-1"}, {}));
  const auto report = box->Probe(names, {}, {});
  REQUIRE(report);
  CHECK(*local.runs == 3);
  for (const auto& plugin : report->plugins) CHECK(plugin.presence == box::Presence::kPresent);
  CHECK(fs::is_empty(local.root + "/configs/.molecule/incoming"));
}

TEST_CASE("a tar that cannot be read here fails alone, before anything is sent of it") {
  support::TempFolder temp;
  const Local local(temp);
  auto box = local.Make({{WO_PROGRAM}});
  auto gone = contract::detail::Pack(temp, "gone", "1");
  fs::remove(gone.tar_path);
  const auto results = box->Deliver(
      {contract::detail::Pack(temp, "a", "1"), gone, contract::detail::Pack(temp, "b", "1")}, {});
  REQUIRE(results);
  CHECK(results->at(0).status);
  CHECK_FALSE(results->at(1).status);
  CHECK(results->at(2).status);
}

TEST_CASE("a box without the helper is brought one by sh and tar, once") {
  support::TempFolder temp;
  const Local local(temp);
  auto box = local.Make({{"no-such-helper"}}, true);
  contract::detail::Install(*box, contract::detail::Pack(temp, "hello", "1"), "boot-1");
  CHECK(contract::detail::ProbeOne(*box, "hello").presence == box::Presence::kPresent);
  CHECK(fs::exists(local.root + "/configs/.molecule/helper/" + base::OwnProgramId() +
                   "/workspace-operator"));
  const int before = *local.runs;
  contract::detail::ProbeOne(*box, "hello");
  CHECK(*local.runs == before + 1);
  // The way that worked is remembered for other boxes of the same identity only.
  auto again = local.Make({{"no-such-helper"}}, true);
  contract::detail::ProbeOne(*again, "hello");
  CHECK(*local.runs == before + 2);
}

TEST_CASE(
    "a box in which there is nothing to look after is brought no helper; a token needs none") {
  support::TempFolder temp;
  const Local local(temp);
  auto box = local.Make({{"no-such-helper"}}, true);
  const std::string own = local.root + "/configs/.molecule", token(64, 'a'), next(64, 'b');
  REQUIRE(box->Probe({}, {}, {}));
  CHECK_FALSE(fs::exists(local.root + "/configs"));  // Nothing at all is written to look.
  for (const std::string& written : {token, next}) {
    CHECK(box->WriteToken(written, {}));
    CHECK(support::ReadText(own + "/token") == written);
    CHECK(fs::status(own + "/token").permissions() ==
          (fs::perms::owner_read | fs::perms::owner_write));
  }
  const auto before = fs::last_write_time(own + "/token");
  fs::permissions(own + "/token", fs::perms::owner_all);
  CHECK(box->WriteToken(next, {}));
  CHECK(fs::last_write_time(own + "/token") == before);
  CHECK(fs::status(own + "/token").permissions() ==
        (fs::perms::owner_read | fs::perms::owner_write));
  const auto empty = box->Probe({}, {}, {});
  REQUIRE(empty);
  CHECK(empty->plugins.empty());
  CHECK(fs::directory_iterator(own) != fs::directory_iterator());
  for (const auto& entry : fs::directory_iterator(own)) CHECK(entry.path().filename() == "token");

  SUBCASE("a plugin that is asked for needs it") { REQUIRE(box->Probe({"hello"}, {}, {})); }
  SUBCASE("what is there already, a receipt or a removal, needs it too") {
    auto installed = local.Make({{WO_PROGRAM}});
    contract::detail::Install(*installed, contract::detail::Pack(temp, "hello", "1"), "boot-1");
    const auto report =
        LocalBox(std::make_unique<LocalChannel>(local.runs), NoHelper(local.root), local.restarts)
            .Probe({}, {}, {});
    REQUIRE(report);
    REQUIRE(report->plugins.size() == 1);
    CHECK(report->plugins[0].name == "hello");
    fs::remove_all(own + "/helper");
    REQUIRE(installed->Remove({"hello"}, "boot-1", {}));
    const auto later =
        LocalBox(std::make_unique<LocalChannel>(local.runs), NoHelper(local.root), local.restarts)
            .Probe({}, {}, {});
    REQUIRE(later);
    CHECK(later->removals.size() == 1);
  }
  CHECK(fs::exists(own + "/helper/" + base::OwnProgramId() + "/workspace-operator"));
  // Both are taken back; whatever else is there stays.
  CHECK(box->WriteToken(next, {}));
  std::ofstream(own + "/mine") << "x";
  REQUIRE(box->WriteToken("", {}));
  CHECK_FALSE(fs::exists(own + "/token"));
  CHECK_FALSE(fs::exists(own + "/helper"));
  CHECK(fs::exists(own + "/mine"));
}

TEST_CASE("a token that comes in part, or for which there is no shell or folder, is not written") {
  support::TempFolder temp;
  const Local local(temp);
  const std::string own = local.root + "/configs/.molecule";
  // The input ends early, as when a connection breaks.
  LocalBox cut(std::make_unique<LocalChannel>(
                   local.runs, "/usr/bin:/bin",
                   std::vector<std::string>{"sh", "-c", "head -c 5 | \"$@\"", "sh"}),
               NoHelper(local.root), local.restarts);
  const auto half = cut.WriteToken(std::string(64, 'a'), {});
  REQUIRE_FALSE(half);
  CHECK(half.error().reason == "HelperUnavailable");
  CHECK_FALSE(fs::exists(own + "/token"));
  CHECK(half.error().message.find("aaaaa") == std::string::npos);
  LocalBox bare(std::make_unique<LocalChannel>(local.runs, "/nowhere"), NoHelper(local.root),
                local.restarts);
  CHECK(bare.WriteToken("t", {}).error().reason == "HelperUnavailable");
  CHECK(bare.Probe({}, {}, {}));
  CHECK(bare.Probe({"x"}, {}, {}).error().reason == "HelperUnavailable");
  support::WriteText(local.root + "/configs", "not a folder");
  const auto refused = local.Make({{"no-such-helper"}}, true)->WriteToken("t", {});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find(".molecule/token") != std::string::npos);
}

TEST_CASE("a helper is brought where input has no end, to a tar that reads to the end") {
  support::TempFolder temp;
  const Local local(temp);
  const std::string bin = temp / "bin";
  fs::create_directories(bin);
  // As busybox's does.
  support::WriteText(bin + "/tar",
                     "#!/bin/sh\n[ \"$1 $2 $3\" = '-xf - -C' ] || exit 9\n"
                     "cat > \"$4.tar\"\nexec /bin/tar -xf \"$4.tar\" -C \"$4\"\n");
  fs::permissions(bin + "/tar", fs::perms::owner_all);
  // The third descriptor keeps the writing end of what the program reads open.
  const std::string keep_open = "f=" + bin +
                                "/in-$$; mkfifo $f; exec 3<>$f 4<&0; "
                                "cat <&4 >$f & \"$@\" <$f; code=$?; rm $f; exit $code";
  box::ExecBoxOptions options;
  options.root = local.root;
  options.helpers = {{"no-such-helper"}};
  options.memory_key = "box";
  LocalBox box(
      std::make_unique<LocalChannel>(local.runs, bin + ":/usr/bin:/bin",
                                     std::vector<std::string>{"sh", "-c", keep_open, "sh"}),
      options, local.restarts);
  contract::detail::Install(box, contract::detail::Pack(temp, "hello", "1"), "boot-1");
  CHECK(contract::detail::ProbeOne(box, "hello").presence == box::Presence::kPresent);
}

TEST_CASE("a helper that finds no room is NoSpace at once, and leaves nothing behind") {
  support::TempFolder temp;
  const Local local(temp);
  const std::string bin = temp / "bin";
  const std::string helpers = local.root + "/configs/.molecule/helper";
  fs::create_directories(bin);
  // Both end before they have read what is sent; the channel tells of an end when all is read, as
  // the kubelet does.
  const std::string keeper =
      "[ $1 = sh ] || exec \"$@\"; \"$@\"; code=$?; [ $(wc -c) = 0 ] || sleep 60; exit $code";
  for (const char* program : {"tar", "mkdir"}) {
    CAPTURE(program);
    fs::remove_all(bin);
    fs::create_directories(bin);
    support::WriteText(bin + "/" + program, "#!/bin/sh\n/bin/mkdir -p \"$4\"/lib\necho '" +
                                                std::string(program) +
                                                ": write error: No space left on device' >&2\n"
                                                "exit 1\n");
    fs::permissions(bin + "/" + program, fs::perms::owner_all);
    box::ExecBoxOptions options;
    options.root = local.root;
    options.helpers = {{"no-such-helper"}};
    options.memory_key = "box";
    LocalBox box(std::make_unique<LocalChannel>(local.runs, bin + ":/usr/bin:/bin",
                                                std::vector<std::string>{"sh", "-c", keeper, "sh"}),
                 options, local.restarts);
    const auto begin = std::chrono::steady_clock::now();
    const auto refused = box.Probe({"x"}, {}, {});
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().reason == "NoSpace");
    CHECK(refused.error().code == base::Code::kInvalid);
    CHECK(refused.error().message.find("no room for the helper") != std::string::npos);
    CHECK((!fs::exists(helpers) || fs::is_empty(helpers)));
  }
}

TEST_CASE(
    "an upload of the helper leaves the folder of another that runs alone, not a dead one's") {
  support::TempFolder temp;
  const Local local(temp);
  const std::string helpers = local.root + "/configs/.molecule/helper";
  for (const char* name : {"/.new-running/lib", "/.new-dead/lib", "/earlier"})
    fs::create_directories(helpers + name);
  fs::last_write_time(helpers + "/.new-dead",
                      fs::file_time_type::clock::now() - std::chrono::hours(1));
  auto box = local.Make({{"no-such-helper"}}, true);
  REQUIRE(box->Probe({"x"}, {}, {}));
  CHECK(fs::exists(helpers + "/.new-running/lib"));
  CHECK_FALSE(fs::exists(helpers + "/.new-dead"));
  CHECK_FALSE(fs::exists(helpers + "/earlier"));
}

TEST_CASE("neither a helper nor a shell that can bring it: a reason, no guess") {
  support::TempFolder temp;
  const Local local(temp);
  auto box = local.Make({{"no-such-helper"}}, false);
  CHECK(box->Probe({"x"}, {}, {}).error().reason == "HelperUnavailable");
  // A read-only box cannot be brought one either; the message says where it should have gone.
  support::WriteText(local.root + "/configs", "not a folder");
  auto other = local.Make({{"no-such-helper"}}, true);
  const auto refused = other->Probe({"x"}, {}, {});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().reason == "HelperUnavailable");
  CHECK(refused.error().message.find(".molecule/helper") != std::string::npos);
}

TEST_CASE("a helper that dies, stays silent or talks nonsense is Unknown, never success") {
  support::TempFolder temp;
  const Local local(temp);
  support::WriteText(local.root + "/configs/settings.json", "{}");
  const auto probe = [&](const std::string& script) {
    auto box = local.Make({{"sh", "-c", script, "sh"}});
    return box->Probe({"x"}, {}, {});
  };
  CHECK(probe("exit 0").error().reason == "HelperFailed");
  CHECK(probe("kill -9 $$").error().code == base::Code::kUnavailable);
  CHECK(probe("cat").error().code == base::Code::kUnavailable);
  CHECK(probe("printf 'MBX1R\\000\\000\\000\\002{}'").error().reason == "BadReply");
  // The reply was whole, but the exit status says that something went wrong after it.
  CHECK(probe("printf 'MBX1R\\000\\000\\000\\002{}'; exit 1").error().reason == "HelperFailed");
  CHECK(probe("cat /dev/zero").error().reason == "OutputTooLarge");
  const auto loud = probe("printf '\\033[31mno\\n' >&2; exit 3");
  CHECK(loud.error().message.find('\033') == std::string::npos);
}
