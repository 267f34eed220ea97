#include "http/client/client.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>
#include <vector>

#include "http/raw_socket.hpp"
#include "http/server/server.hpp"
#include "http/tls.hpp"

namespace {

using namespace std::chrono_literals;

/// Hands out what a test needs: echo, streams, silence.
struct Peer {
  std::unique_ptr<http::Server> server;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::unique_ptr<http::Responder>> silent;  ///< By mutex.
  std::shared_ptr<http::ResponseStream> stream;          ///< By mutex.
  int closed = 0;                                        ///< By mutex.
  size_t stream_limit = 256 << 10;

  explicit Peer(http::ServerOptions options = {}) {
    http::Handlers handlers;
    handlers.handle = [this](http::ServerRequest&& request,
                             std::unique_ptr<http::Responder> responder) {
      Handle(std::move(request), std::move(responder));
    };
    auto started = http::Server::Start(std::move(options), std::move(handlers));
    REQUIRE(started);
    server = *std::move(started);
  }
  ~Peer() {
    {
      const std::lock_guard lock(mutex);
      silent.clear();
      stream.reset();
    }
    server->Stop(2s);
  }
  void Handle(http::ServerRequest&& request, std::unique_ptr<http::Responder> responder) {
    const std::string& target = request.request.target;
    std::unique_lock lock(mutex);
    if (target == "/silent") {
      silent.push_back(std::move(responder));
    } else if (target == "/stream") {
      stream = responder->StartStream({200, {{"Content-Type", "text/plain"}}, {}}, stream_limit);
      auto opened = stream;
      lock.unlock();
      opened->OnClosed([this] {
        const std::lock_guard inner(mutex);
        ++closed;
        changed.notify_all();
      });
      lock.lock();
    } else if (target == "/big") {
      responder->Send({200, {}, std::string(3 << 20, 'x')});
    } else if (target == "/404") {
      responder->Send({404, {{"X-Reason", "none"}}, "not here"});
    } else if (target == "/subject") {
      responder->Send({200, {}, request.client_subject});
    } else {
      responder->Send(
          {200,
           {{"X-Type", std::string(http::FindHeader(request.request.headers, "content-type"))}},
           request.request.method + " " + target + " " + request.request.body});
    }
    changed.notify_all();
  }
  template <typename F>
  bool Await(F condition) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 10s, condition);
  }
  std::shared_ptr<http::ResponseStream> AwaitStream() {
    REQUIRE(Await([&] { return stream != nullptr; }));
    const std::lock_guard lock(mutex);
    return stream;
  }
  std::string Url(const char* scheme = "http", const char* host = "127.0.0.1") const {
    return std::string(scheme) + "://" + host + ":" + std::to_string(server->Port());
  }
};

std::unique_ptr<http::Client> ClientFor(http::ClientOptions options) {
  auto client = http::Client::Create(std::move(options));
  REQUIRE(client);
  return *std::move(client);
}

std::unique_ptr<http::Client> ClientFor(const std::string& url, bool own = false) {
  http::ClientOptions options;
  options.base_url = url;
  options.own_connections = own;
  return ClientFor(std::move(options));
}

http::Request GetRequest(const std::string& target) { return {"GET", target, {}, ""}; }

}  // namespace

TEST_CASE("requests arrive as they were given, and any status is a value") {
  bool own = false;
  SUBCASE("through the library's pool") {}
  SUBCASE("on a connection of its own") { own = true; }
  Peer peer;
  const auto client = ClientFor(peer.Url(), own);
  for (const std::string method : {"GET", "POST", "PUT", "PATCH", "DELETE"}) {
    CAPTURE(method);
    const http::Request request{method,
                                "/a%2Fb/c?labelSelector=x%3Dy&e=%20",
                                {{"Content-Type", "application/x-test"}},
                                method == "GET" ? "" : "body"};
    const auto answer = client->Send(request, {});
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().message));
    CHECK(answer->status == 200);
    CHECK(answer->body == method + " /a%2Fb/c?labelSelector=x%3Dy&e=%20 " + request.body);
    if (method != "GET") CHECK(http::FindHeader(answer->headers, "x-type") == "application/x-test");
  }
  const auto missing = client->Send(GetRequest("/404"), {});
  REQUIRE(missing);
  CHECK(missing->status == 404);
  CHECK(missing->body == "not here");
  CHECK(http::FindHeader(missing->headers, "x-reason") == "none");
}

