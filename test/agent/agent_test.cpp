#include "agent/agent.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "agent/runtime_files.hpp"
#include "base/child_process.hpp"
#include "base/file.hpp"
#include "bundle/canonical_tar.hpp"
#include "bundle/installed/installed_plugins.hpp"
#include "bundle/installed/receipt.hpp"
#include "http/server/server.hpp"
#include "protocol/answer.hpp"
#include "protocol/heartbeat.hpp"
#include "support/captured_log.hpp"

namespace {

namespace fs = std::filesystem;
using base::Millis;

const std::string kRuntime =
    std::string(WO_SOURCE_DIR) + "/manifests/samples/quickstart/runtime/sample-runtime";

/// Waits until `done`, at most 20 s; false if it never was.
template <typename Done>
bool Eventually(const Done& done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
    ::poll(nullptr, 0, 5);
  }
  return true;
}

/// A small operator over the real HTTP server: speaks the wire protocol, keeps what was reported,
/// and can be told what to answer.
class Operator {
 public:
  explicit Operator(uint16_t port = 0) {
    http::Handlers handlers;
    handlers.handle = [this](http::ServerRequest&& request, std::unique_ptr<http::Responder> out) {
      Handle(request.request, *out);
    };
    auto server = http::Server::Start({.port = port, .worker_threads = 2}, handlers);
    REQUIRE_MESSAGE(server.has_value(), (server ? "" : server.error().message));
    server_ = std::move(*server);
  }
  ~Operator() {
    HoldDownloads(false);
    server_->Stop(Millis{1000});
  }
  uint16_t Port() const { return server_->Port(); }

  void Answer(protocol::HeartbeatAnswer answer) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
  }
  void Token(std::string token) {
    const std::lock_guard lock(mutex_);
    token_ = std::move(token);
  }
  void Artifact(const std::string& path, const std::string& file, const std::string& digest) {
    const std::lock_guard lock(mutex_);
    artifacts_[path] = {file, digest};
  }
  std::vector<protocol::Heartbeat> Beats() {
    const std::lock_guard lock(mutex_);
    return beats_;
  }
  std::optional<protocol::Heartbeat> Last() {
    const std::lock_guard lock(mutex_);
    return beats_.empty() ? std::nullopt : std::optional(beats_.back());
  }
  /// The next `times` reports are answered 503 with that Retry-After.
  void Defer(int times, std::string retry_after) {
    const std::lock_guard lock(mutex_);
    deferrals_ = times;
    retry_after_ = std::move(retry_after);
  }
  int Deferrals() {
    const std::lock_guard lock(mutex_);
    return deferrals_;
  }
  int Refused() {
    const std::lock_guard lock(mutex_);
    return refused_;
  }
  int Downloads() {
    const std::lock_guard lock(mutex_);
    return downloads_;
  }
  /// True: what is asked for is not sent before it is false.
  void HoldDownloads(bool hold) {
    const std::lock_guard lock(mutex_);
    hold_downloads_ = hold;
    let_go_.notify_all();
  }
  /// Beats that were answered with nothing but that the held answer stands.
  int Unchanged() {
    const std::lock_guard lock(mutex_);
    return unchanged_;
  }

 private:
  void Handle(const http::Request& request, http::Responder& out) {
    std::unique_lock lock(mutex_);
    if (http::FindHeader(request.headers, "Authorization") != "Bearer " + token_) {
      ++refused_;
      return out.Send({401, {}, protocol::EncodeError({"unknown_token", "not known", ""})});
    }
    if (request.method == "POST" && deferrals_ > 0) {
      --deferrals_;
      return out.Send({503,
                       {{"Retry-After", retry_after_}},
                       protocol::EncodeError({"token_review_pending", "send again", ""})});
    }
    if (request.method == "POST") {
      auto body = protocol::DecodeRegister(request.body);
      if (!body)
        return out.Send({400, {}, protocol::EncodeError({"invalid", body.error().message, ""})});
      if (body->heartbeat.inventory) held_ = body->heartbeat.inventory_digest;
      auto answer = answer_;
      answer.inventory_digest = held_;
      beats_.push_back(body->heartbeat);
      if (!answer.tag.empty() && !held_.empty()) answer.tag += held_.substr(held_.size() - 8);
      if (!answer.tag.empty() && body->heartbeat.answer_tag == answer.tag) {
        answer.unchanged = true;
        ++unchanged_;
      }
      return out.Send({200, {}, protocol::EncodeHeartbeatAnswer(answer)});
    }
    const auto found = artifacts_.find(request.target);
    if (found == artifacts_.end())
      return out.Send({404, {}, protocol::EncodeError({"not_found", "no such artifact", ""})});
    ++downloads_;
    let_go_.wait(lock, [this] { return !hold_downloads_; });
    const int fd = ::open(found->second.first.c_str(), O_RDONLY | O_CLOEXEC);
    out.SendFile({200, {{"ETag", "\"" + found->second.second + "\""}}, {}}, fd, 0,
                 fs::file_size(found->second.first));
  }

  std::mutex mutex_;
  std::condition_variable let_go_;
  bool hold_downloads_ = false;
  protocol::HeartbeatAnswer answer_;
  std::string token_ = "token";
  std::string held_;
  int deferrals_ = 0;
  std::string retry_after_;
  std::map<std::string, std::pair<std::string, std::string>> artifacts_;
  std::vector<protocol::Heartbeat> beats_;
  int downloads_ = 0;
  int refused_ = 0;
  int unchanged_ = 0;
  std::unique_ptr<http::Server> server_;
};

