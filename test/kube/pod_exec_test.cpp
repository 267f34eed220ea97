#include "kube/pod_exec.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "support/exec_server.hpp"
#include "support/temp_folder.hpp"

namespace {

constexpr char kSuccess[] = R"({"metadata":{},"status":"Success"})";

std::string Failure(const std::string& code) {
  return R"({"status":"Failure","message":"command terminated with non-zero exit code",)"
         R"("reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":")" +
         code + "\"}]}}";
}

std::unique_ptr<kube::PodExec> Connect(const support::ExecServer& server) {
  kube::ClientConfig config;
  config.server = server.Url();
  config.ca_pem = server.Ca();
  config.token = "secret-token";
  auto made = kube::PodExec::Create(config);
  REQUIRE(made);
  return *std::move(made);
}

/// `text` in pieces of `step` bytes.
base::ByteSource Pieces(std::string text, size_t step) {
  return [text = std::move(text), step, at = size_t{0}]() mutable -> base::Result<std::string> {
    std::string piece = text.substr(std::min(at, text.size()), step);
    at += piece.size();
    return piece;
  };
}

kube::ExecRequest Cat(std::string input = "") {
  kube::ExecRequest request{.ns = "team-a", .pod = "box-1", .container = "agent"};
  request.argv = {"cat", "a b&c"};
  if (!input.empty()) request.input = Pieces(std::move(input), 1000);
  request.deadline = base::Millis{10'000};
  return request;
}

void Answer(support::ServerSocket& socket, const std::string& status) {
  socket.Send('\3', status);
  socket.Close();
}

}  // namespace

TEST_CASE("input goes in, both outputs come back, the exit code is the program's") {
  support::ExecServer server;
  std::string input(300'000, 'x');
  std::string got;
  server.Play({{.talk = [&](support::ServerSocket& socket) {
    got = socket.ReadInput();
    socket.Send('\1', "out-1 ");
    socket.Send('\2', "warning");
    socket.Send('\1', "out-2");
    Answer(socket, Failure("42"));
  }}});
  const auto result = Connect(server)->Run(Cat(input));
  REQUIRE_MESSAGE(result, (result ? "" : result.error().message));
  CHECK(got == input);
  CHECK(result->output == "out-1 out-2");
  CHECK(result->error == "warning");
  CHECK(result->exit_code == 42);
  CHECK(server.LastAuthorization() == "Bearer secret-token");
  CHECK(server.Targets().at(0) ==
        "/api/v1/namespaces/team-a/pods/box-1/exec?stdout=true&stderr=true&stdin=true"
        "&container=agent&command=cat&command=a%20b%26c");
}

TEST_CASE("a server that has only v4 is spoken to in v4, where input cannot be closed") {
  support::ExecServer server;
  server.Play({{.subprotocol = "v4.channel.k8s.io", .talk = [&](support::ServerSocket& socket) {
                  CHECK(socket.Receive() == std::string("\0hello", 6));
                  Answer(socket, kSuccess);
                }}});
  const auto result = Connect(server)->Run(Cat("hello"));
  REQUIRE(result);
  CHECK(result->exit_code == 0);
  server.Play({{.subprotocol = "channel.k8s.io"}});
  CHECK(Connect(server)->Run(Cat()).error().reason == "ExecFailed");
}

TEST_CASE("an exit status that is lost is Unknown, never success") {
  support::ExecServer server;
  const auto reason_of = [&](std::function<void(support::ServerSocket&)> talk) {
    server.Play({{.talk = std::move(talk)}});
    const auto result = Connect(server)->Run(Cat());
    CHECK(result.error().code == base::Code::kUnavailable);
    return result.error().reason;
  };
  CHECK(reason_of([](auto& socket) { socket.Cut(); }) == "ExitStatusLost");
  CHECK(reason_of([](auto& socket) {
          socket.Send('\1', "all of the output");
          socket.Close();
        }) == "ExitStatusLost");
  CHECK(reason_of([](auto& socket) {
          socket.Send('\1', "output");
          socket.Cut();
        }) == "ExitStatusLost");
  CHECK(reason_of([](auto& socket) { Answer(socket, "not JSON"); }) == "ExitStatusLost");
  CHECK(reason_of([](auto& socket) { Answer(socket, R"({"status":"Failure","message":"x"})"); }) ==
        "ExecFailed");
  CHECK(reason_of([](auto& socket) { Answer(socket, Failure("abc")); }) == "ExecFailed");
}

TEST_CASE("a status that came counts even if the connection breaks after it") {
  support::ExecServer server;
  server.Play({{.talk = [](auto& socket) {
    socket.Send('\3', kSuccess);
    socket.Cut();
  }}});
  const auto result = Connect(server)->Run(Cat());
  REQUIRE(result);
  CHECK(result->exit_code == 0);
}

TEST_CASE("a program that is not in the container is told from one that fails") {
  support::ExecServer server;
  const auto reason_of = [&](const std::string& program, const std::string& message) {
    server.Play({{.talk = [&](auto& socket) {
      Answer(
          socket,
          R"({"status":"Failure","reason":"InternalError","message":"OCI runtime exec failed: )" +
              message + "\"}");
    }}});
    auto request = Cat();
    request.argv.front() = program;
    return Connect(server)->Run(request).error();
  };
  const base::Error bare =
      reason_of("cat", R"(exec: \"cat\": executable file not found in $PATH: unknown)");
  CHECK(bare.code == base::Code::kNotFound);
  CHECK(bare.reason == "ProgramNotFound");
  CHECK(reason_of("/x/cat", R"(exec: \"/x/cat\": stat /x/cat: no such file or directory: unknown)")
            .reason == "ProgramNotFound");
  CHECK(reason_of("/x/cat", "crun: executable file `/x/cat` not found: No such file or directory")
            .reason == "ProgramNotFound");
  // The container's own working directory is missing: another program would not help.
  for (const char* program : {"cat", "/x/cat"})
    CHECK(reason_of(program, R"(chdir to cwd (\"/work\") set in config.json failed: )"
                             "no such file or directory: unknown")
              .reason == "ExecFailed");
}

