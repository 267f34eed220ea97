#include "kube/client.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>
#include <vector>

#include "codec/json.hpp"
#include "http/server/server.hpp"
#include "http/tls.hpp"
#include "kube/status_error.hpp"

namespace {

using namespace std::chrono_literals;

/// An API server that follows a script: each request takes the next answer; what was asked is kept.
struct ScriptedApi {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<http::Response> answers;   ///< By mutex. Empty: 200 {}.
  std::vector<http::Request> requests;  ///< By mutex.
  std::deque<std::vector<std::string>>
      streams;  ///< By mutex: pieces for each watch; a last piece "HOLD" keeps it open.
  std::vector<std::shared_ptr<http::ResponseStream>> held;
  std::unique_ptr<http::Server> server;
  kube::ClientConfig config;
  kube::ClientOptions options;

  ScriptedApi() {
    http::Handlers handlers;
    handlers.handle = [this](http::ServerRequest&& request,
                             std::unique_ptr<http::Responder> responder) {
      const std::lock_guard lock(mutex);
      requests.push_back(request.request);
      if (request.request.target.find("watch=true") != std::string::npos && !streams.empty()) {
        auto pieces = streams.front();
        streams.pop_front();
        auto stream =
            responder->StartStream({200, {{"Content-Type", "application/json"}}, ""}, 1 << 20);
        for (const auto& piece : pieces) {
          if (piece == "HOLD")
            held.push_back(stream);
          else
            stream->Write(piece);
        }
        if (held.empty() || held.back() != stream) stream->Finish();
        changed.notify_all();
        return;
      }
      http::Response answer{200, {}, "{}"};
      if (!answers.empty()) {
        answer = answers.front();
        answers.pop_front();
      }
      responder->Send(answer);
      changed.notify_all();
    };
    auto started = http::Server::Start({}, handlers);
    REQUIRE(started);
    server = *std::move(started);
    config.server = "http://127.0.0.1:" + std::to_string(server->Port()) + "/prefix/";
    config.token = "t0ken";
  }
  ~ScriptedApi() {
    {
      const std::lock_guard lock(mutex);
      held.clear();
    }
    server->Stop(1s);
  }
  std::unique_ptr<kube::Client> Client() {
    auto client = kube::Client::Create(config, options);
    REQUIRE(client);
    return *std::move(client);
  }
  std::string Header(size_t request, const char* name) const {
    return std::string(http::FindHeader(requests[request].headers, name));
  }
};

const kube::ObjectRef kObject{kube::kWorkspaces, "a", "w"};

}  // namespace

TEST_CASE("each verb sends its method, path, query, content type and identity") {
  ScriptedApi api;
  api.config.impersonate_user = "someone";
  api.config.impersonate_uid = "7";
  api.config.impersonate_extra = {{"scopes", "x"}};
  const auto client = api.Client();
  const std::string base = "/prefix/apis/molecule.ai/v1alpha1/namespaces/a/workspaces";
  CHECK(client->Get(kObject).has_value());
  CHECK(client->Create({kube::kWorkspaces, "a"}, "{\"x\":1}", {.strict = true}).has_value());
  CHECK(client->Update(kObject, "{}").has_value());
  CHECK(client
            ->Patch(kObject, {kube::PatchType::kApply, "{}"},
                    {.field_manager = "me & you", .force = true, .dry_run = true})
            .has_value());
  CHECK(client->Patch(kObject, {kube::PatchType::kJson, "[]"}).has_value());
  CHECK(client->PatchStatus(kObject, {kube::PatchType::kMerge, "{}"}).has_value());
  CHECK(client->Delete(kObject, {.uid = "u1"}).has_value());
  CHECK(client->GetRaw("/version").has_value());
  struct Row {
    std::string method, target, type;
  };
  const std::vector<Row> rows = {
      {"GET", base + "/w", ""},
      {"POST", base + "?fieldManager=workspace-operator&fieldValidation=Strict",
       "application/json"},
      {"PUT", base + "/w?fieldManager=workspace-operator", "application/json"},
      {"PATCH", base + "/w?fieldManager=me%20%26%20you&force=true&dryRun=All",
       "application/apply-patch+yaml"},
      {"PATCH", base + "/w?fieldManager=workspace-operator", "application/json-patch+json"},
      {"PATCH", base + "/w/status?fieldManager=workspace-operator", "application/merge-patch+json"},
      {"DELETE", base + "/w", "application/json"},
      {"GET", "/prefix/version", ""},
  };
  REQUIRE(api.requests.size() == rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    CAPTURE(i);
    CHECK(api.requests[i].method == rows[i].method);
    CHECK(api.requests[i].target == rows[i].target);
    CHECK(api.Header(i, "Content-Type") == rows[i].type);
    CHECK(api.Header(i, "Authorization") == "Bearer t0ken");
    CHECK(api.Header(i, "Impersonate-User") == "someone");
    CHECK(api.Header(i, "Impersonate-Uid") == "7");
    CHECK(api.Header(i, "Impersonate-Extra-scopes") == "x");
    CHECK(api.Header(i, "User-Agent") == "workspace-operator");
  }
  const auto body = codec::ParseJson(api.requests[6].body);
  REQUIRE(body);
  CHECK((*body)["preconditions"]["uid"] == "u1");
}