TEST_CASE("an answer over the limit is refused") {
  Peer peer;
  http::ClientOptions options;
  SUBCASE("through the library's pool") {}
  SUBCASE("on a connection of its own") { options.own_connections = 1; }
  options.base_url = peer.Url();
  options.response_limit = 1 << 20;
  const auto answer = ClientFor(options)->Send(GetRequest("/big"), {});
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == base::Code::kInvalid);
}

TEST_CASE("a refused connection is unavailable, a bad URL invalid") {
  uint16_t port = 0;
  {
    Peer peer;
    port = peer.server->Port();
  }
  for (const bool own : {false, true}) {
    CAPTURE(own);
    const auto answer =
        ClientFor("http://127.0.0.1:" + std::to_string(port), own)->Send(GetRequest("/"), {});
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == base::Code::kUnavailable);
    CHECK(answer.error().reason == "ConnectFailed");
  }
  CHECK_FALSE(http::Client::Create({.base_url = "ftp://x"}));
  CHECK_FALSE(http::Client::Create({.base_url = "https://x", .ca_pem = "no certificate"}));
}

TEST_CASE("the deadline ends a call that gets no head") {
  bool own = false;
  SUBCASE("through the library's pool") {}
  SUBCASE("on a connection of its own") { own = true; }
  Peer peer;
  const auto start = std::chrono::steady_clock::now();
  const auto answer = ClientFor(peer.Url(), own)->Send(GetRequest("/silent"), {.deadline = 200ms});
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == base::Code::kTimeout);
  CHECK(std::chrono::steady_clock::now() - start < 5s);
}

TEST_CASE("the total deadline ends a body that trickles for ever") {
  bool own = false;
  SUBCASE("through the library's pool") {}
  SUBCASE("on a connection of its own") { own = true; }
  Peer peer;
  const auto client = ClientFor(peer.Url(), own);
  std::jthread feeder([&](std::stop_token stop) {
    const auto stream = peer.AwaitStream();
    std::mutex mutex;
    std::condition_variable_any pace;
    std::unique_lock lock(mutex);
    while (!stop.stop_requested() && stream->Write("x"))
      pace.wait_for(lock, stop, 10ms, [] { return false; });
  });
  const auto answer = client->Send(GetRequest("/stream"), {.deadline = 400ms});
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == base::Code::kTimeout);
  CHECK(peer.Await([&] { return peer.closed == 1; }));
}

TEST_CASE("a stop request cancels within milliseconds while the head is awaited") {
  bool own = false;
  SUBCASE("through the library's pool") {}
  SUBCASE("on a connection of its own") { own = true; }
  Peer peer;
  const auto client = ClientFor(peer.Url(), own);
  std::stop_source stop;
  std::chrono::steady_clock::time_point asked;
  std::jthread stopper([&] {
    peer.Await([&] { return !peer.silent.empty(); });
    asked = std::chrono::steady_clock::now();
    stop.request_stop();
  });
  const auto answer =
      client->Send(GetRequest("/silent"), {.deadline = 20s, .stop = stop.get_token()});
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == base::Code::kCancelled);
  CHECK(std::chrono::steady_clock::now() - asked < 1s);
}

TEST_CASE("a stop request cancels a stream, and the server sees its peer leave") {
  Peer peer;
  const auto client = ClientFor(peer.Url());
  std::stop_source stop;
  std::string got;
  std::jthread feeder([&] { peer.AwaitStream()->Write("hello"); });
  const auto answer = client->Stream(GetRequest("/stream"), {.stop = stop.get_token()},
                                     [&](std::string_view bytes) {
                                       got += bytes;
                                       if (got == "hello") stop.request_stop();
                                       return true;
                                     });
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == base::Code::kCancelled);
  CHECK(peer.Await([&] { return peer.closed == 1; }));
}

TEST_CASE("a reader that has enough ends the stream") {
  Peer peer;
  std::jthread feeder([&] { peer.AwaitStream()->Write("hello"); });
  const auto answer =
      ClientFor(peer.Url())->Stream(GetRequest("/stream"), {}, [](std::string_view) {
        return false;
      });
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == base::Code::kCancelled);
  CHECK(peer.Await([&] { return peer.closed == 1; }));
}

TEST_CASE("a stream that falls silent is ended by the idle limit") {
  Peer peer;
  std::jthread feeder([&] { peer.AwaitStream()->Write("hello"); });
  const auto answer =
      ClientFor(peer.Url())->Stream(GetRequest("/stream"), {.idle = 300ms}, [](std::string_view) {
        return true;
      });
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == base::Code::kTimeout);
}

