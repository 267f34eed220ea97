#include "server/leader_link.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <mutex>

#include "base/sha256.hpp"
#include "codec/json.hpp"
#include "http/client/client.hpp"
#include "http/raw_socket.hpp"
#include "server/operator_server.hpp"
#include "support/byte_server.hpp"

namespace {

/// One replica on loopback: its own table, its own server.
struct Replica {
  explicit Replica(base::Millis deadline = base::Millis{2'000}) : table({}, nullptr) {
    table.TakeOver(base::SystemClock::Get().Read());
    server::ServerPorts ports;
    ports.leader.leadership = [this] {
      const std::lock_guard lock(mutex);
      return leadership;
    };
    ports.leader.deadline = deadline;
    ports.open_artifact = [](const server::WorkspaceView&,
                             const std::string&) -> base::Result<server::ArtifactFile> {
      char path[] = "/tmp/wo-artifact-XXXXXX";
      const int fd = ::mkstemp(path);
      ::unlink(path);
      const std::string bytes(300'000, 'x');
      REQUIRE(::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
      return server::ArtifactFile{fd, bytes.size(), base::DigestText(base::Sha256Of(bytes))};
    };
    routes =
        std::make_unique<server::OperatorServer>(table, base::SystemClock::Get(), std::move(ports));
    listening = *http::Server::Start({}, routes->Handlers());
    url = fmt::format("http://127.0.0.1:{}", listening->Port());
    client = *http::Client::Create({.base_url = url});
  }
  ~Replica() {
    client.reset();
    listening->Stop(base::Millis{1'000});
  }
  void Follow(const std::string& address) {
    const std::lock_guard lock(mutex);
    leadership = {false, address};
  }
  void Know(const std::string& token) {
    fleet::SlotSettings slot;
    slot.uid = "uid-1";
    slot.key = {"team", "ws-1"};
    slot.token_hash = base::Sha256Of(token);
    slot.period_seconds = 7;
    table.Upsert(slot, base::SystemClock::Get().Read());
  }
  http::Response Ask(const std::string& method, const std::string& target, const std::string& token,
                     const std::string& body = "", http::Headers headers = {}) {
    http::Request request{method, target, std::move(headers), body};
    request.headers.emplace_back("Authorization", "Bearer " + token);
    auto answer = client->Send(request, {});
    REQUIRE_MESSAGE(answer.has_value(), (answer ? "" : answer.error().message));
    return *answer;
  }

  std::mutex mutex;
  server::Leadership leadership;  ///< By mutex.
  fleet::HeartbeatTable table;
  std::unique_ptr<server::OperatorServer> routes;
  std::unique_ptr<http::Server> listening;
  std::unique_ptr<http::Client> client;
  std::string url;
};

const std::string kBeat = R"({"workspace":"uid-1","bootID":"b1","sequence":1})";

std::string ErrorOf(const http::Response& response) {
  const auto json = codec::ParseJson(response.body);
  return json ? codec::GetString(*json, "error") : "";
}

}  // namespace

TEST_CASE("a replica that does not lead passes reports on and answers as the leader does") {
  Replica leader, follower;
  leader.Know("one");
  follower.Follow(leader.url);
  const auto answer = follower.Ask("POST", "/registry/heartbeat", "one", kBeat);
  CHECK(answer.status == 200);
  CHECK(answer.body.find("\"nextPeriodSeconds\":7") != std::string::npos);
  CHECK(leader.table.Counts().recorded == 1);
  CHECK(follower.table.Counts().recorded == 0);
  const auto unknown = follower.Ask("POST", "/registry/heartbeat", "two", kBeat);
  CHECK(unknown.status == 401);
  CHECK(http::FindHeader(unknown.headers, "WWW-Authenticate") == "Bearer");
  CHECK(follower.Ask("GET", "/healthz", "").status == 200);  // Its own affair.
}

TEST_CASE("downloads pass through with their headers, whole and in part") {
  Replica leader, follower;
  leader.Know("one");
  follower.Follow(leader.url);
  const std::string path = "/workspaces/uid-1/plugins/p/download";
  const auto direct = leader.Ask("GET", path, "one");
  const auto whole = follower.Ask("GET", path, "one");
  CHECK(whole.status == 200);
  CHECK(whole.body.size() == 300'000);
  CHECK(whole.body == direct.body);
  CHECK(http::FindHeader(whole.headers, "ETag") == http::FindHeader(direct.headers, "ETag"));
  const auto part = follower.Ask("GET", path, "one", "", {{"Range", "bytes=5-14"}});
  CHECK(part.status == 206);
  CHECK(part.body.size() == 10);
  CHECK(http::FindHeader(part.headers, "Content-Range") == "bytes 5-14/300000");
  CHECK(follower.Ask("GET", path, "two").status == 401);
  const auto etag = std::string(http::FindHeader(direct.headers, "ETag"));
  CHECK(follower.Ask("GET", path, "one", "", {{"If-None-Match", etag}}).status == 304);
}

TEST_CASE("without a known leader the answer is 503 with Retry-After") {
  Replica follower;
  follower.Follow("");
  const auto answer = follower.Ask("POST", "/registry/heartbeat", "one", kBeat);
  CHECK(answer.status == 503);
  CHECK(ErrorOf(answer) == "no_leader");
  CHECK(http::FindHeader(answer.headers, "Retry-After") == "1");
}

TEST_CASE("two replicas that take each other for the leader answer 503 and do not go round") {
  Replica a, b;
  a.Follow(b.url);
  b.Follow(a.url);
  const auto answer = a.Ask("POST", "/registry/heartbeat", "one", kBeat);
  CHECK(answer.status == 503);
  CHECK(ErrorOf(answer) == "no_leader");
}

TEST_CASE("a leader that does not answer is asked once a second, not by everybody") {
  support::ByteServer silent(
      [](support::ByteConnection& to, const support::ByteRequest&) { to.FallSilent(); });
  Replica follower(base::Millis{200});
  follower.Follow(silent.Url());
  for (int i = 0; i < 5; ++i) {
    const auto answer = follower.Ask("POST", "/registry/heartbeat", "one", kBeat);
    CHECK(answer.status == 503);
    CHECK(http::FindHeader(answer.headers, "Retry-After") == "1");
  }
  CHECK(silent.Requests().size() <= 2);
}

TEST_CASE("a replica that has become the leader answers for itself at once") {
  Replica replica;
  replica.Know("one");
  replica.Follow("");
  CHECK(replica.Ask("POST", "/registry/heartbeat", "one", kBeat).status == 503);
  {
    const std::lock_guard lock(replica.mutex);
    replica.leadership = {};
  }
  CHECK(replica.Ask("POST", "/registry/heartbeat", "one", kBeat).status == 200);
}

TEST_CASE("a report whose leader loses the lease amid its body does not hold up the I/O thread") {
  support::ByteServer silent(
      [](support::ByteConnection& to, const support::ByteRequest&) { to.FallSilent(); });
  Replica replica(base::Millis{60'000});
  replica.Know("one");
  http_test::RawSocket agent(replica.listening->Port());
  REQUIRE(
      agent.Send(fmt::format("POST /registry/heartbeat HTTP/1.1\r\nHost: a\r\nAuthorization: "
                             "Bearer one\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
                             kBeat.size())));
  // The head is judged: it is this replica's to answer, on the thread that reads it.
  REQUIRE(agent.ReadFor("100 Continue").find("100 Continue") != std::string::npos);
  agent.Forget();
  replica.Follow(silent.Url());
  REQUIRE(agent.Send(kBeat));
  CHECK(replica.Ask("GET", "/healthz", "").status == 200);
  const std::string answer = agent.ReadFor("\r\n\r\n");
  CHECK(answer.find("HTTP/1.1 503") == 0);
  CHECK(answer.find("Retry-After: 1") != std::string::npos);
  CHECK(silent.Requests().empty());
}
