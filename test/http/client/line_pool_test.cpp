#include <doctest/doctest.h>

#include <atomic>
#include <future>

#include "http/client/client.hpp"
#include "support/byte_server.hpp"
#include "support/eventually.hpp"

namespace {

using namespace std::chrono_literals;

std::unique_ptr<http::Client> OwnConnectionTo(const std::string& url) {
  auto client = http::Client::Create({.base_url = url, .own_connections = 1});
  REQUIRE(client);
  return *std::move(client);
}

base::Result<http::Response> Put(http::Client& client, const std::string& target,
                                 base::Millis deadline = 10s) {
  return client.Send({"PUT", target, {}, "{}"}, {.deadline = deadline});
}

}  // namespace

TEST_CASE("calls share one connection, from whatever thread they come") {
  support::ByteServer server(
      [](support::ByteConnection& connection, const support::ByteRequest& request) {
        connection.Answer(200, request.target);
      });
  const auto client = OwnConnectionTo(server.Url());
  std::vector<std::future<bool>> callers;
  for (int i = 0; i < 8; ++i)
    callers.push_back(std::async(std::launch::async, [&, i] {
      const std::string target = "/" + std::to_string(i);
      bool right = true;
      for (int n = 0; n < 20; ++n) {
        const auto answer = Put(*client, target);
        right = right && answer && answer->body == target;
      }
      return right;
    }));
  for (auto& caller : callers) CHECK(caller.get());
  CHECK(server.Requests().size() == 160);
  CHECK(server.Accepted() == 1);
}

TEST_CASE("a connection that has ended is dialled anew, and nothing is sent twice") {
  support::ByteServer server(
      [](support::ByteConnection& connection, const support::ByteRequest& request) {
        if (request.target == "/says-close") {
          connection.Answer(200, "bye", "Connection: close\r\n");
          connection.Close();
        } else if (request.target == "/closes") {
          connection.Answer(200, "bye");
          connection.Close();
        } else if (request.target == "/no-length") {
          connection.Send("HTTP/1.1 200 OK\r\n\r\nbye");
          connection.Close();
        } else if (request.target == "/cuts") {
          connection.Close();
        } else if (request.target == "/half-a-body") {
          connection.Send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel");
          connection.Close();
        } else if (request.target == "/resets") {
          connection.Reset();
        } else {
          connection.SendSplit("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 3);
        }
      });
  const auto client = OwnConnectionTo(server.Url());
  struct Row {
    const char* target;
    bool answered;
  };
  const Row rows[] = {{"/says-close", true}, {"/closes", true},       {"/no-length", true},
                      {"/cuts", false},      {"/half-a-body", false}, {"/resets", false}};
  for (const Row& row : rows) {
    CAPTURE(row.target);
    const auto first = Put(*client, row.target);
    CHECK(first.has_value() == row.answered);
    if (first) CHECK(first->body == "bye");
    if (!first) CHECK(first.error().code == base::Code::kUnavailable);
    CHECK(support::Eventually([&] { return server.Open() == 0; }));
    const auto next = Put(*client, "/fine");
    REQUIRE_MESSAGE(next, (next ? "" : next.error().message));
    CHECK(next->body == "hello");
    CHECK(server.Count(row.target) == 1);
  }
  CHECK(server.Count("/fine") == std::size(rows));
}

TEST_CASE("an answer that comes too late is not taken for the next one's") {
  std::promise<void> let;
  auto answers = let.get_future().share();
  support::ByteServer server(
      [&](support::ByteConnection& connection, const support::ByteRequest& request) {
        if (request.target == "/late") answers.wait();
        connection.Answer(200, request.target);
      });
  const auto client = OwnConnectionTo(server.Url());
  REQUIRE(Put(*client, "/first"));
  const auto late = Put(*client, "/late", 100ms);
  REQUIRE_FALSE(late);
  CHECK(late.error().code == base::Code::kTimeout);
  let.set_value();
  const auto next = Put(*client, "/next");
  REQUIRE(next);
  CHECK(next->body == "/next");
  CHECK(server.Accepted() == 2);
}

TEST_CASE("who waits for a turn waits no longer than allowed") {
  std::promise<void> let;
  auto answers = let.get_future().share();
  support::ByteServer server([&](support::ByteConnection& connection, const support::ByteRequest&) {
    answers.wait();
    connection.Answer(200, "");
  });
  const auto client = OwnConnectionTo(server.Url());
  auto first = std::async(std::launch::async, [&] { return Put(*client, "/first").has_value(); });
  CHECK(support::Eventually([&] { return server.Count("/first") == 1; }));
  const auto second = Put(*client, "/second", 50ms);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == base::Code::kTimeout);
  let.set_value();
  CHECK(first.get());
}

