#include <doctest/doctest.h>

#include <future>

#include "http/client/client.hpp"
#include "http/client/hello.hpp"
#include "http/client/web_socket.hpp"
#include "http/server/server.hpp"
#include "http/tls.hpp"
#include "support/exec_server.hpp"
#include "support/tunnel_proxy.hpp"

namespace {

using namespace std::chrono_literals;

/// Answers each request with its path.
struct Peer {
  http::CertificateAndKey authority = *http::MakeCertificateAuthority("proxy-test", 3600s);
  std::unique_ptr<http::Server> server;

  Peer() {
    const auto serving =
        http::MakeServingCertificate(authority, "server", {"localhost"}, {"127.0.0.1"}, 3600s);
    http::ServerOptions options;
    options.tls = http::TlsMaterial{serving->certificate_pem, serving->private_key_pem, ""};
    http::Handlers handlers;
    handlers.handle = [](http::ServerRequest&& request,
                         std::unique_ptr<http::Responder> responder) {
      responder->Send({200, {}, request.request.target});
    };
    server = *http::Server::Start(std::move(options), std::move(handlers));
  }
  ~Peer() { server->Stop(2s); }
  std::string Authority(const std::string& host) const {
    return host + ":" + std::to_string(server->Port());
  }
};

struct Way {
  const char* name;
  bool own;
  bool stream;
};
constexpr Way kWays[] = {{"pooled", false, false}, {"own", true, false}, {"stream", false, true}};

base::Result<http::Response> Ask(const Way& way, http::ClientOptions options,
                                 const std::string& target) {
  options.own_connections = way.own;
  const auto client = http::Client::Create(std::move(options));
  if (!client) return client.error();
  if (!way.stream) return (*client)->Send({"GET", target, {}, ""}, {.deadline = 10s});
  std::string body;
  auto answer = (*client)->Stream({"GET", target, {}, ""}, {.deadline = 10s}, [&](auto bytes) {
    body += bytes;
    return true;
  });
  if (answer) answer->body = body;
  return answer;
}

}  // namespace

TEST_CASE("a proxy is asked for a tunnel, and the server's certificate is looked at through it") {
  const Peer peer;
  const auto other = http::MakeCertificateAuthority("other", 3600s);
  for (const Way& way : kWays) {
    CAPTURE(way.name);
    for (const std::string host : {"localhost", "127.0.0.1"}) {
      support::TunnelProxy proxy;
      http::ClientOptions options{.base_url = "https://" + peer.Authority(host),
                                  .ca_pem = peer.authority.certificate_pem,
                                  .proxy_url = proxy.Url("me:p%40ss")};
      const auto answer = Ask(way, options, "/hello");
      REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().message));
      CHECK(answer->body == "/hello");
      CHECK(proxy.Requests() == std::vector<std::string>{"CONNECT " + peer.Authority(host)});
      // me:p@ss
      CHECK(proxy.LastHead().find("Proxy-Authorization: Basic bWU6cEBzcw==") != std::string::npos);
      options.ca_pem = other->certificate_pem;
      const auto refused = Ask(way, options, "/hello");
      REQUIRE_FALSE(refused);
      CHECK(refused.error().reason == "TlsFailure");
      options.proxy_url = proxy.Url();
      CHECK_FALSE(Ask(way, options, "/hello"));
      CHECK(proxy.LastHead().find("Proxy-Authorization") == std::string::npos);
    }
  }
}

TEST_CASE("a WebSocket session goes through a proxy") {
  support::ExecServer server;
  PlayHello(&server);
  support::TunnelProxy proxy;
  CHECK(HelloFrom(server, proxy.Url()) == "\1hello");
  CHECK(proxy.Requests().size() == 1);
}

TEST_CASE("a proxy that opens no tunnel is named, its password is not") {
  const Peer peer;
  struct Row {
    std::string answer;
    const char* said;
  };
  const std::vector<Row> rows = {
      {"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"},
      {"HTTP/1.0 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403"},
      {"SSH-2.0-OpenSSH_9.2\r\n\r\n", "proxy"},
      {"HTTP/1.1 200", "proxy"},
  };
  for (const Row& row : rows)
    for (const Way& way : kWays) {
      CAPTURE(row.answer);
      CAPTURE(way.name);
      support::TunnelProxy proxy;
      proxy.AnswerWith(row.answer);
      const auto answer = Ask(way,
                              {.base_url = "https://" + peer.Authority("127.0.0.1"),
                               .ca_pem = peer.authority.certificate_pem,
                               .proxy_url = proxy.Url("me:hush")},
                              "/hello");
      REQUIRE_FALSE(answer);
      CAPTURE(answer.error().message);
      CHECK(answer.error().code == base::Code::kUnavailable);
      CHECK(answer.error().message.find(row.said) != std::string::npos);
      CHECK(answer.error().message.find("hush") == std::string::npos);
    }
  // Nobody listens.
  std::string gone;
  {
    const support::TunnelProxy proxy;
    gone = proxy.Url();
  }
  for (const Way& way : kWays) {
    CAPTURE(way.name);
    const auto answer = Ask(
        way, {.base_url = "https://" + peer.Authority("127.0.0.1"), .proxy_url = gone}, "/hello");
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == base::Code::kUnavailable);
    CHECK(answer.error().reason == "ConnectFailed");
  }
}

TEST_CASE("what cannot be a proxy is refused before anything is sent") {
  for (const std::string url :
       {"https://proxy:1", "socks5://proxy:1", "proxy:3128", "http://", "http://me:hush@",
        "http://proxy/path", "http://me:hush@pro xy:1"}) {
    CAPTURE(url);
    const auto client = http::Client::Create({.base_url = "https://server:1", .proxy_url = url});
    REQUIRE_FALSE(client);
    CHECK(client.error().code == base::Code::kInvalid);
    CHECK(client.error().message.find("hush") == std::string::npos);
  }
  CHECK_FALSE(http::Client::Create({.base_url = "http://server:1", .proxy_url = "http://proxy:1"}));
}

TEST_CASE("a proxy that falls silent costs no more than the deadline") {
  const Peer peer;
  support::ByteServer silent([](auto& connection, const auto&) { connection.FallSilent(); });
  for (const Way& way : kWays) {
    CAPTURE(way.name);
    const auto client = http::Client::Create({.base_url = "https://" + peer.Authority("127.0.0.1"),
                                              .proxy_url = silent.Url(),
                                              .own_connections = way.own});
    REQUIRE(client);
    const http::CallOptions call{.deadline = 200ms};
    const auto answer =
        way.stream ? (*client)->Stream({"GET", "/", {}, ""}, call, [](auto) { return true; })
                   : (*client)->Send({"GET", "/", {}, ""}, call);
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == base::Code::kTimeout);
  }
}

TEST_CASE("many callers share a few tunnels, and keep them") {
  const Peer peer;
  const support::TunnelProxy proxy;
  const auto client = *http::Client::Create({.base_url = "https://" + peer.Authority("127.0.0.1"),
                                             .ca_pem = peer.authority.certificate_pem,
                                             .proxy_url = proxy.Url()});
  std::vector<std::future<bool>> callers;
  for (int i = 0; i < 40; ++i)
    callers.push_back(std::async(std::launch::async, [&, i] {
      const std::string target = "/" + std::to_string(i);
      for (int n = 0; n < 5; ++n) {
        const auto answer = client->Send({"GET", target, {}, ""}, {.deadline = 30s});
        if (!answer || answer->body != target) return false;
      }
      return true;
    }));
  for (auto& caller : callers) CHECK(caller.get());
  CHECK(proxy.Requests().size() <= 16);
}
