#include "server/operator_server.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <mutex>

#include "base/sha256.hpp"
#include "codec/json.hpp"
#include "http/client/client.hpp"
#include "protocol/answer.hpp"

namespace {

/// The real server on loopback, two workspaces (uid-1 of token `one`, uid-2 of token `two`), an
/// editor and a reader of namespace team.
class Fixture {
 public:
  Fixture() : table_({}, nullptr) {
    table_.TakeOver(base::SystemClock::Get().Read());
    Add("1", "one");
    Add("2", "two");
    server_ = std::make_unique<server::OperatorServer>(table_, base::SystemClock::Get(), Ports());
    auto listening = http::Server::Start({.in_flight_limit = 64}, server_->Handlers());
    REQUIRE_MESSAGE(listening.has_value(), (listening ? "" : listening.error().message));
    listening_ = std::move(*listening);
    http::ClientOptions options;
    options.base_url = fmt::format("http://127.0.0.1:{}", listening_->Port());
    client_ = std::move(*http::Client::Create(options));
  }
  ~Fixture() {
    client_.reset();
    listening_->Stop(base::Millis{1000});
  }

  void Add(const std::string& n, const std::string& token) {
    fleet::SlotSettings settings;
    settings.uid = "uid-" + n;
    settings.key = {"team", "ws-" + n};
    settings.token_hash = base::Sha256Of(token);
    settings.period_seconds = 7;
    table_.Upsert(settings, base::SystemClock::Get().Read());
  }

  struct Ask {
    std::string method = "GET";
    std::string target;
    std::string token = {};
    std::string body = {};
    http::Headers headers = {};
  };
  http::Response Send(const Ask& ask) {
    http::Request request{ask.method, ask.target, ask.headers, ask.body};
    if (!ask.token.empty()) request.headers.emplace_back("Authorization", "Bearer " + ask.token);
    auto response = client_->Send(request, {});
    REQUIRE_MESSAGE(response.has_value(), (response ? "" : response.error().message));
    return *response;
  }
  http::Response Beat(const std::string& token, const std::string& body) {
    return Send({"POST", "/registry/heartbeat", token, body});
  }

 protected:
  server::ServerPorts Ports() {
    server::ServerPorts ports;
    ports.wake = [this](const meta::ObjectKey& key) {
      const std::lock_guard lock(mutex_);
      woken_.push_back(key.Text());
    };
    ports.review = [](std::string_view token) -> std::optional<base::Error> {
      if (token != "unreviewed") return std::nullopt;
      base::Error error =
          base::MakeError(base::Code::kUnavailable, "may not ask", "ReviewsForbidden");
      error.retry_after = base::Millis{5000};
      return error;
    };
    ports.authorise = [](const server::AuthoriseRequest& r) -> base::Status {
      const std::string& token = r.caller.bearer_token;
      if (token == "unreviewed")
        return base::MakeError(base::Code::kUnavailable, "may not ask", "ReviewsForbidden");
      if (token == "down") {
        base::Error error = base::MakeError(base::Code::kUnavailable, "cannot be checked now");
        error.retry_after = base::Millis{2500};
        return error;
      }
      if (token != "admin" && token != "editor" && token != "reader") {
        return base::MakeError(base::Code::kUnauthorized, "not known");
      }
      const bool may = token == "admin" ||
                       (r.ns == "team" && (token == "editor" || r.verb == server::Verb::kGet));
      if (!may) return base::MakeError(base::Code::kForbidden, "may not");
      return {};
    };
    ports.find_workspace = [](const std::string& id) -> base::Result<server::WorkspaceView> {
      if (id == "uid-1" || id == "team.ws-1")
        return server::WorkspaceView{{"team", "ws-1"}, "uid-1", api::BoxType::kDirectory};
      if (id == "uid-9" || id == "team.ws-9")
        return server::WorkspaceView{{"team", "ws-9"}, "uid-9", api::BoxType::kExternal};
      return base::MakeError(base::Code::kNotFound, "there is no such workspace");
    };
    ports.list_plugins = [](const server::WorkspaceView&) -> base::Result<server::PluginList> {
      server::PluginList list;
      api::PluginRow row;
      row.name = "greeter";
      row.source = "local://greeter";
      row.loaded = true;
      list.rows.push_back(row);
      list.observed_time = base::SystemClock::Get().Read().wall - base::Seconds{30};
      list.stale = true;
      list.cause = "unreachable";
      return list;
    };
    ports.declare_plugin = [](const server::Declaration& d) -> base::Result<server::Declared> {
      if (d.name == "privileged")
        return base::MakeError(base::Code::kForbidden, "an Agent workspace", "NotEntitled");
      if (d.name == "rival")
        return base::MakeError(base::Code::kConflict, "declared otherwise", "Conflict");
      if (d.name == "stopped")
        return base::MakeError(base::Code::kUnavailable, "it exited", "BoxStopped");
      return server::Declared{{d.workspace.key.ns, "ws-1-" + d.name}};
    };
    ports.withdraw_plugin = [](const server::Declaration& d) -> base::Result<server::Declared> {
      if (d.name != "greeter") return base::MakeError(base::Code::kNotFound, "not declared");
      return server::Declared{{"team", "greeter"}};
    };
    ports.open_artifact = [](const server::WorkspaceView& view,
                             const std::string& name) -> base::Result<server::ArtifactFile> {
      if (view.uid != "uid-1" || name != "greeter")
        return base::MakeError(base::Code::kNotFound, "no such plugin");
      char path[] = "/tmp/wo-artifact-XXXXXX";
      const int fd = ::mkstemp(path);
      ::unlink(path);
      REQUIRE(::write(fd, "0123456789", 10) == 10);
      return server::ArtifactFile{fd, 10, base::DigestText(base::Sha256Of("0123456789"))};
    };
    ports.health = {{"alive", [] { return std::optional<std::string>(); }}};
    ports.ready = {{"cache", [this] {
                      return not_ready_ ? std::optional<std::string>("still filling")
                                        : std::nullopt;
                    }}};
    ports.metrics = [] { return std::string("up 1\n"); };
    ports.may_scrape = [this](const std::string& token) -> base::Status {
      if (!guarded_ || token == "reader") return {};
      if (token == "away") return base::MakeError(base::Code::kUnavailable, "the API is away");
      if (token.empty()) return base::MakeError(base::Code::kUnauthorized, "no token");
      return base::MakeError(base::Code::kForbidden, "get on the path /metrics is needed");
    };
    ports.build = {"0.1.0", "abc", "embedded"};
    return ports;
  }