constexpr char kManifest[] = "name: greeter\nversion: 1.0.0\n";

/// A box in a temporary folder with the real sample runtime, and a plugin `greeter` as a canonical
/// tar.
class Fixture {
 public:
  Fixture() {
    char path[] = "/tmp/wo-agent-XXXXXX";
    root_ = ::mkdtemp(path);
    fs::create_directories(root_ + "/box/configs/.molecule");
    std::ofstream(TokenFile()) << "token\n";
    options_.root = root_ + "/box";
    options_.workspace = "uid-1";
    options_.runtime_argv = {kRuntime, Starts()};
    options_.runtime_log = root_ + "/runtime.log";
    options_.period = Millis{300};
    options_.min_period = Millis{20};
    options_.follow_period = false;
    options_.back_off_base = Millis{20};
    options_.back_off_limit = Millis{100};
    options_.boot_install = false;
    UseUrl(operator_.Port());
    const std::string yaml = kManifest;
    auto packed = bundle::WriteTarFile(
        {{"plugin.yaml", yaml.size(), false}}, {},
        [&](const bundle::FileEntry&, const bundle::ByteSink& sink) { return sink(yaml); },
        root_ + "/greeter.tar");
    REQUIRE(packed.has_value());
    digest_ = packed->digest;
  }
  ~Fixture() {
    StopAgent();
    fs::remove_all(root_);
  }
  void UseUrl(uint16_t port) { options_.operator_url = fmt::format("http://127.0.0.1:{}", port); }
  std::string TokenFile() const { return root_ + "/box/configs/.molecule/token"; }
  std::string Starts() const { return root_ + "/starts"; }

  void StartAgent() {
    agent_ =
        std::jthread([this](std::stop_token stop) { exit_code_ = agent::Run(options_, stop); });
  }
  void StopAgent() {
    if (!agent_.joinable()) return;
    agent_.request_stop();
    agent_.join();
  }
  std::vector<std::string> BootIds() const {
    std::vector<std::string> lines;
    std::ifstream file(Starts());
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }
  protocol::PluginToFetch Greeter() const {
    return {"greeter", "c0ffee", digest_, "/workspaces/uid-1/plugins/greeter/download",
            "local://greeter"};
  }
  void Serve() { operator_.Artifact(Greeter().path, root_ + "/greeter.tar", digest_); }
  bool LastHas(bool (*check)(const protocol::Heartbeat&)) {
    return Eventually([&] {
      const auto last = operator_.Last();
      return last && check(*last);
    });
  }

 protected:
  std::string root_, digest_;
  agent::AgentOptions options_;
  Operator operator_;
  int exit_code_ = -1;
  std::jthread agent_;
};

const protocol::InventoryItem* Find(const std::vector<protocol::Heartbeat>& beats,
                                    const std::string& name) {
  for (auto beat = beats.rbegin(); beat != beats.rend(); ++beat) {
    if (!beat->inventory) continue;
    for (const auto& item : *beat->inventory) {
      if (item.name == name) return &item;
    }
    return nullptr;
  }
  return nullptr;
}

