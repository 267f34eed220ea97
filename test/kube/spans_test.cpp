#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "kube/json_span.hpp"
#include "kube/resource.hpp"
#include "kube/status_error.hpp"
#include "kube/watch_stream.hpp"

TEST_CASE(
    "paths name core, grouped, namespaced and cluster-scoped things, and encode what users write") {
  CHECK(kube::CollectionPath({kube::kSecrets, "a"}) == "/api/v1/namespaces/a/secrets");
  CHECK(kube::CollectionPath({kube::kWorkspaces, ""}) == "/apis/molecule.ai/v1alpha1/workspaces");
  CHECK(kube::ObjectPath({kube::kWorkspaces, "a", "w", "status"}) ==
        "/apis/molecule.ai/v1alpha1/namespaces/a/workspaces/w/status");
  CHECK(kube::ObjectPath({kube::kNamespaces, "", "../x?y"}) == "/api/v1/namespaces/..%2Fx%3Fy");
  CHECK(kube::ObjectRef{kube::kWorkspaces, "a", "w"}.Text() == "workspaces.molecule.ai a/w");
}

TEST_CASE("lines are whole wherever the stream is cut") {
  const std::string text = "{\"a\":1}\n{\"b\":2}\r\n\n{\"c\":3}\n";
  for (size_t cut = 1; cut <= text.size(); ++cut) {
    kube::LineSplitter splitter(100);
    std::vector<std::string> lines;
    for (size_t at = 0; at < text.size(); at += cut)
      REQUIRE(splitter.Push(std::string_view(text).substr(at, cut),
                            [&](std::string_view line) -> base::Status {
                              lines.emplace_back(line);
                              return {};
                            }));
    CHECK(lines == std::vector<std::string>{"{\"a\":1}", "{\"b\":2}", "{\"c\":3}"});
    CHECK(splitter.Pending() == 0);
  }
}

TEST_CASE("a line over the limit is refused, whole or in pieces, and an unfinished one shows") {
  kube::LineSplitter splitter(10);
  const auto ignore = [](std::string_view) -> base::Status { return {}; };
  CHECK(splitter.Push("123456789\n1234", ignore));
  CHECK(splitter.Pending() == 4);
  const auto late = splitter.Push("56789ab", ignore);
  REQUIRE_FALSE(late);
  CHECK(late.error().reason == "BadFrame");
  CHECK_FALSE(kube::LineSplitter(10).Push("123456789abc\n", ignore));
}