TEST_CASE(
    "ten thousand lines arrive whole and in order at a slow reader, and the writer is held back") {
  Peer peer;
  const auto client = ClientFor(peer.Url());
  const std::string filler(3'000, 'x');
  int read = 0;  // By peer.mutex: lines that the reader has had.
  std::jthread feeder([&] {
    const auto stream = peer.AwaitStream();
    // The server's buffer is bounded: this writer paces itself by the reader, through a window of
    // lines. Twice the window fits the buffer: one may have been read already while the server has
    // not noticed yet that it is sent.
    for (int i = 0; i < 10'000; ++i) {
      std::unique_lock lock(peer.mutex);
      peer.changed.wait_for(lock, 10s, [&] { return i <= read + 30; });
      lock.unlock();
      if (!stream->Write(std::to_string(i) + " " + filler + "\n")) return;
    }
    stream->Finish();
  });
  std::string pending;
  int next = 0;
  bool in_order = true;
  const auto answer = client->Stream(GetRequest("/stream"), {}, [&](std::string_view bytes) {
    pending += bytes;
    size_t end = 0;
    size_t start = 0;
    while ((end = pending.find('\n', start)) != std::string::npos) {
      in_order =
          in_order && pending.compare(start, end - start, std::to_string(next) + " " + filler) == 0;
      ++next;
      start = end + 1;
    }
    pending.erase(0, start);
    {
      const std::lock_guard lock(peer.mutex);
      read = next;
    }
    peer.changed.notify_all();
    return true;
  });
  REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().message));
  CHECK(answer->status == 200);
  CHECK(in_order);
  CHECK(next == 10'000);
}

TEST_CASE("a reader that does not read makes the server drop the stream at its buffer limit") {
  Peer peer;
  const auto client = ClientFor(peer.Url());
  std::mutex mutex;
  std::condition_variable changed;
  bool dropped = false;
  size_t written = 0;
  std::jthread feeder([&] {
    const auto stream = peer.AwaitStream();
    while (stream->Write(std::string(64 << 10, 'x'))) written += 64 << 10;
    const std::lock_guard lock(mutex);
    dropped = true;
    changed.notify_all();
  });
  const auto answer = client->Stream(GetRequest("/stream"), {}, [&](std::string_view) {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, 20s, [&] { return dropped; });
    return true;
  });
  CHECK_FALSE(answer);  // Cut: never mistaken for an orderly end.
  CHECK(dropped);
  CHECK(written < (64u << 20));
}