bool Loaded(Operator& op, const std::string& name) {
  const auto beats = op.Beats();
  const auto* item = Find(beats, name);
  return item != nullptr && item->loaded;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture,
                  "the agent starts the runtime and reports what the runtime says it has loaded, "
                  "and nothing else") {
  fs::create_directories(root_ + "/box/configs/plugins/good");
  std::ofstream(root_ + "/box/configs/plugins/good/plugin.yaml") << "name: good\nversion: 1.0.0\n";
  fs::create_directories(root_ + "/box/configs/plugins/empty");
  std::ofstream(root_ + "/box/configs/settings.json") << R"({"mcpServers":{"search":{}}})";
  options_.management_plugin = "good";
  StartAgent();
  REQUIRE(Eventually([&] { return Loaded(operator_, "good"); }));
  const auto last = *operator_.Last();
  CHECK(last.boot_id == BootIds().back());
  CHECK(last.loaded_tools == std::vector<std::string>{"search"});
  CHECK(last.model_present == true);
  CHECK(last.management_present == true);
  CHECK(last.active_tasks == 0);
  CHECK_FALSE(last.boot_install.has_value());
  CHECK_FALSE(Loaded(operator_, "empty"));
  REQUIRE(Eventually(
      [&] { return !operator_.Last()->inventory.has_value(); }));  // acknowledged: left out
  CHECK_FALSE(operator_.Last()->inventory_digest.empty());
  std::set<std::pair<std::string, int64_t>> seen;
  for (const auto& beat : operator_.Beats())
    CHECK(seen.emplace(beat.boot_id, beat.sequence).second);
}

TEST_CASE_FIXTURE(
    Fixture, "a plugin that arrives after the start is on the box but not loaded until a restart") {
  StartAgent();
  REQUIRE(Eventually([&] { return BootIds().size() == 1 && operator_.Last(); }));
  const std::string boot = BootIds().front();
  bundle::InstalledPlugins box({.configs_path = root_ + "/box/configs"},
                               std::make_shared<bundle::DigestCache>());
  REQUIRE(box.Stage({"greeter", "local://greeter", "c0ffee", digest_, root_ + "/greeter.tar"})
              .has_value());
  REQUIRE(box.Activate("greeter", boot).has_value());
  REQUIRE(Eventually([&] {
    const auto beats = operator_.Beats();
    const auto* item = Find(beats, "greeter");
    return item != nullptr && item->activated_this_boot == true;
  }));
  CHECK_FALSE(Loaded(operator_, "greeter"));
  // Listed by the runtime (its older bytes were loaded), but replaced since: still not loaded.
  const std::string report =
      fmt::format(R"({{"bootID":"{}","plugins":[{{"name":"greeter"}}]}})", boot);
  REQUIRE(base::WriteFileAtomic(root_ + "/box/configs/.molecule/runtime-report.json", report, 0644)
              .has_value());
  const size_t before = operator_.Beats().size();
  REQUIRE(Eventually([&] { return operator_.Beats().size() > before + 2; }));
  CHECK_FALSE(Loaded(operator_, "greeter"));
  operator_.Answer({.restart_expected_boot_id = boot});
  REQUIRE(Eventually([&] { return Loaded(operator_, "greeter"); }));
  // The request stays in the answers: it is honoured once.
  const size_t beats = operator_.Beats().size();
  REQUIRE(Eventually([&] { return operator_.Beats().size() > beats + 3; }));
  CHECK(BootIds().size() == 2);
  CHECK(operator_.Last()->boot_id == BootIds().back());
}

TEST_CASE_FIXTURE(Fixture, "a restart for another boot id is not honoured; a signal's is, once") {
  std::atomic<bool> hang_up{false};
  options_.restart_signal = &hang_up;
  operator_.Answer({.restart_expected_boot_id = "somebody-else"});
  StartAgent();
  REQUIRE(Eventually([&] { return operator_.Beats().size() > 4; }));
  CHECK(BootIds().size() == 1);
  hang_up = true;
  REQUIRE(Eventually(
      [&] { return BootIds().size() == 2 && operator_.Last()->boot_id == BootIds().back(); }));
  CHECK_FALSE(hang_up);
}