TEST_CASE("a watch line gives type and object in any order, and bad ones are refused") {
  struct Row {
    const char* line;
    bool fine;
  };
  const std::vector<Row> rows = {
      {R"({"type":"ADDED","object":{"a":[1,{"b":"}]\"{"}]}})", true},
      {R"({"object":{"a":1},"type":"MODIFIED"})", true},
      {R"( { "type" : "DELETED" , "extra": [], "object" : {} } )", true},
      {R"({"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}})", true},
      {R"({"type":"ERROR","object":{"kind":"Status","code":410}})", true},
      {R"({"type":"ADDED"})", false},
      {R"({"type":"ADDED","object":[]})", false},
      {R"({"type":"RENAMED","object":{}})", false},
      {R"({"type":"ADDED","object":{})", false},
      {R"({"type":"ADDED","object":{"a":[}]}})", true},  // Its decoder will see.
      {R"({"object":{"a":[}]},"type":"ADDED"})", false},
      {R"({"type":"ADDED","object":{}} {})", false},
      {R"({"type":"ADDED","object":{"a":"x}})", true},
      {R"({"object":{"a":"x},"type":"ADDED"})", false},
      {"", false},
      {"null", false},
      {"<html>", false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.line);
    CHECK(kube::ReadWatchLine(row.line).has_value() == row.fine);
  }
  CHECK_FALSE(kube::ReadWatchLine("{\"type\":\"ADDED\",\"object\":" + std::string(100'000, '{')));
  const std::string line =
      R"({"type":"ADDED","object":{"metadata":{"name":"x","resourceVersion":"42"}}})";
  const auto event = kube::ReadWatchLine(line);
  REQUIRE(event);
  CHECK(event->type == kube::EventType::kAdded);
  CHECK(event->object == R"({"metadata":{"name":"x","resourceVersion":"42"}})");
  CHECK(kube::FindResourceVersion(event->object) == "42");
}

TEST_CASE("only a bookmark with the right annotation ends the initial events") {
  const auto ends = [](const std::string& line) {
    return kube::EndsInitialEvents(*kube::ReadWatchLine(line));
  };
  CHECK(ends(
      R"({"type":"BOOKMARK","object":{"metadata":{"annotations":{"k8s.io/initial-events-end":"true"}}}})"));
  CHECK_FALSE(ends(
      R"({"type":"BOOKMARK","object":{"metadata":{"annotations":{"k8s.io/initial-events-end":"false"}}}})"));
  CHECK_FALSE(ends(R"({"type":"BOOKMARK","object":{"metadata":{"annotations":{}}}})"));
  CHECK_FALSE(ends(R"({"type":"BOOKMARK","object":{}})"));
  CHECK_FALSE(ends(
      R"({"type":"ADDED","object":{"metadata":{"annotations":{"k8s.io/initial-events-end":"true"}}}})"));
}

TEST_CASE("answers become errors by status and reason, with their causes and waits") {
  struct Row {
    int status;
    const char* body;
    base::Code code;
    const char* reason;
  };
  const std::vector<Row> rows = {
      {400, R"({"kind":"Status","reason":"BadRequest","message":"m"})", base::Code::kInvalid,
       "BadRequest"},
      {401, "", base::Code::kUnauthorized, ""},
      {403, R"({"kind":"Status","reason":"Forbidden","message":"m"})", base::Code::kForbidden,
       "Forbidden"},
      {404, R"({"kind":"Status","reason":"NotFound","message":"m"})", base::Code::kNotFound,
       "NotFound"},
      {404, "<html>not found</html>", base::Code::kNotFound, ""},
      {409, R"({"kind":"Status","reason":"AlreadyExists","message":"m"})",
       base::Code::kAlreadyExists, "AlreadyExists"},
      {409, R"({"kind":"Status","reason":"Conflict","message":"m"})", base::Code::kConflict,
       "Conflict"},
      {410, R"({"kind":"Status","reason":"Expired","message":"m"})", base::Code::kGone, "Expired"},
      {422, R"({"kind":"Status","reason":"Invalid","message":"m"})", base::Code::kInvalid,
       "Invalid"},
      {429, R"({"kind":"Status","reason":"TooManyRequests","details":{"retryAfterSeconds":3}})",
       base::Code::kUnavailable, "TooManyRequests"},
      {500, "null", base::Code::kUnavailable, ""},
      {503, "{", base::Code::kUnavailable, ""},
      {504, "", base::Code::kTimeout, ""},
      {302, "", base::Code::kInternal, ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.status);
    CAPTURE(row.body);
    const base::Error error = kube::ErrorOf({row.status, {}, row.body}, "get x a/b");
    CHECK(error.code == row.code);
    CHECK(error.reason == row.reason);
    CHECK(error.message.starts_with("get x a/b: "));
    CHECK(error.message.find("<html>") == std::string::npos);
    // Where no Status came with a refusal, it is hardly an API server that refused.
    const bool doubted = row.reason == std::string_view() && row.status != 404 &&
                         row.status >= 300 && row.status < 500;
    CHECK((error.message.find("is this the address of a Kubernetes API server") !=
           std::string::npos) == doubted);
    CHECK(error.retry_after.has_value() == (row.status == 429));
  }
  const base::Error invalid = kube::ErrorOf(
      {422,
       {{"Retry-After", "7"}},
       R"({"kind":"Status","reason":"Invalid","message":"Workspace is invalid","details":{"causes":[
      {"field":"spec.kind","message":"must be Agent"},{"field":"spec.box","message":"is required"}]}})"},
      "patch");
  CHECK(invalid.message ==
        "patch: Workspace is invalid (spec.kind: must be Agent; spec.box: is required)");
  CHECK(invalid.retry_after == base::Millis{7'000});
  CHECK(kube::ErrorOfStatus(R"({"kind":"Status","code":410,"reason":"Gone"})", "watch").code ==
        base::Code::kGone);
  CHECK(kube::ErrorOfStatus("[]", "watch").reason == "BadFrame");
}