TEST_CASE("a refused upgrade keeps its status and message; a 401 is tried once more") {
  support::ExecServer server;
  const auto refusal = [](int status, const char* reason) {
    return support::ExecServer::Script{
        .refuse_status = status,
        .refuse_body = std::string(R"({"kind":"Status","status":"Failure","message":"told so",)") +
                       "\"reason\":\"" + reason + "\",\"code\":" + std::to_string(status) + "}"};
  };
  server.Play({refusal(404, "NotFound")});
  auto result = Connect(server)->Run(Cat());
  CHECK(result.error().code == base::Code::kNotFound);
  CHECK(result.error().message.find("told so") != std::string::npos);
  server.Play({refusal(403, "Forbidden")});
  CHECK(Connect(server)->Run(Cat()).error().code == base::Code::kForbidden);
  server.Play({refusal(401, "Unauthorized"), {.talk = [](auto& s) { Answer(s, kSuccess); }}});
  CHECK(Connect(server)->Run(Cat()));
  server.Play({refusal(401, "Unauthorized")});
  CHECK(Connect(server)->Run(Cat()).error().code == base::Code::kUnauthorized);
}

TEST_CASE("output, time and patience are bounded") {
  support::ExecServer server;
  server.Play({{.talk = [](auto& socket) {
    while (true) socket.Send('\1', std::string(30'000, 'y'));
  }}});
  auto request = Cat();
  request.output_limit = 100'000;
  CHECK(Connect(server)->Run(request).error().reason == "OutputTooLarge");
  server.Play({{.talk = [](auto& socket) { socket.Send('\1', std::string(2 << 20, 'y')); }}});
  // A server that is cut off amid such a message may be noticed first.
  const auto large = Connect(server)->Run(Cat()).error().reason;
  CHECK((large == "TooLarge" || large == "ExitStatusLost"));
  server.Play({{.talk = [](auto& socket) { socket.Receive(); }}});
  request = Cat();
  request.deadline = base::Millis{200};
  CHECK(Connect(server)->Run(request).error().code == base::Code::kTimeout);
  std::stop_source stop;
  request = Cat();
  request.stop = stop.get_token();
  server.Play({{.talk = [&](auto& socket) {
    stop.request_stop();
    socket.Receive();
  }}});
  CHECK(Connect(server)->Run(request).error().code == base::Code::kCancelled);
  CHECK(Connect(server)->Run(request).error().code == base::Code::kCancelled);
  request = Cat();
  request.input = []() -> base::Result<std::string> {
    return base::MakeError(base::Code::kInternal, "the disk is gone", "ReadFailed");
  };
  server.Play({{.talk = [](auto& socket) { socket.Receive(); }}});
  CHECK(Connect(server)->Run(request).error().reason == "ReadFailed");
}

TEST_CASE("a server with another CA or another name is not talked to") {
  support::ExecServer server, other;
  kube::ClientConfig config;
  config.server = server.Url();
  config.ca_pem = other.Ca();
  CHECK((*kube::PodExec::Create(config))->Run(Cat()).error().reason == "TlsFailure");
  config.ca_pem = server.Ca();
  config.tls_server_name = "someone.else";
  CHECK((*kube::PodExec::Create(config))->Run(Cat()).error().reason == "TlsFailure");
  config.tls_server_name = "localhost";
  server.Play({{.talk = [](auto& socket) { Answer(socket, kSuccess); }}});
  CHECK((*kube::PodExec::Create(config))->Run(Cat()));
  config.server = "https://127.0.0.1:1";
  CHECK((*kube::PodExec::Create(config))->Run(Cat()).error().reason == "ConnectFailed");
}

TEST_CASE("a certificate authority that was rotated is read again at the handshake that fails") {
  support::ExecServer server, other;
  support::TempFolder folder;
  support::WriteText(folder / "ca.crt", other.Ca());
  kube::ClientConfig config;
  config.server = server.Url();
  config.ca_file = folder / "ca.crt";
  const auto exec = *kube::PodExec::Create(config);
  server.Play({{.talk = [](auto& socket) { Answer(socket, kSuccess); }}});
  CHECK(exec->Run(Cat()).error().reason == "TlsFailure");
  support::WriteText(folder / "ca.crt", server.Ca());
  CHECK(exec->Run(Cat()));
}

TEST_CASE("behind a closed fence nothing is run in a Pod") {
  kube::ClientConfig config;
  config.server = "http://127.0.0.1:9";  // Nobody listens: an attempt would be ConnectFailed.
  const auto exec = kube::PodExec::Create(config, [] {
    return base::Status(base::MakeError(base::Code::kUnavailable, "fenced", "NotLeader"));
  });
  REQUIRE(exec);
  const auto refused =
      (*exec)->Run({.ns = "team-a", .pod = "box-1", .container = "agent", .argv = {"true"}});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().reason == "NotLeader");
}

TEST_CASE("a lease that is lost before the second attempt keeps it from being made") {
  std::atomic<bool> runs{false};
  support::ExecServer server, other;
  support::TempFolder folder;
  kube::ClientConfig config;
  config.server = server.Url();
  config.ca_file = folder / "ca.crt";
  const support::ExecServer::Script started{.talk = [&](auto& socket) {
    runs = true;
    Answer(socket, kSuccess);
  }};
  for (const bool by_handshake : {false, true}) {  // What fails at first; else it is a 401.
    CAPTURE(by_handshake);
    support::WriteText(folder / "ca.crt", by_handshake ? other.Ca() : server.Ca());
    server.Play(by_handshake
                    ? std::vector{started}
                    : std::vector<support::ExecServer::Script>{{.refuse_status = 401}, started});
    int asked = 0;
    const auto exec = *kube::PodExec::Create(config, [&]() -> base::Status {
      support::WriteText(folder / "ca.crt", server.Ca());
      if (++asked == 1) return {};
      return base::MakeError(base::Code::kUnavailable, "fenced", "NotLeader");
    });
    const auto ended = exec->Run(Cat());
    CHECK_FALSE(runs);
    REQUIRE_FALSE(ended);
    CHECK(ended.error().reason == "NotLeader");
    CHECK(asked == 2);
  }
}

TEST_CASE("a program that was begun in a Pod, and whose end was not heard, is told of") {
  support::ExecServer server;
  support::TempFolder folder;
  kube::ClientConfig config;
  config.server = server.Url();
  config.ca_file = folder / "ca.crt";
  support::WriteText(folder / "ca.crt", server.Ca());
  int lost = 0;
  const auto exec = *kube::PodExec::Create(config, nullptr, [&] { ++lost; });
  server.Play({{.talk = [](auto& socket) { Answer(socket, kSuccess); }}});
  CHECK(exec->Run(Cat()));
  CHECK(lost == 0);
  server.Play({{.refuse_status = 403}});
  CHECK_FALSE(exec->Run(Cat()));
  CHECK(lost == 0);
  server.Play({{.talk = [](auto& socket) { socket.Cut(); }}});
  CHECK_FALSE(exec->Run(Cat()));
  CHECK(lost == 1);
  std::stop_source stop;
  server.Play({{.talk = [&](auto& socket) {
    socket.Send('\1', "it runs");
    stop.request_stop();
    while (true) socket.Send('\1', "and goes on");
  }}});
  auto request = Cat();
  request.output_limit = 1 << 30;
  request.stop = stop.get_token();
  CHECK(exec->Run(request).error().code == base::Code::kCancelled);
  CHECK(lost == 2);
  auto look = Cat();
  look.effect = base::Effect::kReads;
  server.Play({{.talk = [](auto& socket) { socket.Cut(); }}});
  CHECK(exec->Run(look).error().reason == "ExitStatusLost");
  CHECK(lost == 2);                       // It changes nothing, however long it runs on.
  config.server = "https://127.0.0.1:9";  // Nobody listens.
  CHECK_FALSE((*kube::PodExec::Create(config, nullptr, [&] { ++lost; }))->Run(Cat()));
  CHECK(lost == 2);
}