TEST_CASE("a body that is cut is an error, chunked or by length") {
  for (const std::string body :
       {"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Content-Length: 9\r\n\r\nhello"}) {
    CAPTURE(body);
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0);
    REQUIRE(::listen(listener, 1) == 0);
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
    std::jthread cutter([&] {
      const base::UniqueFd fd(::accept(listener, nullptr, nullptr));
      char buffer[4096];
      [[maybe_unused]] const auto got = ::recv(fd.Get(), buffer, sizeof buffer, 0);
      const std::string answer = "HTTP/1.1 200 OK\r\n" + body;
      [[maybe_unused]] const auto sent =
          ::send(fd.Get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    });
    std::string seen;
    const auto answer = ClientFor("http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)))
                            ->Stream(GetRequest("/"), {}, [&](std::string_view bytes) {
                              seen += bytes;
                              return true;
                            });
    CHECK_FALSE(answer);
    if (!answer) CHECK(answer.error().code == base::Code::kUnavailable);
    ::close(listener);
  }
}

TEST_CASE("over TLS only the given CA and the right name are trusted") {
  const auto authority = http::MakeCertificateAuthority("test CA", 3600s);
  const auto other = http::MakeCertificateAuthority("other CA", 3600s);
  REQUIRE(authority);
  REQUIRE(other);
  const auto serving =
      http::MakeServingCertificate(*authority, "server", {"api.test"}, {"127.0.0.1"}, 3600s);
  const auto named = http::MakeServingCertificate(*authority, "server", {"api.test"}, {}, 3600s);
  REQUIRE(serving);
  REQUIRE(named);
  http::ServerOptions options;
  options.tls = http::TlsMaterial{serving->certificate_pem, serving->private_key_pem,
                                  authority->certificate_pem};
  Peer peer(options);
  http::ServerOptions named_options;
  named_options.tls = http::TlsMaterial{named->certificate_pem, named->private_key_pem, ""};
  Peer named_peer(named_options);
  struct Row {
    const char* name;
    std::string url;
    std::string ca;
    std::string server_name;
    bool works;
  };
  const std::vector<Row> rows = {
      {"right CA, right address", peer.Url("https"), authority->certificate_pem, "", true},
      {"right CA, right name", peer.Url("https"), authority->certificate_pem, "api.test", true},
      {"wrong CA", peer.Url("https"), other->certificate_pem, "", false},
      {"system roots", peer.Url("https"), "", "", false},
      {"wrong name", peer.Url("https"), authority->certificate_pem, "other.test", false},
      {"address not in the certificate", named_peer.Url("https"), authority->certificate_pem, "",
       false},
      {"name in the certificate", named_peer.Url("https"), authority->certificate_pem, "api.test",
       true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    http::ClientOptions client;
    client.base_url = row.url;
    client.ca_pem = row.ca;
    client.server_name = row.server_name;
    const auto pooled = ClientFor(client);
    client.own_connections = 1;
    const auto own = ClientFor(client);
    const auto ignore = [](std::string_view) { return true; };
    for (const auto& answer :
         {pooled->Send(GetRequest("/hello"), {}), pooled->Stream(GetRequest("/hello"), {}, ignore),
          own->Send(GetRequest("/hello"), {})}) {
      CHECK(answer.has_value() == row.works);
      if (answer) continue;
      CHECK(answer.error().code == base::Code::kUnauthorized);
      CHECK(answer.error().reason == "TlsFailure");
      CHECK(answer.error().message.find("and this machine's clock") != std::string::npos);
    }
  }
  SUBCASE("a client certificate is verified and its subject handed on") {
    http::ClientOptions client;
    client.base_url = peer.Url("https");
    client.ca_pem = authority->certificate_pem;
    const auto mine = http::MakeServingCertificate(*authority, "agent-7", {"agent"}, {}, 3600s);
    client.client_certificate_pem = mine->certificate_pem;
    client.client_key_pem = mine->private_key_pem;
    const auto answer = ClientFor(client)->Send(GetRequest("/subject"), {});
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().message));
    CHECK(answer->body == "CN=agent-7");
  }
  SUBCASE("replaced material is used by new connections") {
    const auto renewed = http::MakeServingCertificate(*other, "server", {}, {"127.0.0.1"}, 3600s);
    peer.server->ReplaceTls({renewed->certificate_pem, renewed->private_key_pem, ""});
    http::ClientOptions client;
    client.base_url = peer.Url("https");
    client.ca_pem = other->certificate_pem;
    CHECK(ClientFor(client)->Send(GetRequest("/hello"), {}));
  }
  SUBCASE("a large body and a stream survive TLS") {
    http::ClientOptions client;
    client.base_url = peer.Url("https");
    client.ca_pem = authority->certificate_pem;
    SUBCASE("through the library's pool") {}
    SUBCASE("on a connection of its own") { client.own_connections = 1; }
    const auto made = ClientFor(client);
    const auto big = made->Send(GetRequest("/big"), {});
    REQUIRE(big);
    CHECK(big->body.size() == 3u << 20);
    const auto posted = made->Send({"POST", "/p", {}, std::string(900'000, 'y')}, {});
    REQUIRE(posted);
    CHECK(posted->body.size() == 900'000 + 8);
  }
  SUBCASE("handshakes that are broken off leak no descriptor") {
    const auto descriptors = [] {
      return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                           std::filesystem::directory_iterator());
    };
    const auto before = descriptors();
    for (int i = 0; i < 50; ++i) {
      http_test::RawSocket socket(peer.server->Port());
      if (i % 2 == 0) socket.Send("\x16\x03\x01\x02");
    }
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    while (descriptors() > before + 2 && std::chrono::steady_clock::now() < deadline)
      std::this_thread::yield();
    CHECK(descriptors() <= before + 2);
  }
}

TEST_CASE("certificates end when they should, and bad material is refused") {
  const auto authority = http::MakeCertificateAuthority("test CA", base::Seconds(3600 * 24 * 400));
  REQUIRE(authority);
  const auto end = http::CertificateEnd(authority->certificate_pem);
  REQUIRE(end);
  const auto left = *end - base::SystemClock::Get().Read().wall;
  CHECK(left > std::chrono::hours(24 * 399));
  CHECK(left <= std::chrono::hours(24 * 400));
  CHECK_FALSE(http::CertificateEnd("nonsense"));
  CHECK_FALSE(http::MakeServingCertificate(*authority, "x", {}, {}, 60s));
  CHECK_FALSE(http::MakeServingCertificate(*authority, "x", {"a,DNS:evil"}, {}, 60s));
  CHECK_FALSE(http::MakeServingCertificate(*authority, "x", {}, {"1.2.3"}, 60s));
  const auto other = http::MakeCertificateAuthority("other", 60s);
  http::ServerOptions options;
  options.tls = http::TlsMaterial{authority->certificate_pem, other->private_key_pem, ""};
  http::Handlers handlers;
  handlers.handle = [](http::ServerRequest&&, std::unique_ptr<http::Responder>) {};
  const auto mismatched = http::Server::Start(options, handlers);
  REQUIRE_FALSE(mismatched);
  CHECK(mismatched.error().code == base::Code::kInvalid);
}

TEST_CASE("a port in use is named") {
  Peer peer;
  http::ServerOptions options;
  options.port = peer.server->Port();
  http::Handlers handlers;
  handlers.handle = [](http::ServerRequest&&, std::unique_ptr<http::Responder>) {};
  const auto second = http::Server::Start(options, handlers);
  REQUIRE_FALSE(second);
  CHECK(second.error().reason == "PortInUse");
  CHECK(second.error().message.find("127.0.0.1:" + std::to_string(options.port)) !=
        std::string::npos);
}

TEST_CASE("Stop ends streams orderly, lets a running handler finish, and closes idle connections") {
  std::mutex mutex;
  std::condition_variable changed;
  bool entered = false;
  bool release = false;
  http::Handlers handlers;
  handlers.handle = [&](http::ServerRequest&& request, std::unique_ptr<http::Responder> responder) {
    if (request.request.target == "/slow") {
      std::unique_lock lock(mutex);
      entered = true;
      changed.notify_all();
      changed.wait(lock, [&] { return release; });
    }
    responder->Send({200, {}, "done"});
  };
  auto started = http::Server::Start({}, handlers);
  REQUIRE(started);
  http_test::RawSocket idle((*started)->Port());
  idle.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  idle.ReadFor("done");
  http_test::RawSocket slow((*started)->Port());
  slow.Send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
  {
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, 5s, [&] { return entered; }));
  }
  std::jthread stopper([&] { (*started)->Stop(10s); });
  idle.ReadToEnd();
  CHECK(idle.Ended());
  {
    const std::lock_guard lock(mutex);
    release = true;
  }
  changed.notify_all();
  const std::string answer = slow.ReadToEnd();
  CHECK(answer.ends_with("done"));
  CHECK(answer.find("Connection: close\r\n") != std::string::npos);
}

TEST_CASE("Stop ends within its grace under load and with a stuck handler, and again is harmless") {
  auto stuck = std::make_shared<std::pair<std::mutex, std::condition_variable>>();
  auto release = std::make_shared<std::atomic<bool>>(false);
  auto left = std::make_shared<std::atomic<int>>(0);
  http::Handlers handlers;
  handlers.handle = [stuck, release, left](http::ServerRequest&& request,
                                           std::unique_ptr<http::Responder> responder) {
    if (request.request.target == "/stuck") {
      ++*left;
      std::unique_lock lock(stuck->first);
      stuck->second.wait(lock, [&] { return release->load(); });
      lock.unlock();
      responder.reset();
      --*left;
      return;
    }
    responder->Send({200, {}, "done"});
  };
  auto started = http::Server::Start({.io_threads = 2}, handlers);
  REQUIRE(started);
  const uint16_t port = (*started)->Port();
  std::vector<std::jthread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([port](std::stop_token stop) {
      while (!stop.stop_requested()) {
        http_test::RawSocket socket(port);
        if (!socket.Connected() || !socket.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")) return;
        socket.ReadFor("done", 500);
      }
    });
  }
  http_test::RawSocket socket(port);
  socket.Send("GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n");
  while (*left == 0) std::this_thread::yield();
  const auto start = std::chrono::steady_clock::now();
  (*started)->Stop(500ms);
  CHECK(std::chrono::steady_clock::now() - start < 3s);
  (*started)->Stop(500ms);
  started->reset();
  for (auto& client : clients) client.request_stop();
  clients.clear();
  {
    const std::lock_guard lock(stuck->first);
    *release = true;
  }
  stuck->second.notify_all();
  while (*left != 0) std::this_thread::yield();
}