  std::mutex mutex_;
  std::vector<std::string> woken_;
  std::atomic<bool> not_ready_{false};
  std::atomic<bool> guarded_{false};  ///< /metrics is for some only.
  fleet::HeartbeatTable table_;
  std::unique_ptr<server::OperatorServer> server_;
  std::unique_ptr<http::Server> listening_;
  std::unique_ptr<http::Client> client_;
};

std::string Body(int sequence, const std::string& more = "",
                 const std::string& workspace = "uid-1") {
  return fmt::format(R"({{"workspace":"{}","bootID":"boot","sequence":{}{}}})", workspace, sequence,
                     more);
}

std::string ErrorOf(const http::Response& response) {
  const auto body = protocol::DecodeError(response.body);
  REQUIRE_MESSAGE(body.has_value(), response.body);
  CHECK_FALSE(body->message.empty());
  CHECK_FALSE(body->hint.empty());
  CHECK(http::FindHeader(response.headers, "Content-Type") == "application/json");
  return body->error;
}

}  // namespace

TEST_CASE_FIXTURE(
    Fixture,
    "a heartbeat is recorded, wakes its workspace once, and is answered with the decision") {
  table_.SetAnswer("uid-1", {.state = "Online", .reason = "AllGood"});
  const auto first = Beat("one", Body(1));
  REQUIRE(first.status == 200);
  const auto answer = protocol::DecodeHeartbeatAnswer(first.body);
  REQUIRE(answer.has_value());
  CHECK(answer->state == "Online");
  CHECK(answer->next_period_seconds == 7);
  CHECK(Beat("one", Body(2, R"(,"currentTask":"x","errorRate":0.1)")).status == 200);
  CHECK(woken_ == std::vector<std::string>{"team/ws-1"});
  CHECK(table_.Snapshot("uid-1")->last->current_task == "x");
  CHECK(Beat("one", Body(3, "", "team.ws-1")).status == 200);
}