TEST_CASE("what is tried again, and how often") {
  struct Row {
    const char* name;
    bool write;
    std::vector<http::Response> answers;
    size_t requests;
    bool works;
  };
  const http::Headers soon = {{"Retry-After", "0"}};
  const std::vector<Row> rows = {
      {"a GET after 503", false, {{503, {}, ""}}, 2, true},
      {"a GET that keeps failing",
       false,
       {{500, {}, ""}, {500, {}, ""}, {500, {}, ""}, {500, {}, ""}},
       3,
       false},
      {"a write after 429 with Retry-After", true, {{429, soon, ""}}, 2, true},
      {"a write after 503 without Retry-After", true, {{503, {}, ""}}, 1, false},
      {"a conflict", true, {{409, {}, ""}}, 1, false},
      {"a wait beyond the deadline", false, {{429, {{"Retry-After", "600"}}, ""}}, 1, false},
      {"401 once", true, {{401, {}, ""}}, 2, true},
      {"401 twice", true, {{401, {}, ""}, {401, {}, ""}}, 2, false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    ScriptedApi api;
    std::vector<std::string> codes;
    api.options.observe = [&](const kube::RequestSample& sample) {
      codes.emplace_back(sample.code);
    };
    const auto client = api.Client();
    for (const auto& answer : row.answers) api.answers.push_back(answer);
    const auto result = row.write ? client->Update(kObject, "{}") : client->Get(kObject);
    CHECK(result.has_value() == row.works);
    CHECK(api.requests.size() == row.requests);
    CHECK(codes.size() == row.requests);
  }
}

TEST_CASE("an error names what was asked for, and its namespace where there is one") {
  ScriptedApi api;
  const auto client = api.Client();
  const auto said = [&](bool watch, const std::string& ns) {
    api.answers.push_back({404, {}, "{}"});
    const kube::Collection from{kube::kPods, ns};
    return watch ? client->Watch(from, {}, [](const kube::WatchEvent&) { return base::Status(); })
                       .error()
                       .message
                 : client->ListEach(from, {}, [](std::string_view) { return base::Status(); })
                       .error()
                       .message;
  };
  CHECK(said(false, "").starts_with("list pods: "));
  CHECK(said(false, "ns").starts_with("list pods in namespace ns: "));
  CHECK(said(true, "").starts_with("watch pods: "));
  CHECK(said(true, "ns").starts_with("watch pods in namespace ns: "));
}

TEST_CASE("a refusal because the namespace is being deleted is told from every other") {
  const auto reason = [](const std::string& cause) {
    ScriptedApi api;
    api.answers.push_back({403,
                           {},
                           R"({"kind":"Status","status":"Failure","code":403,
      "reason":"Forbidden","message":"secrets \"s\" is forbidden: unable to create new content",
      "details":{"name":"s","kind":"secrets","causes":[{"reason":")" +
                               cause + R"(","message":"namespace a is being terminated"}]}})"});
    const auto made = api.Client()->Create({kube::kSecrets, "a"}, "{}");
    REQUIRE_FALSE(made);
    CHECK(made.error().code == base::Code::kForbidden);
    return made.error().reason;
  };
  CHECK(reason("NamespaceTerminating") == kube::kNamespaceTerminating);
  CHECK(reason("Other") == "Forbidden");
}

TEST_CASE("a version that the server does not have yet is not waited for") {
  ScriptedApi api;
  for (int i = 0; i < 9; ++i) api.answers.push_back({504, {{"Retry-After", "0"}}, ""});
  const auto listed = api.Client()->ListEach(
      {kube::kPods, "ns"}, {.resource_version = "99", .resource_version_match = "NotOlderThan"},
      [](std::string_view) { return base::Status(); });
  CHECK(!listed);
  CHECK(api.requests.size() == 1);
}

TEST_CASE("a 429 says which flow schema is throttled, and what is tried again is a retry") {
  ScriptedApi api;
  std::vector<std::string> warnings;
  std::vector<bool> retries;
  api.options.warning = [&](std::string_view text) { warnings.emplace_back(text); };
  api.options.observe = [&](const kube::RequestSample& sample) {
    retries.push_back(sample.retry);
    CHECK(sample.request_bytes == 2);
    CHECK(sample.response_bytes > 0);
  };
  const auto client = api.Client();
  api.answers.push_back({429,
                         {{"Retry-After", "0"},
                          {"X-Kubernetes-PF-FlowSchema-UID", "flow-1"},
                          {"X-Kubernetes-PF-PriorityLevel-UID", "level-2"}},
                         "{}"});
  CHECK(client->Update(kObject, "{}"));
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].starts_with("429: refused for now by API priority and fairness"));
  CHECK(warnings[0].find("`kubectl get flowschemas,") != std::string::npos);
  CHECK(warnings[0].ends_with("names flow schema flow-1 and priority level level-2"));
  api.answers.push_back({429, {{"Retry-After", "0"}}, "{}"});
  CHECK(client->Update(kObject, "{}"));
  CHECK(warnings.at(1) == "429: refused for now, what was asked is asked again");
  CHECK(retries == std::vector<bool>{false, true, false, true});
}