TEST_CASE("a word on the way is not taken for the answer, nor for the next one's") {
  constexpr char kHints[] = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
  support::ByteServer server([&](support::ByteConnection& connection,
                                 const support::ByteRequest& request) {
    if (request.target == "/endless")
      while (connection.Send(kHints)) {
      }
    if (request.target == "/together")
      connection.Send(std::string(kHints) + "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok");
    if (request.target == "/in-pieces")
      connection.SendSplit("HTTP/1.1 100 Continue\r\n\r\n" + std::string(kHints) +
                               "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok",
                           1);
  });
  const auto client = OwnConnectionTo(server.Url());
  for (const char* target : {"/together", "/in-pieces", "/together"}) {
    CAPTURE(target);
    const auto answer = Put(*client, target);
    REQUIRE(answer);
    CHECK(answer->status == 201);
    CHECK(answer->body == "ok");
    std::string streamed;
    const auto stream = client->Stream({"GET", target, {}, ""}, {}, [&](std::string_view bytes) {
      streamed += bytes;
      return true;
    });
    CHECK(stream);
    CHECK(streamed == "ok");
  }
  CHECK(server.Accepted() == 2);
  const auto endless = Put(*client, "/endless");
  REQUIRE_FALSE(endless);
  CHECK(endless.error().reason == "ConnectionLost");
}

TEST_CASE("what would end its line in a head is refused") {
  const auto client = OwnConnectionTo("http://127.0.0.1:1");
  for (const http::Request& request :
       {http::Request{"GET", "/a b", {}, ""}, http::Request{"GET", "/a\r\nX: y", {}, ""},
        http::Request{"GET", "/", {{"X", "a\nb"}}, ""}}) {
    const auto answer = client->Send(request, {});
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == base::Code::kInvalid);
  }
}

TEST_CASE("a stream that was ended in order leaves its connection to the next; no other does") {
  support::ByteServer server(
      [](support::ByteConnection& connection, const support::ByteRequest& request) {
        const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.Send(head + "3\r\none\r\n");
        if (request.target == "/ends") connection.Send("0\r\n\r\n");
        if (request.target == "/cut") connection.Close();
      });
  for (const bool own : {false, true}) {
    auto made = http::Client::Create({.base_url = server.Url(), .own_connections = own});
    REQUIRE(made);
    const auto client = *std::move(made);
    const auto stream = [&](const std::string& target, bool go_on = true) {
      std::string body;
      const auto answer = client->Stream({"GET", target, {}, ""}, {.deadline = 10s, .idle = 10s},
                                         [&](std::string_view bytes) {
                                           body += bytes;
                                           return go_on;
                                         });
      CHECK(body == "one");
      return answer.has_value();
    };
    const auto before = server.Accepted();
    for (int i = 0; i < 3; ++i) CHECK(stream("/ends"));
    CHECK(server.Accepted() == before + 1);
    CHECK_FALSE(stream("/cut"));  // On the kept one.
    CHECK(stream("/ends"));
    CHECK(server.Accepted() == before + 2);
    CHECK_FALSE(stream("/goes-on", false));  // Ended by its reader.
    CHECK(stream("/ends"));
    CHECK(server.Accepted() == before + 3);
  }
}

TEST_CASE("what has been sent has its grace after a stop, what has not is not sent any more") {
  std::atomic<bool> answers = false;
  support::ByteServer server(
      [&](support::ByteConnection& connection, const support::ByteRequest& request) {
        if (request.Has("silent")) return connection.FallSilent();
        REQUIRE(support::Eventually([&] { return answers.load(); }));
        connection.Answer(200, "done");
      });
  const auto client = OwnConnectionTo(server.Url());
  const auto stopped_amid = [&](const std::string& target, base::Millis grace) {
    std::stop_source stop;
    const size_t before = server.Requests().size();
    auto call = std::async(std::launch::async, [&, token = stop.get_token()] {
      return client->Send({"PUT", target, {}, "{}"},
                          {.deadline = 60s, .stop = token, .stop_grace = grace});
    });
    REQUIRE(support::Eventually([&] { return server.Requests().size() > before; }));
    stop.request_stop();
    answers = true;
    return call.get();
  };
  const auto heard = stopped_amid("/answers", 60s);
  REQUIRE(heard);
  CHECK(heard->body == "done");
  for (const auto grace : {0ms, 50ms}) {
    const auto cut = stopped_amid("/silent", grace);
    REQUIRE_FALSE(cut);
    CHECK(cut.error().code == base::Code::kCancelled);
    CHECK(cut.error().reason != http::kNotSent);
  }
  std::stop_source over;
  over.request_stop();
  const size_t before = server.Requests().size();
  const auto never = client->Send({"PUT", "/never", {}, "{}"},
                                  {.deadline = 60s, .stop = over.get_token(), .stop_grace = 60s});
  REQUIRE_FALSE(never);
  CHECK(never.error().code == base::Code::kCancelled);
  CHECK(never.error().reason == http::kNotSent);
  CHECK(server.Requests().size() == before);
}