TEST_CASE_FIXTURE(Fixture, "an agent whose token could not be read yet is asked to come again") {
  fleet::SlotSettings unread;
  unread.uid = "uid-3";
  unread.key = {"team", "ws-3"};
  unread.token_unread = true;
  table_.Upsert(unread, base::SystemClock::Get().Read());
  const auto early = Beat("three", "{}");
  CHECK(early.status == 503);
  CHECK(http::FindHeader(early.headers, "Retry-After") == "5");
  unread.token_unread = false;
  table_.Upsert(unread, base::SystemClock::Get().Read());
  CHECK(Beat("three", "{}").status == 401);
}

TEST_CASE_FIXTURE(Fixture,
                  "an agent that names the answer it holds is told only that nothing has changed") {
  table_.SetAnswer("uid-1", {.state = "Online", .reason = "AllGood"});
  const auto whole = protocol::DecodeHeartbeatAnswer(Beat("one", Body(1)).body);
  REQUIRE(whole.has_value());
  REQUIRE_FALSE(whole->tag.empty());
  const std::string holds = fmt::format(R"(,"answerTag":"{}")", whole->tag);
  CHECK(Beat("one", Body(2, holds)).body == R"({"unchanged":true})");
  CHECK(Send({"POST", "/registry/register", "one", Body(3, holds)}).body ==
        R"({"unchanged":true})");
  // Of another state, of another workspace, or of nobody: the whole answer.
  CHECK(protocol::DecodeHeartbeatAnswer(Beat("one", Body(4, R"(,"answerTag":"0")")).body)->state ==
        "Online");
  CHECK(Beat("two", Body(1, holds, "uid-2")).body != R"({"unchanged":true})");
  table_.SetAnswer("uid-1", {.state = "Degraded", .reason = "ErrorRateHigh"});
  const auto changed = protocol::DecodeHeartbeatAnswer(Beat("one", Body(5, holds)).body);
  REQUIRE(changed.has_value());
  CHECK_FALSE(changed->unchanged);
  CHECK(changed->state == "Degraded");
  CHECK(changed->tag != whole->tag);
}