TEST_CASE_FIXTURE(Fixture,
                  "boot-install pulls what is declared before the runtime starts, and it is loaded "
                  "by that start") {
  options_.boot_install = true;
  StartAgent();
  REQUIRE(Eventually([&] { return operator_.Last().has_value(); }));
  CHECK(operator_.Last()->boot_install->state == protocol::BootInstallState::kRunning);
  CHECK(BootIds().empty());
  Serve();
  operator_.Answer({.plugins_known = true, .plugins = {Greeter()}});
  REQUIRE(Eventually([&] { return Loaded(operator_, "greeter"); }));
  CHECK(operator_.Last()->boot_install->state == protocol::BootInstallState::kDone);
  CHECK(BootIds().size() == 1);
  CHECK(operator_.Downloads() == 1);
  CHECK_FALSE(fs::exists(root_ + "/box/configs/.molecule/incoming/incoming.tar"));
  const auto receipt = bundle::ParseReceipt(
      base::ReadFile(root_ + "/box/configs/.molecule/receipts/greeter.json", 1 << 20).value_or(""));
  REQUIRE(receipt);
  CHECK(receipt->boot_installed);
  // A second boot finds the right digest there: nothing is fetched again.
  StopAgent();
  StartAgent();
  REQUIRE(Eventually([&] { return BootIds().size() == 2; }));
  CHECK(operator_.Downloads() == 1);
}

TEST_CASE_FIXTURE(Fixture,
                  "what boot-install brought is told from what came after the start also while the "
                  "runtime has reported nothing (SC-1)") {
  options_.boot_install = true;
  options_.runtime_argv = {"/bin/sh", "-c",
                           "echo $MOLECULE_BOOT_ID >> " + Starts() + "; exec sleep 600"};
  Serve();
  operator_.Answer({.plugins_known = true, .plugins = {Greeter()}});
  StartAgent();
  REQUIRE(Eventually([&] {
    const auto beats = operator_.Beats();
    const auto* item = Find(beats, "greeter");
    return BootIds().size() == 1 && beats.back().boot_id == BootIds().front() && item != nullptr &&
           item->activated_this_boot == false;
  }));
  CHECK_FALSE(Loaded(operator_, "greeter"));
}

TEST_CASE_FIXTURE(
    Fixture,
    "a boot-install that fails is reported with its cause, and the runtime starts all the same") {
  options_.boot_install = true;
  const auto answer = [this](protocol::PluginToFetch wrong) {
    Serve();
    operator_.Answer({.plugins_known = true, .plugins = {wrong, Greeter()}});
  };
  SUBCASE("not there") { answer({"other", "", "sha256:00", "/nowhere", ""}); }
  SUBCASE("other bytes than the answer named") {
    auto wrong = Greeter();
    wrong.name = "other";
    wrong.digest = "sha256:" + std::string(64, '0');
    answer(wrong);
  }
  SUBCASE("a damaged artifact") {
    std::ofstream(root_ + "/damaged.tar") << "not these bytes";
    const std::string digest = "sha256:" + std::string(64, '1');
    operator_.Artifact("/damaged", root_ + "/damaged.tar", digest);
    answer({"other", "", digest, "/damaged", ""});
  }
  StartAgent();
  REQUIRE(Eventually([&] { return Loaded(operator_, "greeter"); }));
  const auto report = *operator_.Last()->boot_install;
  CHECK(report.state == protocol::BootInstallState::kFailed);
  CHECK(report.error.starts_with("other: "));
  CHECK_FALSE(fs::exists(root_ + "/box/configs/plugins/other"));
}

TEST_CASE_FIXTURE(
    Fixture, "while the operator is away the runtime runs on, and reports go on when it is back") {
  uint16_t port = 0;
  {
    const Operator gone;
    port = gone.Port();
  }
  UseUrl(port);
  StartAgent();
  REQUIRE(Eventually([&] { return BootIds().size() == 1; }));
  Operator back(port);
  REQUIRE(Eventually([&] { return back.Last().has_value(); }));
  CHECK(back.Last()->boot_id == BootIds().front());
}

TEST_CASE_FIXTURE(Fixture, "the token is waited for, and read again after it was changed") {
  fs::remove(TokenFile());
  StartAgent();
  REQUIRE(Eventually([&] { return BootIds().size() == 1; }));
  CHECK_FALSE(operator_.Last().has_value());
  std::ofstream(TokenFile()) << "token\n";
  REQUIRE(Eventually([&] { return operator_.Last().has_value(); }));
  operator_.Token("rotated");
  std::ofstream(TokenFile()) << "rotated\n";
  const size_t beats = operator_.Beats().size();
  CHECK(Eventually([&] { return operator_.Beats().size() > beats + 1; }));
}