TEST_CASE("after a 401 a token file is read again") {
  ScriptedApi api;
  const std::string path =
      std::filesystem::temp_directory_path() / ("wo_token_" + std::to_string(::getpid()));
  std::ofstream(path) << "old\n";
  api.config.token_file = path;
  const auto client = api.Client();
  std::ofstream(path) << "new\n";
  api.answers.push_back({401, {}, ""});
  CHECK(client->Get(kObject).has_value());
  REQUIRE(api.requests.size() == 2);
  CHECK(api.Header(0, "Authorization") == "Bearer old");
  CHECK(api.Header(1, "Authorization") == "Bearer new");
  std::ofstream(path) << "";  // A bad file keeps the last good token.
  api.answers.push_back({401, {}, ""});
  CHECK(client->Get(kObject).has_value());
  CHECK(api.Header(3, "Authorization") == "Bearer new");
  std::filesystem::remove(path);
}

TEST_CASE("a list is paged, its version is the last page's, and a failed page fails the list") {
  ScriptedApi api;
  const auto client = api.Client();
  std::vector<std::string> items;
  const auto collect = [&](std::string_view item) -> base::Status {
    items.emplace_back(item);
    return {};
  };
  api.answers = {
      {200,
       {},
       R"({"metadata":{"resourceVersion":"9","continue":"c=1"},"items":[{"a":1},{"b":"]"}]})"},
      {200, {}, R"({"items":[{"c":3}],"metadata":{"resourceVersion":"9"}})"}};
  const auto list = client->ListEach({kube::kWorkspaces, ""},
                                     {.label_selector = "x=y", .resource_version = "7"}, collect);
  REQUIRE(list);
  CHECK(list->resource_version == "9");
  CHECK(items == std::vector<std::string>{R"({"a":1})", R"({"b":"]"})", R"({"c":3})"});
  const std::string path =
      "/prefix/apis/molecule.ai/v1alpha1/workspaces?labelSelector=x%3Dy&limit=500";
  CHECK(api.requests[0].target == path + "&resourceVersion=7");
  CHECK(api.requests[1].target == path + "&continue=c%3D1");
  api.answers = {{200, {}, R"({"metadata":{"continue":"c"},"items":[]})"},
                 {410, {}, R"({"kind":"Status","reason":"Expired","message":"too old"})"}};
  CHECK(client->ListEach({kube::kWorkspaces, ""}, {}, collect).error().code == base::Code::kGone);
  api.answers = {{200, {}, R"({"metadata":{"resourceVersion":"1"},"items":null})"}};
  CHECK(client->ListEach({kube::kWorkspaces, ""}, {}, collect)->items == 0);
  api.answers = {{200, {}, "<html>"}};
  CHECK(client->ListEach({kube::kWorkspaces, ""}, {}, collect).error().reason == "BadFrame");
}

