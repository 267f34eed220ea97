#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "base/base64.hpp"
#include "base/child_process.hpp"
#include "base/clock.hpp"
#include "base/failpoint.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/sha256.hpp"
#include "support/captured_log.hpp"
#include "support/temp_folder.hpp"

using namespace std::chrono_literals;

namespace {

base::Command Shell(const std::string& script) {
  base::Command command;
  command.argv = {"/bin/sh", "-c", script};
  return command;
}

struct TemporaryFolder {
  std::string path;
  TemporaryFolder() {
    char name[] = "/tmp/wo-base-XXXXXX";
    path = mkdtemp(name);
  }
  ~TemporaryFolder() { (void)base::RunCommand(Shell("rm -rf " + path)); }
};

}  // namespace

TEST_CASE("times are read in every RFC 3339 form and written in one") {
  const struct {
    const char* text;
    const char* written;  // null: refused
  } rows[] = {
      {"2026-11-21T10:34:13Z", "2026-11-21T10:34:13Z"},
      {"2026-11-21T10:34:13.999999Z", "2026-11-21T10:34:13Z"},
      {"2026-11-21T12:34:13+02:00", "2026-11-21T10:34:13Z"},
      {"2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"},
      {"2023-02-29T00:00:00Z", nullptr},
      {"2026-11-21T25:00:00Z", nullptr},
      {"2026-11-21 10:34:13Z", nullptr},
      {"2026-11-21T10:34:13", nullptr},
      {"2026-11-21T10:34:13.Z", nullptr},
      {"", nullptr},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text);
    const auto time = base::ParseTime(row.text);
    REQUIRE(time.has_value() == (row.written != nullptr));
    if (time) CHECK(base::FormatTime(*time) == row.written);
  }
}

TEST_CASE("a digest is the one that everybody else computes") {
  CHECK(base::DigestText(base::Sha256Of("abc")) ==
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("a log line cannot be forged by a value") {
  CHECK(base::EscapeJson("a\nb\"c\\d\x1b[31m") == "a\\nb\\\"c\\\\d\\u001b[31m");
  CHECK(base::EscapeJson("\xff"
                         "ok \xc3\xa4") == "\\ufffdok \xc3\xa4");
}

TEST_CASE(
    "a child gets its arguments and environment as they are, and its outputs come back apart") {
  base::Command command;
  command.argv = {"/bin/sh", "-c", "cat; printf '%s' \"$1-$A\"; echo oops >&2; exit 3", "x",
                  "a b;$(id)"};
  command.environment = {{"A", "1"}};
  command.input = "in:";
  const auto result = base::RunCommand(command);
  REQUIRE(result.has_value());
  CHECK(result->exit_code == 3);
  CHECK(result->output == "in:a b;$(id)-1");
  CHECK(result->error == "oops\n");
}

TEST_CASE("a child that does not end is ended, with everything it started") {
  base::Command command = Shell("sleep 1000 & echo $!; wait");
  command.deadline = 300ms;
  std::string pid_text;
  command.output_sink = [&](std::string_view bytes) {
    pid_text += bytes;
    return true;
  };
  const auto result = base::RunCommand(command);
  REQUIRE_FALSE(result.has_value());
  CHECK(result.error().code == base::Code::kTimeout);
  const pid_t grandchild = std::stoi(pid_text);
  const auto end = std::chrono::steady_clock::now() + 5s;
  bool gone = false;
  while (!gone && std::chrono::steady_clock::now() < end) {
    const auto stat = base::ReadFile("/proc/" + std::to_string(grandchild) + "/stat", 4096);
    gone = !stat.has_value() || stat->find(") Z ") != std::string::npos;
  }
  CHECK(gone);
}

TEST_CASE("a child is stopped on request, and its output is bounded") {
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  const auto stopped = base::RunCommand(Shell("sleep 1000"), stop.get_token());
  REQUIRE_FALSE(stopped.has_value());
  CHECK(stopped.error().code == base::Code::kCancelled);
  base::Command endless = Shell("yes");
  endless.output_limit = 10000;
  const auto cut = base::RunCommand(endless);
  REQUIRE_FALSE(cut.has_value());
  CHECK(cut.error().reason == "OutputTooLarge");
}

TEST_CASE("a missing program is named") {
  base::Command command;
  command.argv = {"no-such-program-here"};
  const auto result = base::RunCommand(command);
  REQUIRE_FALSE(result.has_value());
  CHECK(result.error().code == base::Code::kNotFound);
  CHECK(result.error().message.find("no-such-program-here") != std::string::npos);
}

TEST_CASE("a supervised child reports its end and is gone after Terminate") {
  auto child = base::ChildProcess::Start(Shell("trap 'exit 7' TERM; while :; do sleep 0.01; done"),
                                         "/dev/null");
  REQUIRE(child.has_value());
  CHECK_FALSE((*child)->Poll().has_value());
  const int code = (*child)->Terminate(5s);
  CHECK((code == 7 || code == 128 + SIGTERM));  // TERM may come before the trap is set.
  CHECK((*child)->Poll() == code);
}

TEST_CASE("an atomic write replaces the whole file with its mode, and says why it could not") {
  const TemporaryFolder folder;
  const std::string path = folder.path + "/a/b/file";
  REQUIRE(base::MakeDirectories(folder.path + "/a/b", 0750).has_value());
  REQUIRE(base::WriteFileAtomic(path, "one", 0600).has_value());
  REQUIRE(base::WriteFileAtomic(path, "two", 0600).has_value());
  CHECK(*base::ReadFile(path, 10) == "two");
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  CHECK(base::ReadFile(path, 2).error().reason == "TooLarge");
  CHECK(base::WriteFileAtomic(folder.path + "/missing/file", "x", 0600).error().code ==
        base::Code::kNotFound);
}

TEST_CASE("base64 goes there and back and refuses what is none") {
  struct Row {
    std::string bytes, text;
  };
  for (const Row& row : std::vector<Row>{{"", ""},
                                         {"a", "YQ=="},
                                         {"ab", "YWI="},
                                         {"abc", "YWJj"},
                                         {std::string("\0\xff\xfe", 3), "AP/+"}}) {
    CHECK(base::EncodeBase64(row.bytes) == row.text);
    CHECK(base::DecodeBase64(row.text) == row.bytes);
  }
  for (const char* text : {"abc", "a$==", "a=bc", "=aaa", "AP_-", "YQ==YQ=="}) {
    CAPTURE(text);
    CHECK_FALSE(base::DecodeBase64(text));
  }
}

TEST_CASE("the field of a log scope is on every line of its thread, and on no other one") {
  std::string text;
  {
    const support::CapturedLog log;
    {
      const base::LogScope scope({"reconcileID", "17"});
      base::LogWarning("inside", {{"a", "b"}});
      std::thread([] { base::LogWarning("elsewhere"); }).join();
    }
    base::LogWarning("after");
    text = log.Text();
  }
  CHECK(text.find("inside a=\"b\" reconcileID=\"17\"\n") != std::string::npos);
  CHECK(text.find("elsewhere\n") != std::string::npos);
  CHECK(text.find("after\n") != std::string::npos);
}
