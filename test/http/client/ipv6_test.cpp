#include "support/ipv6.hpp"

#include <doctest/doctest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <thread>

#include "http/client/client.hpp"
#include "http/client/hello.hpp"
#include "http/client/route.hpp"
#include "http/client/web_socket.hpp"
#include "http/server/server.hpp"
#include "http/tls.hpp"
#include "support/exec_server.hpp"
#include "support/tunnel_proxy.hpp"

namespace {

using namespace std::chrono_literals;

http::Handlers PeerEcho() {
  http::Handlers handlers;
  handlers.handle = [](http::ServerRequest&& request, std::unique_ptr<http::Responder> responder) {
    responder->Send(
        {200,
         {},
         request.peer + " " + std::string(http::FindHeader(request.request.headers, "Host"))});
  };
  return handlers;
}

/// Says who asked, at `address`, with a certificate for both loopback addresses.
struct Peer {
  http::CertificateAndKey authority = *http::MakeCertificateAuthority("ipv6-test", 3600s);
  std::unique_ptr<http::Server> server;

  explicit Peer(const std::string& address) {
    const auto serving =
        http::MakeServingCertificate(authority, "server", {}, {"127.0.0.1", "::1"}, 3600s);
    auto started = http::Server::Start(
        {.address = address,
         .tls = http::TlsMaterial{serving->certificate_pem, serving->private_key_pem, ""}},
        PeerEcho());
    REQUIRE_MESSAGE(started, (started ? "" : started.error().message));
    server = *std::move(started);
  }
  ~Peer() { server->Stop(2s); }

  std::string Authority(const std::string& host) const {
    return host + ":" + std::to_string(server->Port());
  }
  http::ClientOptions Options(const std::string& host) const {
    return {.base_url = "https://" + Authority(host), .ca_pem = authority.certificate_pem};
  }
  base::Result<http::Response> Ask(const http::ClientOptions& options) const {
    const auto client = http::Client::Create(options);
    if (!client) return client.error();
    return (*client)->Send({"GET", "/", {}, ""}, {.deadline = 10s});
  }
};

/// The kernel answers this thread as one without IPv6 does.
bool ForbidIpv6() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof code / sizeof *code, code};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace

TEST_CASE("an IPv6 address in a URL works pooled, on own connections and for streams, over TLS") {
  if (!support::HasIpv6()) return;
  const Peer peer("::1");
  for (const int own : {0, 1}) {
    CAPTURE(own);
    http::ClientOptions options = peer.Options("[::1]");
    options.own_connections = own;
    const auto answer = peer.Ask(options);
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().message));
    CHECK(answer->body.starts_with("[::1]:"));
    CHECK(answer->body.ends_with(" " + peer.Authority("[::1]")));
    std::string body;
    const auto client = *http::Client::Create(options);
    CHECK(client->Stream({"GET", "/", {}, ""}, {.deadline = 10s}, [&](auto bytes) {
      body += bytes;
      return true;
    }));
    CHECK(body.starts_with("[::1]:"));
  }
  // Over TLS the address is what the certificate must bear.
  const auto other = http::MakeServingCertificate(peer.authority, "server", {}, {"::2"}, 3600s);
  peer.server->ReplaceTls({other->certificate_pem, other->private_key_pem, ""});
  CHECK(peer.Ask(peer.Options("[::1]")).error().reason == "TlsFailure");
}

TEST_CASE("an IPv6 address is told from the port behind it, and from one that is not there") {
  struct Row {
    std::string url;
    std::string wanted;
  };
  for (const Row& row :
       {Row{"https://[fd00::1]:6443/", "[fd00::1]:6443"},
        Row{"https://[fd00::1]/", "[fd00::1]:443"}, Row{"http://[fd00::1]", "[fd00::1]:80"}}) {
    CAPTURE(row.url);
    const auto route = http::RouteTo(row.url, "");
    REQUIRE(route);
    CHECK(route->place.host == "fd00::1");
    CHECK(route->place.Authority() == row.wanted);
  }
}

TEST_CASE("a WebSocket session and a tunnel through a proxy lead to an IPv6 address, too") {
  if (!support::HasIpv6()) return;
  support::ExecServer server(boost::asio::ip::address_v6::loopback());
  PlayHello(&server);
  support::TunnelProxy proxy;
  for (const std::string& way : {std::string(), proxy.Url()}) {
    CAPTURE(way);
    CHECK(HelloFrom(server, way) == "\1hello");
  }
  REQUIRE(proxy.Requests().size() == 1);
  CHECK(proxy.Requests()[0].find("CONNECT [::1]:") != std::string::npos);
}

TEST_CASE("a server at :: is reached by both address families, and names an IPv4 peer as such") {
  if (!support::HasIpv6()) return;
  const Peer peer("::");
  const auto six = peer.Ask(peer.Options("[::1]"));
  REQUIRE_MESSAGE(six, (six ? "" : six.error().message));
  CHECK(six->body.starts_with("[::1]:"));
  const auto four = peer.Ask(peer.Options("127.0.0.1"));
  REQUIRE_MESSAGE(four, (four ? "" : four.error().message));
  CHECK(four->body.starts_with("127.0.0.1:"));
  const auto taken =
      http::Server::Start({.address = "::", .port = peer.server->Port()}, PeerEcho());
  REQUIRE_FALSE(taken);
  CHECK(taken.error().reason == "PortInUse");
  CHECK(taken.error().message.find("[::]:") != std::string::npos);
}

TEST_CASE("where there is no IPv6 a server at :: listens on IPv4, one at ::1 does not start") {
  bool forbidden = false;
  std::unique_ptr<http::Server> both, six;
  std::thread([&] {
    forbidden = ForbidIpv6();
    if (!forbidden) return;
    if (auto started = http::Server::Start({.address = "::"}, PeerEcho()))
      both = *std::move(started);
    if (auto started = http::Server::Start({.address = "::1"}, PeerEcho()))
      six = *std::move(started);
  }).join();
  if (!forbidden) {
    MESSAGE("NOT RUN: this kernel filters no system calls");
    return;
  }
  CHECK_FALSE(six);
  REQUIRE(both);
  const auto client =
      *http::Client::Create({.base_url = "http://127.0.0.1:" + std::to_string(both->Port())});
  const auto answer = client->Send({"GET", "/", {}, ""}, {.deadline = 10s});
  REQUIRE(answer);
  CHECK(answer->body.starts_with("127.0.0.1:"));
  both->Stop(2s);
}