TEST_CASE("a watch hands out events cut anywhere, and ends as the stream ends") {
  ScriptedApi api;
  const auto client = api.Client();
  struct Row {
    const char* name;
    std::vector<std::string> pieces;
    size_t events;
    std::optional<base::Code> code;
  };
  const std::string added = "{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n";
  const std::vector<Row> rows = {
      {"two events in odd pieces", {added.substr(0, 5), added.substr(5) + added}, 2, std::nullopt},
      {"an event that is cut", {added, added.substr(0, 9)}, 1, base::Code::kUnavailable},
      {"a line that is no event", {added, "<html>\n"}, 1, base::Code::kInvalid},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    api.streams.push_back(row.pieces);
    size_t events = 0;
    const auto ended = client->Watch({kube::kWorkspaces, "a"}, {},
                                     [&](const kube::WatchEvent& event) -> base::Status {
                                       CHECK(event.object == "{\"a\":1}");
                                       ++events;
                                       return {};
                                     });
    CHECK(events == row.events);
    CHECK(ended.has_value() == !row.code.has_value());
    if (!ended && row.code) CHECK(ended.error().code == *row.code);
  }
  api.answers.push_back({410, {}, R"({"kind":"Status","reason":"Expired","message":"too old"})"});
  CHECK(client
            ->Watch({kube::kWorkspaces, "a"},
                    {.resource_version = "1", .send_initial_events = true, .timeout_seconds = 9},
                    [](const kube::WatchEvent&) { return base::Status(); })
            .error()
            .code == base::Code::kGone);
  CHECK(api.requests.back().target ==
        "/prefix/apis/molecule.ai/v1alpha1/namespaces/a/"
        "workspaces?watch=true&resourceVersion=1&allowWatchBookmarks=true&"
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=9");
}

TEST_CASE("a watch ends by its sink's error, by silence, and by a stop request") {
  ScriptedApi api;
  const auto client = api.Client();
  const std::vector<std::string> pieces = {"{\"type\":\"ADDED\",\"object\":{}}\n", "HOLD"};
  const auto ignore = [](const kube::WatchEvent&) { return base::Status(); };
  api.streams = {pieces, pieces, pieces};
  const auto refused =
      client->Watch({kube::kWorkspaces, "a"}, {}, [](const kube::WatchEvent&) -> base::Status {
        return base::MakeError(base::Code::kConflict, "mine");
      });
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message == "mine");
  CHECK(client->Watch({kube::kWorkspaces, "a"}, {.idle = 200ms}, ignore).error().code ==
        base::Code::kTimeout);
  std::stop_source stop;
  const auto stopped = client->Watch({kube::kWorkspaces, "a"}, {.stop = stop.get_token()},
                                     [&](const kube::WatchEvent&) {
                                       stop.request_stop();
                                       return base::Status();
                                     });
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code == base::Code::kCancelled);
}

TEST_CASE("a write that may not be sent does not reach the server, nor does its retry") {
  ScriptedApi api;
  std::atomic<int> allowed = 1;
  api.options.may_write = [&]() -> base::Result<base::Millis> {
    if (allowed-- > 0) return base::Millis{60'000};
    base::Error error = base::MakeError(base::Code::kUnavailable, "fenced", "NotLeader");
    return error;
  };
  // The first attempt is answered "later"; the second one is refused here.
  api.answers.push_back({429, {{"Retry-After", "0"}}, "{}"});
  const auto client = api.Client();
  const auto refused = client->PatchStatus(kObject, {kube::PatchType::kMerge, "{}"});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().reason == "NotLeader");
  CHECK(api.requests.size() == 1);
  for (const auto& attempt :
       {client->Create({kube::kSecrets, "a"}, "{}"), client->Update(kObject, "{}"),
        client->Delete(kObject), client->PostRaw("/api/v1/namespaces/a/pods/p/eviction", "{}")}) {
    REQUIRE_FALSE(attempt);
    CHECK(attempt.error().reason == "NotLeader");
  }
  CHECK_FALSE(client->MayWrite());
  CHECK(api.requests.size() == 1);
  // Reads, and questions in the form of a POST, are not writes.
  CHECK(client->Get(kObject).has_value());
  CHECK(client->PostRaw("/apis/authentication.k8s.io/v1/tokenreviews", "{}").has_value());
}

TEST_CASE("a write may not take longer than its leave") {
  ScriptedApi api;
  api.options.may_write = []() -> base::Result<base::Millis> { return base::Millis{150}; };
  const auto client = api.Client();
  api.mutex.lock();  // The server does not answer.
  const auto begin = std::chrono::steady_clock::now();
  const auto late = client->PatchStatus(kObject, {kube::PatchType::kMerge, "{}"});
  const auto took = std::chrono::steady_clock::now() - begin;
  api.mutex.unlock();
  REQUIRE_FALSE(late);
  CHECK(late.error().code == base::Code::kTimeout);
  CHECK(took < 10s);
}