TEST_CASE_FIXTURE(Fixture,
                  "a runtime that ends is started again under a new boot id; what it had loaded no "
                  "longer counts") {
  options_.runtime_argv = {"/bin/sh", "-c", "echo $MOLECULE_BOOT_ID >> " + Starts() + "; exit 3"};
  StartAgent();
  REQUIRE(Eventually([&] { return BootIds().size() >= 4; }));
  const auto ids = BootIds();
  CHECK(std::set<std::string>(ids.begin(), ids.end()).size() == ids.size());
  REQUIRE(Eventually([&] { return operator_.Last().has_value(); }));
  CHECK_FALSE(operator_.Last()->loaded_tools.has_value());
  CHECK_FALSE(operator_.Last()->active_tasks.has_value());
}

TEST_CASE_FIXTURE(Fixture,
                  "a runtime that ends again and again is told in every heartbeat, also while it "
                  "runs and reports, until a run has lasted") {
  options_.runtime_argv = {
      "/bin/sh", "-c",
      "echo $MOLECULE_BOOT_ID >> " + Starts() +
          "; echo \"{\\\"bootID\\\":\\\"$MOLECULE_BOOT_ID\\\"}\" > $MOLECULE_REPORT; [ -e " +
          root_ + "/mended ] && exec sleep 600; sleep 0.1; exit 3"};
  options_.stable_after = Millis{1'000};
  StartAgent();
  REQUIRE(Eventually([&] { return BootIds().size() >= 4; }));
  const size_t from = operator_.Beats().size();
  REQUIRE(Eventually([&] { return operator_.Beats().size() > from + 10; }));
  const auto beats = operator_.Beats();
  for (size_t i = from; i < beats.size(); ++i) {
    CHECK(beats[i].error_rate == 1.0);
    CHECK(beats[i].sample_error.find("/bin/sh ended with exit code 3") != std::string::npos);
  }
  std::ofstream(root_ + "/mended") << "";
  CHECK(LastHas([](const auto& beat) { return !beat.error_rate && beat.sample_error.empty(); }));
}

TEST_CASE_FIXTURE(
    Fixture, "a runtime that cannot be started is told with its cause, until it has reported") {
  SUBCASE("after a boot install") {
    options_.boot_install = true;
    operator_.Answer({.plugins_known = true});
  }
  SUBCASE("without one there is a boot id to report all the same") {}
  options_.runtime_argv = {root_ + "/runtime", Starts()};
  StartAgent();
  REQUIRE(LastHas([](const auto& beat) {
    return beat.error_rate == 1.0 &&
           beat.sample_error.starts_with("the runtime cannot be started: ") &&
           beat.sample_error.find("/runtime") != std::string::npos;
  }));
  CHECK(BootIds().empty());
  std::ofstream(root_ + "/script")
      << "#!/bin/sh\necho $$ > " << root_ << "/pid\nexec " << kRuntime << " \"$@\"\n";
  fs::permissions(root_ + "/script", fs::perms::owner_all);
  fs::rename(root_ + "/script", root_ + "/runtime");
  REQUIRE(LastHas([](const auto& beat) { return beat.error_rate != 1.0 && beat.model_present; }));
  CHECK(BootIds().size() == 1);
  // Killed once: told until the next run has reported, long before it counts as stable.
  const std::string first = BootIds().front();
  REQUIRE(::kill(std::stoi(base::ReadFile(root_ + "/pid", 64).value_or("")), SIGKILL) == 0);
  CHECK(Eventually([&] {
    const auto beats = operator_.Beats();
    return std::any_of(beats.begin(), beats.end(), [](const auto& beat) {
      return beat.sample_error.find("exit code 137") != std::string::npos;
    });
  }));
  CHECK(LastHas([](const auto& beat) { return beat.error_rate != 1.0 && beat.model_present; }));
  CHECK(BootIds().back() != first);
}

TEST_CASE_FIXTURE(Fixture, "however long it was refused, an agent tries again once a period") {
  options_.back_off_base = Millis{60'000};
  options_.back_off_limit = Millis{60'000};
  operator_.Token("of another time");
  StartAgent();
  const auto refused = [this] { return operator_.Refused() >= 3; };
  CHECK(Eventually(refused));
  operator_.Token("token");
  CHECK(Eventually([this] { return operator_.Last().has_value(); }));
}

TEST_CASE_FIXTURE(Fixture,
                  "an agent that is asked to come again does so, and calls it trouble if it "
                  "goes on") {
  std::string text;
  const auto logs = [&](const char* line) {
    const support::CapturedLog log;
    StartAgent();
    const bool done =
        Eventually([&] { return operator_.Last() && log.Text().find(line) != std::string::npos; });
    text = log.Text();
    return done;
  };
  SUBCASE("no sooner than it was asked to, while a report is due later") {
    options_.period = Millis{60'000};
    operator_.Defer(2, "1");
    const auto begin = std::chrono::steady_clock::now();
    REQUIRE(logs("the operator asks to report later"));
    CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::seconds(2));
    CHECK(text.find("warning") == std::string::npos);
  }
  SUBCASE("when a report is due, if that is sooner; a warning after some") {
    operator_.Defer(9, "3600");
    REQUIRE(logs("the operator takes reports again"));
    CHECK(text.find("the operator does not take reports") != std::string::npos);
  }
  CHECK(operator_.Deferrals() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a pull box installs and removes after boot too") {
  options_.pull = true;
  StartAgent();
  REQUIRE(Eventually([&] { return operator_.Last().has_value(); }));
  Serve();
  operator_.Answer({.plugins_known = true, .plugins = {Greeter()}});
  REQUIRE(
      Eventually([&] { return fs::exists(root_ + "/box/configs/plugins/greeter/plugin.yaml"); }));
  operator_.Answer({.plugins_known = true, .remove = {"greeter"}});
  CHECK(Eventually([&] { return !fs::exists(root_ + "/box/configs/plugins/greeter"); }));
  // It is remembered until the runtime has started anew, which nobody else looks after here.
  const std::string removals = root_ + "/box/configs/.molecule/removals";
  CHECK_FALSE(fs::is_empty(removals));
  const auto boot = operator_.Last()->boot_id;
  operator_.Answer({.plugins_known = true, .restart_expected_boot_id = boot});
  REQUIRE(Eventually([&] { return operator_.Last()->boot_id != boot; }));
  operator_.Answer({.plugins_known = true});
  CHECK(Eventually([&] { return fs::is_empty(removals); }));
}

TEST_CASE_FIXTURE(Fixture, "what was withdrawn while it was fetched is not installed") {
  options_.pull = true;
  Serve();
  operator_.HoldDownloads(true);
  StartAgent();
  REQUIRE(LastHas([](const protocol::Heartbeat& beat) { return !beat.boot_id.empty(); }));
  const auto boot = operator_.Last()->boot_id;
  operator_.Answer({.plugins_known = true, .plugins = {Greeter()}});
  REQUIRE(Eventually([&] { return operator_.Downloads() == 1; }));
  // The restart tells when the agent has done with the answer before.
  operator_.Answer({.plugins_known = true, .restart_expected_boot_id = boot});
  const size_t told = operator_.Beats().size();
  REQUIRE(Eventually([&] { return operator_.Beats().size() >= told + 2; }));
  operator_.HoldDownloads(false);
  REQUIRE(Eventually([&] { return operator_.Last()->boot_id != boot; }));
  CHECK_FALSE(fs::exists(root_ + "/box/configs/plugins/greeter"));
  CHECK_FALSE(fs::exists(root_ + "/box/configs/.molecule/staging/greeter"));
  CHECK_FALSE(fs::exists(root_ + "/box/configs/.molecule/incoming/incoming.tar"));
  CHECK(operator_.Downloads() == 1);
}

TEST_CASE_FIXTURE(Fixture, "a pull box removes what its image has brought, once it was declared") {
  options_.pull = true;
  fs::create_directories(root_ + "/box/configs/plugins/greeter");
  std::ofstream(root_ + "/box/configs/plugins/greeter/plugin.yaml") << kManifest;
  StartAgent();
  Serve();
  operator_.Answer({.plugins_known = true, .plugins = {Greeter()}});
  const std::string receipt = root_ + "/box/configs/.molecule/receipts/greeter.json";
  REQUIRE(Eventually([&] { return fs::exists(receipt); }));
  CHECK(operator_.Downloads() == 0);
  operator_.Answer({.plugins_known = true, .remove = {"greeter"}});
  CHECK(Eventually([&] { return !fs::exists(root_ + "/box/configs/plugins/greeter"); }));
}

TEST_CASE_FIXTURE(Fixture,
                  "an answer that is said to be unchanged still stands: a plugin that it names and "
                  "that was lost is fetched again") {
  Serve();
  options_.pull = true;
  operator_.Answer({.plugins_known = true, .plugins = {Greeter()}, .tag = "t1"});
  StartAgent();
  REQUIRE(Eventually([&] { return operator_.Downloads() == 1 && operator_.Unchanged() > 2; }));
  CHECK(operator_.Last()->answer_tag.starts_with("t1"));
  CHECK_FALSE(operator_.Last()->inventory.has_value());  // Its acknowledgement stands, too.
  REQUIRE(fs::remove_all(root_ + "/box/configs/plugins/greeter") > 0);
  REQUIRE(Eventually([&] { return operator_.Downloads() == 2; }));
}

TEST_CASE_FIXTURE(Fixture, "a second agent in the same box is refused, and bad options are named") {
  StartAgent();
  REQUIRE(Eventually([&] { return BootIds().size() == 1; }));
  CHECK(agent::Run(options_, {}) == 3);
  auto wrong = options_;
  wrong.operator_url = "ftp://x";
  CHECK(agent::Run(wrong, {}) == 2);
  wrong = options_;
  wrong.root = "relative";
  CHECK(agent::Run(wrong, {}) == 2);
  wrong = options_;
  wrong.root = "/nowhere/at/all";
  CHECK(agent::Run(wrong, {}) == 4);
}

/// The agent as a process of its own: this program run again with only this case.
TEST_CASE("agent process" * doctest::skip()) {
  const char* root = std::getenv("WO_AGENT_ROOT");
  const char* url = std::getenv("WO_AGENT_URL");
  const char* starts = std::getenv("WO_AGENT_STARTS");
  if (root == nullptr || url == nullptr || starts == nullptr) return;
  agent::AgentOptions options;
  options.root = root;
  options.operator_url = url;
  options.workspace = "uid-1";
  options.boot_install = false;
  options.runtime_argv = {kRuntime, starts};
  ::_exit(agent::RunUntilSignalled(options));
}

TEST_CASE_FIXTURE(
    Fixture, "SIGTERM ends the runtime and then the agent, in time; SIGHUP restarts the runtime") {
  base::Command command;
  command.argv = {"/proc/self/exe", "--no-skip", "--test-case=agent process"};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    command.environment[text.substr(0, text.find('='))] = text.substr(text.find('=') + 1);
  }
  command.environment["WO_AGENT_ROOT"] = options_.root;
  command.environment["WO_AGENT_URL"] = options_.operator_url;
  command.environment["WO_AGENT_STARTS"] = Starts();
  auto child = base::ChildProcess::Start(command, root_ + "/agent.log");
  REQUIRE(child.has_value());
  REQUIRE(Eventually([&] { return operator_.Last().has_value() && BootIds().size() == 1; }));
  ::kill((*child)->Pid(), SIGHUP);
  REQUIRE(Eventually([&] { return BootIds().size() == 2; }));
  const auto begin = std::chrono::steady_clock::now();
  ::kill((*child)->Pid(), SIGTERM);
  std::optional<int> exit_code;
  REQUIRE(Eventually([&] { return (exit_code = (*child)->Poll()).has_value(); }));
  CHECK(exit_code == 0);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
  CHECK_FALSE(*bundle::IsAgentRunning(root_ + "/box/configs"));
}

TEST_CASE_FIXTURE(Fixture, "a report of another boot, a broken one and a huge one are no report") {
  const std::string path = root_ + "/report.json";
  const auto write = [&](const std::string& text) { std::ofstream(path) << text; };
  CHECK_FALSE(agent::ReadReport(path, "b"));
  for (const std::string& text :
       {std::string(R"({"bootID":"a","plugins":[{"name":"p"}]})"), std::string(R"({"bootID":"b",)"),
        std::string("[]"), R"({"bootID":"b","x":")" + std::string(300 << 10, 'x') + "\"}"}) {
    write(text);
    CHECK_FALSE(agent::ReadReport(path, "b"));
  }
  write(R"({"bootID":"b","plugins":[{"name":"p"},{"x":1},7],"tools":["t",1],"model":"yes"})");
  const auto report = agent::ReadReport(path, "b");
  REQUIRE(report.has_value());
  CHECK(report->plugins == std::set<std::string>{"p"});
  CHECK(report->tools == std::vector<std::string>{"t"});
  CHECK_FALSE(report->model.has_value());
}
