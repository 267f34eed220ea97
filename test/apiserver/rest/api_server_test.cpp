#include "apiserver/rest/api_server.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>

#include "apiserver/authz/authz.hpp"
#include "apiserver/rest/object_writer.hpp"
#include "apiserver/rest/router.hpp"
#include "apiserver/wire/registry.hpp"
#include "base/file.hpp"
#include "base/sha256.hpp"
#include "codec/json.hpp"
#include "http/client/client.hpp"
#include "support/eventually.hpp"
#include "widgets.hpp"

namespace apiserver {
namespace {

using codec::Json;

const std::string kWidgets = "/apis/test.example/v1/namespaces/default/widgets";

struct Answer {
  int status = 0;
  Json body;
  http::Headers headers;
};

/// A served API in a temporary directory, and a client with the admin's token.
class Fixture {
 public:
  explicit Fixture(ApiServerOptions options = {}) : options_(std::move(options)) {
    options_.data_dir =
        (std::filesystem::temp_directory_path() / ("api-" + base::RandomUuid())).string();
    options_.crds = {kWidgetCrd};
    Start();
  }
  ~Fixture() {
    client_.reset();
    server_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(options_.data_dir, ignored);
  }
  void Start() {
    auto started = ApiServer::Start(options_);
    REQUIRE_MESSAGE(started.has_value(), (started ? "" : started.error().message));
    server_ = std::move(*started);
    token_ = File("admin.token");
    token_.pop_back();
    http::ClientOptions client;
    client.base_url = server_->Url();
    client.ca_pem = File("ca.crt");
    client_ = std::move(*http::Client::Create(client));
  }
  void Stop() {
    client_.reset();
    server_.reset();
  }
  std::string File(const std::string& name) {
    return base::ReadFile(options_.data_dir + "/" + name, 1 << 20).value_or("");
  }
  Answer Call(const std::string& method, const std::string& target, const Json& body = {},
              const std::string& type = "application/json", http::Headers more = {}) {
    auto response = client_->Send(Of(method, target, body, type, std::move(more)), {});
    REQUIRE_MESSAGE(response.has_value(), (response ? "" : response.error().message));
    auto json = codec::ParseJson(response->body);
    return {response->status, json ? *json : Json(), response->headers};
  }
  /// The lines of a watch, until there are `count` of them or 20 s have passed. The server ends the
  /// watch when we leave.
  std::vector<Json> Watch(const std::string& target, size_t count,
                          const std::function<void()>& meanwhile = {}) {
    std::vector<Json> lines;
    std::string rest;
    std::atomic<bool> open{false};
    std::jthread actor([&] {
      for (int i = 0; i < 2000 && !open && meanwhile; ++i)
        std::this_thread::sleep_for(base::Millis(1));
      if (meanwhile) meanwhile();
    });
    open = true;
    http::CallOptions call;
    call.idle = base::Millis(20'000);
    auto done = client_->Stream(Of("GET", target, {}, "", {}), call, [&](std::string_view bytes) {
      rest.append(bytes);
      for (size_t end = rest.find('\n'); end != std::string::npos; end = rest.find('\n')) {
        lines.push_back(Json::parse(rest.substr(0, end)));
        rest.erase(0, end + 1);
      }
      return lines.size() < count;
    });
    if (done && done->status != 200) lines.push_back(Json::parse(done->body));
    return lines;
  }
  ApiServer& Server() { return *server_; }
  const ApiServerOptions& Options() const { return options_; }
  std::string token_;

 private:
  http::Request Of(const std::string& method, const std::string& target, const Json& body,
                   const std::string& type, http::Headers more) {
    http::Request request;
    request.method = method;
    request.target = target;
    request.headers = std::move(more);
    if (!token_.empty()) request.headers.emplace_back("Authorization", "Bearer " + token_);
    if (!body.is_null()) {
      request.headers.emplace_back("Content-Type", type);
      request.body = codec::Dump(body);
    }
    return request;
  }
  ApiServerOptions options_;
  std::unique_ptr<ApiServer> server_;
  std::unique_ptr<http::Client> client_;
};

Json Widget(const std::string& name, const std::string& color = "red") {
  return {{"apiVersion", "test.example/v1"},
          {"kind", "Widget"},
          {"metadata", {{"name", name}}},
          {"spec", {{"color", color}}}};
}

}  // namespace

TEST_CASE("a restart keeps the CA, the tokens and the objects; all secrets are private") {
  Fixture api;
  REQUIRE(api.Call("POST", kWidgets, Widget("a")).status == 201);
  const std::string ca = api.File("ca.crt");
  const std::string token = api.token_;
  for (const char* file : {"ca.key", "admin.token", "operator.token", "kubeconfig",
                           "operator.kubeconfig", "store.db"}) {
    CAPTURE(std::string(file));
    struct stat info {};
    REQUIRE(stat((api.Options().data_dir + "/" + file).c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
  }
  api.Stop();
  api.Start();
  CHECK(api.File("ca.crt") == ca);
  CHECK(api.token_ == token);
  CHECK(api.Call("GET", kWidgets + "/a").body["metadata"]["name"] == "a");
}

TEST_CASE("a second instance on the same data directory is refused") {
  Fixture api;
  auto second = ApiServer::Start(api.Options());
  REQUIRE_FALSE(second);
  CHECK(second.error().reason == "DataDirectoryLocked");
}

TEST_CASE("a taken port is refused by name") {
  Fixture api;
  ApiServerOptions options = api.Options();
  options.data_dir += "-other";
  options.port = api.Server().Port();
  auto second = ApiServer::Start(options);
  REQUIRE_FALSE(second);
  CHECK(second.error().reason == "PortInUse");
  std::filesystem::remove_all(options.data_dir);
}

TEST_CASE("who has no token gets nothing but probes and the version") {
  Fixture api;
  const std::string token = api.token_;
  for (const std::string& wrong : {std::string(), std::string("x"), token + "x"}) {
    api.token_ = wrong;
    CHECK(api.Call("GET", kWidgets).status == 401);
    CHECK(api.Call("POST", kWidgets, Widget("a")).status == 401);
    CHECK(api.Call("GET", "/apis").status == 401);
    CHECK(api.Call("GET", "/readyz").status == 200);
    CHECK(api.Call("GET", "/version").body["gitVersion"].get<std::string>().starts_with("v1."));
  }
}

TEST_CASE("a page of another origin that points its name at this machine is refused by its Host") {
  const std::string dir =
      (std::filesystem::temp_directory_path() / ("api-" + base::RandomUuid())).string();
  {
    StoreOptions store_options;
    store_options.data_dir = dir;
    auto store = std::move(*Store::Open(store_options));
    const Registry registry = std::move(*Registry::Make({}));
    TokenTable tokens;
    const std::string token(32, 't');
    REQUIRE(tokens.Add(token, {"admin", "", {std::string(kMasters)}}, {}));
    const base::Clock& clock = base::SystemClock::Get();
    ObjectWriter writer(*store, clock, base::Seconds(3600));
    const Router router(*store, registry, tokens, writer, clock, {});
    struct Row {
      const char* host;
      bool served;
    };
    for (const Row& row :
         {Row{"127.0.0.1:6443", true}, Row{"localhost", true}, Row{"[::1]:6443", true},
          Row{"evil.example", false}, Row{"127.0.0.1.evil.example:80", false}, Row{"", false}}) {
      CAPTURE(std::string(row.host));
      http::Request head;
      head.target = "/apis";
      head.headers = {{"Host", row.host}, {"Authorization", "Bearer " + token}};
      const auto refused = router.CheckHead(head);
      CHECK(refused.has_value() != row.served);
      if (refused) CHECK(refused->status == 403);
    }
  }
  std::filesystem::remove_all(dir);
}

TEST_CASE("a bad write is answered with the Status that kubectl knows") {
  Fixture api;
  REQUIRE(api.Call("POST", kWidgets, Widget("a")).status == 201);
  Json typo = Widget("b");
  typo["spec"]["colour"] = "x";
  Json pink = Widget("b", "pink");
  Json nameless = Widget("");
  Json other_kind = Widget("b");
  other_kind["kind"] = "Gadget";
  Json stale = Widget("a", "blue");
  stale["metadata"]["resourceVersion"] = "1";
  struct Row {
    const char* sentence;
    const char* method;
    std::string target;
    Json body;
    const char* type;
    int status;
    const char* reason;
  };
  const std::string json = "application/json";
  const Row rows[] = {
      {"the name is taken", "POST", kWidgets, Widget("a"), "application/json", 409,
       "AlreadyExists"},
      {"strict refuses unknown fields", "POST", kWidgets + "?fieldValidation=Strict", typo,
       "application/json", 400, "BadRequest"},
      {"the schema is kept", "POST", kWidgets, pink, "application/json", 422, "Invalid"},
      {"a name is needed", "POST", kWidgets, nameless, "application/json", 422, "Invalid"},
      {"the kind is the path's", "POST", kWidgets, other_kind, "application/json", 400,
       "BadRequest"},
      {"the namespace exists", "POST", "/apis/test.example/v1/namespaces/none/widgets", Widget("a"),
       "application/json", 404, "NotFound"},
      {"an old version loses", "PUT", kWidgets + "/a", stale, "application/json", 409, "Conflict"},
      {"an update names its version", "PUT", kWidgets + "/a", Widget("a"), "application/json", 422,
       "Invalid"},
      {"what is not there is not updated", "PUT", kWidgets + "/zz", stale, "application/json", 400,
       "BadRequest"},
      {"what is not there is not patched", "PATCH", kWidgets + "/zz", Json::object(),
       "application/merge-patch+json", 404, "NotFound"},
      {"custom kinds know no strategic patch", "PATCH", kWidgets + "/a", Json::object(),
       "application/strategic-merge-patch+json", 415, "UnsupportedMediaType"},
      {"an apply names its manager", "PATCH", kWidgets + "/a", Widget("a"),
       "application/apply-patch+yaml", 422, "Invalid"},
      {"a foreign media type is refused", "POST", kWidgets, Widget("b"), "text/plain", 415,
       "UnsupportedMediaType"},
      {"an unknown dry run is refused", "POST", kWidgets + "?dryRun=Some", Widget("b"),
       "application/json", 400, "BadRequest"},
      {"definitions are read only",
       "DELETE",
       "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.test.example",
       {},
       "",
       405,
       "MethodNotAllowed"},
      {"an unknown resource is not found",
       "GET",
       "/apis/test.example/v1/gadgets",
       {},
       "",
       404,
       "NotFound"},
      {"a wrong uid does not delete",
       "DELETE",
       kWidgets + "/a",
       {{"preconditions", {{"uid", "x"}}}},
       "application/json",
       409,
       "Conflict"},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.sentence));
    const Answer answer = api.Call(row.method, row.target, row.body, row.type);
    CHECK(answer.status == row.status);
    CHECK(codec::GetString(answer.body, "kind") == "Status");
    CHECK(codec::GetString(answer.body, "reason") == row.reason);
  }
  CHECK(api.Call("POST", kWidgets, pink).body["details"]["causes"][0]["field"] == "spec.color");
  const Answer warned = api.Call("POST", kWidgets + "?dryRun=All", typo);
  CHECK(warned.status == 201);
  CHECK(http::FindHeader(warned.headers, "Warning").find("spec.colour") != std::string_view::npos);
  CHECK(api.Call("GET", kWidgets).body["items"].size() == 1);
}

TEST_CASE(
    "generation counts changes of the spec only, and a write that changes nothing is no write") {
  Fixture api;
  const Answer made = api.Call("POST", kWidgets, Widget("a"));
  CHECK(made.body["metadata"]["generation"] == 1);
  CHECK(made.body["spec"]["size"] == 1);
  const auto patch = [&](const std::string& target, const Json& body) {
    return api.Call("PATCH", target, body, "application/merge-patch+json").body;
  };
  const Json labelled = patch(kWidgets + "/a", {{"metadata", {{"labels", {{"a", "b"}}}}}});
  CHECK(labelled["metadata"]["generation"] == 1);
  CHECK(patch(kWidgets + "/a", {{"spec", {{"size", 2}}}})["metadata"]["generation"] == 2);
  const Json status = patch(kWidgets + "/a/status",
                            {{"status", {{"observedGeneration", 2}}}, {"spec", {{"size", 7}}}});
  CHECK(status["metadata"]["generation"] == 2);
  CHECK(status["spec"]["size"] == 2);
  CHECK(status["status"]["observedGeneration"] == 2);
  const Json main = patch(kWidgets + "/a", {{"status", {{"observedGeneration", 9}}}});
  CHECK(main["status"]["observedGeneration"] == 2);
  CHECK(main["metadata"]["resourceVersion"] == status["metadata"]["resourceVersion"]);
}

TEST_CASE("a foreground deletion takes no object that is not the owner's alone") {
  Fixture api;
  const auto uid_of = [&](const char* name) {
    return api.Call("POST", kWidgets, Widget(name)).body["metadata"]["uid"].get<std::string>();
  };
  const auto owner = [](const char* name, const std::string& uid) {
    return Json{
        {"apiVersion", "test.example/v1"}, {"kind", "Widget"}, {"name", name}, {"uid", uid}};
  };
  const Json first = owner("first", uid_of("first")), second = owner("second", uid_of("second"));
  const auto child = [&](const char* name, const Json& owners) {
    Json widget = Widget(name);
    widget["metadata"]["ownerReferences"] = owners;
    REQUIRE(api.Call("POST", kWidgets, widget).status == 201);
  };
  child("mine", Json::array({first}));
  child("shared", Json::array({first, second}));
  child("freed", Json::array({first}));
  REQUIRE(api.Call("PATCH", kWidgets + "/freed", {{"metadata", {{"ownerReferences", nullptr}}}},
                   "application/merge-patch+json")
              .status == 200);
  REQUIRE(api.Call("DELETE", kWidgets + "/first?propagationPolicy=Foreground").status == 200);
  REQUIRE(support::Eventually([&] { return api.Call("GET", kWidgets + "/first").status == 404; }));
  CHECK(api.Call("GET", kWidgets + "/mine").status == 404);
  CHECK(api.Call("GET", kWidgets + "/freed").status == 200);
  const Answer shared = api.Call("GET", kWidgets + "/shared");
  CHECK(shared.status == 200);
  CHECK_FALSE(shared.body["metadata"].contains("deletionTimestamp"));
  CHECK(shared.body["metadata"]["ownerReferences"] == Json::array({second}));
}

TEST_CASE("many writers of one object lose no change") {
  Fixture api;
  REQUIRE(api.Call("POST", kWidgets, Widget("a")).status == 201);
  std::vector<std::jthread> writers;
  std::atomic<int> failed{0};
  for (int i = 0; i < 6; ++i) {
    writers.emplace_back([&, i] {
      const Json body = {{"metadata", {{"annotations", {{"n" + std::to_string(i), "x"}}}}}};
      if (api.Call("PATCH", kWidgets + "/a", body, "application/merge-patch+json").status != 200)
        ++failed;
    });
  }
  writers.clear();
  CHECK(failed == 0);
  CHECK(api.Call("GET", kWidgets + "/a").body["metadata"]["annotations"].size() == 6);
}

TEST_CASE("a watch gives what is there, then what happens, then ends at its timeout") {
  Fixture api;
  REQUIRE(api.Call("POST", kWidgets, Widget("a")).status == 201);
  const auto lines = api.Watch(kWidgets + "?watch=true&timeoutSeconds=20", 3, [&] {
    api.Call("POST", kWidgets, Widget("b", "blue"));
    api.Call("DELETE", kWidgets + "/a");
  });
  REQUIRE(lines.size() == 3);
  CHECK(lines[0]["type"] == "ADDED");
  CHECK(lines[0]["object"]["metadata"]["name"] == "a");
  CHECK(lines[1]["object"]["metadata"]["name"] == "b");
  CHECK(lines[2]["type"] == "DELETED");
  CHECK(api.Watch(kWidgets + "?watch=true&timeoutSeconds=1", 100).size() == 1);
}

TEST_CASE("an object that enters or leaves a selection is added or deleted for its watcher") {
  Fixture api;
  const std::string from =
      api.Call("POST", kWidgets, Widget("a")).body["metadata"]["resourceVersion"];
  const auto paint = [&](const char* color) {
    api.Call("PATCH", kWidgets + "/a", {{"spec", {{"color", color}}}},
             "application/merge-patch+json");
  };
  paint("blue");
  api.Call("PATCH", kWidgets + "/a", {{"spec", {{"size", 3}}}}, "application/merge-patch+json");
  paint("green");
  const auto lines = api.Watch(
      kWidgets + "?watch=true&fieldSelector=spec.color%3Dblue&resourceVersion=" + from, 3);
  REQUIRE(lines.size() == 3);
  CHECK(lines[0]["type"] == "ADDED");
  CHECK(lines[1]["type"] == "MODIFIED");
  CHECK(lines[2]["type"] == "DELETED");
  CHECK(lines[2]["object"]["spec"]["color"] == "blue");
}

TEST_CASE("bookmarks come on request, and a watch-list ends its first part with one") {
  ApiServerOptions options;
  options.bookmark_period = base::Seconds(1);
  Fixture api(options);
  REQUIRE(api.Call("POST", kWidgets, Widget("a")).status == 201);
  const auto lines = api.Watch(kWidgets +
                                   "?watch=true&sendInitialEvents=true&resourceVersionMatch="
                                   "NotOlderThan&allowWatchBookmarks=true",
                               3);
  REQUIRE(lines.size() == 3);
  CHECK(lines[0]["type"] == "ADDED");
  CHECK(lines[1]["type"] == "BOOKMARK");
  CHECK(lines[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true");
  CHECK(lines[2]["type"] == "BOOKMARK");
  CHECK_FALSE(lines[2]["object"]["metadata"].contains("annotations"));
  CHECK(api.Call("GET", kWidgets + "?watch=true&sendInitialEvents=true").status == 422);
}

TEST_CASE("who reads the state that a watch begins with gets all of it, however much it is") {
  constexpr size_t kObjects = 100;
  ApiServerOptions options;
  options.watch_buffer_limit = 64 << 10;
  Fixture api(options);
  for (size_t i = 0; i < kObjects; ++i) {
    Json widget = Widget("w" + std::to_string(i));
    widget["metadata"]["annotations"]["pad"] = std::string(20'000, 'x');
    REQUIRE(api.Call("POST", kWidgets, widget).status == 201);
  }
  const auto lines = api.Watch(kWidgets +
                                   "?watch=true&sendInitialEvents=true&resourceVersionMatch="
                                   "NotOlderThan&allowWatchBookmarks=true",
                               kObjects + 1);
  REQUIRE(lines.size() == kObjects + 1);
  CHECK(lines[kObjects]["type"] == "BOOKMARK");
}

TEST_CASE("a watch resumes over a restart, and from a compacted version it is 410") {
  ApiServerOptions options;
  options.store.change_log_rows = 20;
  Fixture api(options);
  const std::string from =
      api.Call("POST", kWidgets, Widget("a")).body["metadata"]["resourceVersion"];
  api.Call("POST", kWidgets, Widget("b"));
  api.Stop();
  api.Start();
  const auto lines = api.Watch(kWidgets + "?watch=true&resourceVersion=" + from, 1);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0]["object"]["metadata"]["name"] == "b");
  for (int i = 0; i < 40; ++i) api.Call("POST", kWidgets, Widget("n" + std::to_string(i)));
  const Answer gone = api.Call("GET", kWidgets + "?watch=true&resourceVersion=" + from);
  CHECK(gone.status == 410);
  CHECK(gone.body["reason"] == "Expired");
  CHECK(api.Call("GET", kWidgets + "?watch=true&resourceVersion=999999").status == 410);
}

TEST_CASE("pages of one list show one moment") {
  Fixture api;
  for (const char* name : {"a", "b", "c"}) api.Call("POST", kWidgets, Widget(name));
  const Answer first = api.Call("GET", kWidgets + "?limit=2");
  CHECK(first.body["items"].size() == 2);
  const std::string token = first.body["metadata"]["continue"];
  api.Call("DELETE", kWidgets + "/c");
  std::string escaped;
  for (const char c : token)
    escaped += c == '=' ? std::string("%3D") : c == '+' ? std::string("%2B") : std::string(1, c);
  const Answer second = api.Call("GET", kWidgets + "?limit=2&continue=" + escaped);
  REQUIRE(second.body["items"].size() == 1);
  CHECK(second.body["items"][0]["metadata"]["name"] == "c");
  CHECK(second.body["metadata"]["resourceVersion"] == first.body["metadata"]["resourceVersion"]);
  CHECK(api.Call("GET", kWidgets + "?continue=rubbish").status == 400);
}

TEST_CASE("a full disk answers 507, readiness says so, reads go on") {
  ApiServerOptions options;
  options.store.page_limit = 40;
  Fixture api(options);
  Answer answer;
  for (int i = 0; i < 200 && answer.status != 507; ++i) {
    Json widget = Widget("n" + std::to_string(i));
    widget["metadata"]["annotations"]["x"] = std::string(2000, 'x');
    answer = api.Call("POST", kWidgets, widget);
  }
  CHECK(answer.status == 507);
  CHECK(answer.body["reason"] == "InsufficientStorage");
  CHECK(api.Call("GET", "/readyz").status == 503);
  CHECK_FALSE(api.Server().NotReady().empty());
  CHECK(api.Call("GET", kWidgets).status == 200);
}

TEST_CASE("hostile bodies are refused and the server goes on") {
  Fixture api;
  std::string deep = "1";
  for (int i = 0; i < 60; ++i) deep = "[" + deep + "]";
  for (const Json& body :
       {Json("text"), Json(7), Json::array(), Json::object(), Json::parse(deep),
        Json{{"metadata", 5}, {"kind", "Widget"}, {"apiVersion", "test.example/v1"}}}) {
    for (const char* type : {"application/json", "application/merge-patch+json",
                             "application/json-patch+json", "application/apply-patch+yaml"}) {
      const bool post = std::string(type) == "application/json";
      const Answer answer = api.Call(post ? "POST" : "PATCH",
                                     post ? kWidgets : kWidgets + "/a?fieldManager=m", body, type);
      CHECK(answer.status >= 400);
      CHECK(answer.status < 500);
    }
  }
  CHECK(api.Call("GET", "/healthz").status == 200);
}

}  // namespace apiserver