TEST_CASE("a watch whose certificates have been replaced ends at its next line, to begin anew") {
  const auto authority = *http::MakeCertificateAuthority("CA", 3600s);
  const auto other = *http::MakeCertificateAuthority("another CA", 3600s);
  const auto pair = *http::MakeServingCertificate(authority, "api", {}, {"127.0.0.1"}, 3600s);
  const std::string path =
      std::filesystem::temp_directory_path() / ("wo_ca_watch_" + std::to_string(::getpid()));
  std::ofstream(path) << authority.certificate_pem;
  http::ServerOptions options;
  options.tls = http::TlsMaterial{pair.certificate_pem, pair.private_key_pem, ""};
  const std::string bookmark =
      R"({"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}})"
      "\n";
  std::shared_ptr<http::ResponseStream> stream;
  http::Handlers handlers;
  handlers.handle = [&](http::ServerRequest&&, std::unique_ptr<http::Responder> responder) {
    stream = responder->StartStream({200, {}, {}}, 64 << 10);
    stream->Write(bookmark);
  };
  auto server = http::Server::Start(options, handlers);
  REQUIRE(server);
  kube::ClientConfig config;
  config.server = "https://127.0.0.1:" + std::to_string((*server)->Port());
  config.ca_file = path;
  const auto client = *kube::Client::Create(config, {.token_refresh = 0ms});
  int lines = 0;
  const auto ended = client->Watch({kube::kWorkspaces, "a"}, {}, [&](const kube::WatchEvent&) {
    // The first line comes with the old files, the second after they were replaced.
    if (++lines == 2) std::ofstream(path) << authority.certificate_pem << other.certificate_pem;
    if (lines < 4) stream->Write(bookmark);
    return base::Status();
  });
  CHECK_MESSAGE(ended.has_value(), (ended ? "" : ended.error().message));
  CHECK(lines == 2);
  stream.reset();
  (*server)->Stop(1s);
  std::filesystem::remove(path);
}

TEST_CASE("an API server that comes back with another authority is trusted once the file says so") {
  const std::string path =
      std::filesystem::temp_directory_path() / ("wo_ca_" + std::to_string(::getpid()));
  uint16_t port = 0;
  const auto serve = [&] {
    const auto authority = http::MakeCertificateAuthority("CA of the day", 3600s);
    const auto pair = http::MakeServingCertificate(*authority, "api", {}, {"127.0.0.1"}, 3600s);
    http::ServerOptions options;
    options.port = port;
    options.tls = http::TlsMaterial{pair->certificate_pem, pair->private_key_pem, ""};
    http::Handlers handlers;
    handlers.handle = [](http::ServerRequest&&, std::unique_ptr<http::Responder> responder) {
      responder->Send({200, {}, "{}"});
    };
    auto server = http::Server::Start(options, handlers);
    REQUIRE_MESSAGE(server.has_value(), (server ? "" : server.error().message));
    port = (*server)->Port();
    return std::pair{*std::move(server), authority->certificate_pem};
  };
  auto first = serve();
  std::ofstream(path) << first.second;
  kube::ClientConfig config;
  config.server = "https://127.0.0.1:" + std::to_string(port);
  config.ca_file = path;
  const auto client = *kube::Client::Create(config);
  CHECK(client->Get(kObject).has_value());
  first.first->Stop(1s);
  first.first.reset();

  auto second = serve();
  const auto strange = client->PatchStatus(kObject, {kube::PatchType::kMerge, "{}"});
  REQUIRE_FALSE(strange);  // Nobody vouches for it yet.
  CHECK(strange.error().code != base::Code::kCancelled);
  std::ofstream(path) << second.second;
  auto trusted = client->PatchStatus(kObject, {kube::PatchType::kMerge, "{}"});
  // A connection of the old server may be the first that is tried.
  if (!trusted && trusted.error().reason == "ConnectionLost")
    trusted = client->PatchStatus(kObject, {kube::PatchType::kMerge, "{}"});
  CHECK_MESSAGE(trusted.has_value(), (trusted ? "" : trusted.error().message));
  std::ofstream(path) << "no certificate";  // A bad file keeps the last good one.
  CHECK(client->Get(kObject).has_value());
  second.first->Stop(1s);
  std::filesystem::remove(path);
}