TEST_CASE_FIXTURE(Fixture,
                  "bad heartbeats: a 4xx with a JSON error, and nothing is recorded or woken") {
  REQUIRE(Beat("one", Body(5)).status == 200);
  woken_.clear();
  std::string deep = R"({"x":)" + std::string(10'000, '[') + std::string(10'000, ']') + "}";
  struct Row {
    const char* name;
    std::string token;
    std::string body;
    int status;
    const char* error;
  };
  const Row rows[] = {
      {"no token", "", Body(6), 401, "unauthorized"},
      {"an unknown token", "three", Body(6), 401, "unknown_token"},
      {"another workspace's token", "two", Body(6), 403, "other_workspace"},
      {"a workspace that does not exist", "two", Body(6, "", "nobody"), 403, "other_workspace"},
      {"10 MiB", "one", Body(6, ",\"x\":\"" + std::string(10 << 20, 'x') + "\""), 413, ""},
      {"300 KiB", "one", Body(6, ",\"x\":\"" + std::string(300 << 10, 'x') + "\""), 413,
       "too_large"},
      {"10,000 deep", "one", deep, 400, "invalid_field"},
      {"invalid UTF-8", "one", Body(6, ",\"currentTask\":\"\xff\""), 400, "invalid_field"},
      {"NaN", "one", Body(6, R"(,"errorRate":NaN)"), 400, "invalid_field"},
      {"a wrong type", "one", Body(6, R"(,"activeTasks":"2")"), 400, "invalid_field"},
      {"an empty body", "one", "", 400, "invalid_field"},
      {"a replayed sequence", "one", Body(5), 409, "stale_sequence"},
      {"an older sequence", "one", Body(4), 409, "stale_sequence"},
  };
  for (const Row& row : rows) {
    INFO(std::string(row.name));
    for (const char* path : {"/registry/heartbeat", "/registry/register"}) {
      http::Request request{"POST", path, {}, row.body};
      if (!row.token.empty()) request.headers.emplace_back("Authorization", "Bearer " + row.token);
      const auto response = client_->Send(request, {});
      // A server that refuses before it reads may close while a large body is still being sent.
      if (!response && row.body.size() > (200 << 10)) continue;
      REQUIRE(response.has_value());
      CHECK(response->status == row.status);
      if (*row.error != '\0') CHECK(ErrorOf(*response) == row.error);
    }
  }
  CHECK(woken_.empty());
  CHECK(table_.Snapshot("uid-1")->last->sequence == 5);
  CHECK_FALSE(table_.Snapshot("uid-2")->last.has_value());
  CHECK(Beat("one", Body(6)).status == 200);
}

TEST_CASE_FIXTURE(Fixture,
                  "a flood of one workspace is answered 429 with a wait, others are served") {
  int refused = 0;
  http::Response last;
  for (int i = 1; i <= 60; ++i) {
    auto response = Beat("one", Body(i));
    if (response.status != 429) continue;
    ++refused;
    last = std::move(response);
  }
  CHECK(refused > 0);
  REQUIRE(last.status == 429);
  CHECK(ErrorOf(last) == "too_many_requests");
  CHECK(http::FindHeader(last.headers, "Retry-After") == "1");
  CHECK(Beat("two", Body(1, "", "uid-2")).status == 200);
}

TEST_CASE_FIXTURE(
    Fixture, "before the tokens are loaded an agent is told to come again, and is not let in") {
  fleet::HeartbeatTable fresh({}, nullptr);
  server::OperatorServer early(fresh, base::SystemClock::Get(), Ports());
  auto listening = http::Server::Start({}, early.Handlers());
  REQUIRE(listening.has_value());
  auto client =
      http::Client::Create({.base_url = fmt::format("http://127.0.0.1:{}", (*listening)->Port())});
  const auto response = (*client)->Send(
      {"POST", "/registry/heartbeat", {{"Authorization", "Bearer one"}}, Body(1)}, {});
  REQUIRE(response.has_value());
  CHECK(response->status == 503);
  CHECK(http::FindHeader(response->headers, "Retry-After") == "1");
  (*listening)->Stop(base::Millis{1000});
}

TEST_CASE_FIXTURE(
    Fixture, "register answers 400 while the gate fails, and is recorded and wakes all the same") {
  table_.SetAnswer("uid-1", {.state = "Failed",
                             .reason = "ManagementMissing",
                             .message = "not there",
                             .gate_failing = true});
  const auto refused = Send(
      {"POST", "/registry/register", "one", Body(1, R"(,"box":{"identity":"b","pull":true})")});
  CHECK(refused.status == 400);
  CHECK(ErrorOf(refused) == "management_missing");
  CHECK(table_.Snapshot("uid-1")->box_identity == "b");
  CHECK(woken_.size() == 1);
  const auto beat = Beat("one", Body(2));
  CHECK(beat.status == 200);
  CHECK(protocol::DecodeHeartbeatAnswer(beat.body)->reason == "ManagementMissing");
  table_.SetAnswer("uid-1", {.state = "Online"});
  CHECK(Send({"POST", "/registry/register", "one", Body(3)}).status == 200);
}

TEST_CASE_FIXTURE(Fixture, "the download is for that workspace's token only") {
  const std::string path = "/workspaces/uid-1/plugins/greeter/download";
  CHECK(Send({"GET", path}).status == 401);
  CHECK(Send({"GET", path, "admin"}).status == 401);
  const auto foreign = Send({"GET", path, "two"});
  const auto unknown = Send({"GET", "/workspaces/nobody/plugins/greeter/download", "two"});
  CHECK(foreign.status == 403);
  CHECK(foreign.body == unknown.body);
  CHECK(Send({"GET", "/workspaces/uid-1/plugins/other/download", "one"}).status == 404);
  CHECK(Send({"GET", "/workspaces/team.ws-1/plugins/greeter/download", "one"}).status == 200);
}

TEST_CASE_FIXTURE(Fixture, "the download: tag, digest, not modified, and ranges") {
  const std::string path = "/workspaces/uid-1/plugins/greeter/download";
  const auto whole = Send({"GET", path, "one"});
  CHECK(whole.status == 200);
  CHECK(whole.body == "0123456789");
  const std::string etag(http::FindHeader(whole.headers, "ETag"));
  CHECK(etag == "\"" + base::DigestText(base::Sha256Of("0123456789")) + "\"");
  CHECK(http::FindHeader(whole.headers, "Digest") ==
        "sha-256=hNiYd/DUBB77a/kaFvAkjy/Vc+avBcGflr7bn4gveII=");
  struct Row {
    const char* header;
    std::string value;
    int status;
    const char* body;
    const char* content_range;
  };
  const Row rows[] = {
      {"If-None-Match", etag, 304, "", ""},
      {"If-None-Match", "\"a\", W/" + etag, 304, "", ""},
      {"If-None-Match", "*", 304, "", ""},
      {"If-None-Match", "\"other\"", 200, "0123456789", ""},
      {"Range", "bytes=2-4", 206, "234", "bytes 2-4/10"},
      {"Range", "bytes=7-", 206, "789", "bytes 7-9/10"},
      {"Range", "bytes=-3", 206, "789", "bytes 7-9/10"},
      {"Range", "bytes=0-99", 206, "0123456789", "bytes 0-9/10"},
      {"Range", "bytes=-99", 206, "0123456789", "bytes 0-9/10"},
      {"Range", "bytes=10-", 416, nullptr, "bytes */10"},
      {"Range", "bytes=-0", 416, nullptr, "bytes */10"},
      {"Range", "bytes=4-2", 200, "0123456789", ""},
      {"Range", "bytes=0-1,3-4", 200, "0123456789", ""},
      {"Range", "bytes=18446744073709551616-", 200, "0123456789", ""},
      {"Range", "lines=1-2", 200, "0123456789", ""},
  };
  for (const Row& row : rows) {
    INFO(row.header << ": " << row.value);
    const auto response = Send({"GET", path, "one", {}, {{row.header, row.value}}});
    CHECK(response.status == row.status);
    if (row.body != nullptr) CHECK(response.body == row.body);
    CHECK(http::FindHeader(response.headers, "Content-Range") == row.content_range);
  }
  const auto stale =
      Send({"GET", path, "one", {}, {{"Range", "bytes=2-4"}, {"If-Range", "\"x\""}}});
  CHECK(stale.status == 200);
}

TEST_CASE_FIXTURE(Fixture, "declaring and withdrawing: who may, what exists, and what is refused") {
  const std::string source = R"({"source":"local://p","name":"NAME"})";
  const auto named = [&](const std::string& name) {
    std::string body = source;
    return body.replace(body.find("NAME"), 4, name);
  };
  struct Row {
    const char* name;
    Ask ask;
    int status;
    const char* error;
  };
  const Row rows[] = {
      {"declared", {"POST", "/workspaces/uid-1/plugins", "editor", named("p")}, 202, ""},
      {"by namespace and name",
       {"POST", "/workspaces/team.ws-1/plugins", "admin", named("p")},
       202,
       ""},
      {"nobody", {"POST", "/workspaces/uid-1/plugins", "", named("p")}, 401, "unauthorized"},
      {"an agent's token is no person's",
       {"POST", "/workspaces/uid-1/plugins", "one", named("p")},
       401,
       "unauthorized"},
      {"a reader", {"POST", "/workspaces/uid-1/plugins", "reader", named("p")}, 403, "forbidden"},
      {"cannot be checked",
       {"POST", "/workspaces/uid-1/plugins", "down", named("p")},
       503,
       "unavailable"},
      {"who may not learns not that it is missing",
       {"POST", "/workspaces/other.ws/plugins", "editor", named("p")},
       403,
       "forbidden"},
      {"an unknown UID is no one's namespace",
       {"POST", "/workspaces/uid-0/plugins", "editor", named("p")},
       403,
       "forbidden"},
      {"who may not learns not that it is external",
       {"POST", "/workspaces/uid-9/plugins", "reader", named("p")},
       403,
       "forbidden"},
      {"missing",
       {"POST", "/workspaces/team.none/plugins", "editor", named("p")},
       404,
       "not_found"},
      {"external",
       {"POST", "/workspaces/uid-9/plugins", "editor", named("p")},
       422,
       "external_box"},
      {"withdraw from external",
       {"DELETE", "/workspaces/uid-9/plugins/p", "editor"},
       422,
       "external_box"},
      {"not entitled",
       {"POST", "/workspaces/uid-1/plugins", "editor", named("privileged")},
       403,
       "not_entitled"},
      {"conflict",
       {"POST", "/workspaces/uid-1/plugins", "editor", named("rival")},
       409,
       "conflict"},
      {"box stopped",
       {"POST", "/workspaces/uid-1/plugins", "editor", named("stopped")},
       503,
       "box_stopped"},
      {"no source", {"POST", "/workspaces/uid-1/plugins", "editor", "{}"}, 400, "invalid_field"},
      {"unknown field",
       {"POST", "/workspaces/uid-1/plugins", "editor", R"({"source":"s","sorce":"t"})"},
       400,
       "invalid_field"},
      {"not an object",
       {"POST", "/workspaces/uid-1/plugins", "editor", "[]"},
       400,
       "invalid_field"},
      {"withdrawn", {"DELETE", "/workspaces/uid-1/plugins/greeter", "editor"}, 202, ""},
      {"not declared", {"DELETE", "/workspaces/uid-1/plugins/none", "editor"}, 404, "not_found"},
  };
  for (const Row& row : rows) {
    INFO(std::string(row.name));
    const auto response = Send(row.ask);
    CHECK(response.status == row.status);
    if (*row.error != '\0') CHECK(ErrorOf(response) == row.error);
    if (row.status == 202)
      CHECK(http::FindHeader(response.headers, "Location") == "/workspaces/uid-1/plugins");
  }
  CHECK(http::FindHeader(Send(rows[5].ask).headers, "Retry-After") == "3");
  const auto hint = protocol::DecodeError(Send(rows[10].ask).body)->hint;
  CHECK(hint.find("GET /workspaces/uid-9/plugins/p/download") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "the list says how old it is and that it is stale") {
  const auto response = Send({"GET", "/workspaces/uid-1/plugins", "reader"});
  REQUIRE(response.status == 200);
  const auto json = *codec::ParseJson(response.body);
  CHECK(json["plugins"][0]["name"] == "greeter");
  CHECK(json["stale"] == true);
  CHECK(json["cause"] == "unreachable");
  CHECK(json["ageSeconds"].get<int>() >= 30);
}

TEST_CASE_FIXTURE(Fixture, "probes, metrics, build info, and what is not served") {
  CHECK(Send({"GET", "/healthz"}).status == 200);
  CHECK(Send({"GET", "/livez"}).status == 200);
  CHECK(Send({"GET", "/readyz?verbose"}).status == 200);
  not_ready_ = true;
  const auto failing = Send({"GET", "/readyz"});
  CHECK(failing.status == 503);
  CHECK(failing.body.find("still filling") != std::string::npos);
  CHECK(ErrorOf(failing) == "not_ready");
  CHECK(Send({"GET", "/metrics"}).body == "up 1\n");
  guarded_ = true;
  for (const auto& [token, status] :
       std::map<std::string, int>{{"", 401}, {"somebody", 403}, {"away", 503}, {"reader", 200}}) {
    CAPTURE(token);
    const auto answer = Send({"GET", "/metrics", token});
    CHECK(answer.status == status);
    CHECK((answer.body == "up 1\n") == (status == 200));
  }
  CHECK(codec::ParseJson(Send({"GET", "/buildinfo"}).body)->at("commit") == "abc");
  for (const char* path : {"/", "/nothing", "/registry", "/registry/heartbeat/",
                           "/workspaces/a/plugins/b/c", "/healthz/x", "//healthz"}) {
    INFO(std::string(path));
    const auto response = Send({"GET", path});
    CHECK(response.status == 404);
    CHECK(ErrorOf(response) == "not_found");
    CHECK(response.body.find("docs/reference/http-api.md") != std::string::npos);
  }
  const auto wrong = Send({"PUT", "/workspaces/a/plugins"});
  CHECK(wrong.status == 405);
  CHECK(http::FindHeader(wrong.headers, "Allow") == "GET, POST");
  CHECK(ErrorOf(wrong) == "method_not_allowed");
  for (const char* path : {"/workspaces/%2e%2e/plugins", "/workspaces/a%2fb/plugins",
                           "/workspaces/%zz/plugins", "/workspaces/%0a/plugins"}) {
    INFO(std::string(path));
    CHECK(Send({"GET", path, "admin"}).status == 400);
  }
}

TEST_CASE_FIXTURE(Fixture, "whose token cannot be checked for a missing right is told the remedy") {
  for (const auto& ask : {Ask{"POST", "/registry/heartbeat", "unreviewed", "{}"},
                          Ask{"POST", "/registry/register", "unreviewed", "{}"},
                          Ask{"GET", "/workspaces/team.ws-1/plugins", "unreviewed"}}) {
    INFO(ask.target);
    const auto answer = Send(ask);
    CHECK(answer.status == 503);
    const auto body = protocol::DecodeError(answer.body);
    REQUIRE(body);
    CHECK(body->error == "reviews_forbidden");
    CHECK(body->message == "ReviewsForbidden: may not ask");
    CHECK(body->hint.find("cluster/auth_delegator.yaml") != std::string::npos);
  }
  CHECK(http::FindHeader(Beat("unreviewed", "{}").headers, "Retry-After") == "5");
}
