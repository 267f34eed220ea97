#include "http/server/server.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>
#include <vector>

#include "base/log.hpp"
#include "http/raw_socket.hpp"
#include "http/tls.hpp"
#include "support/eventually.hpp"

namespace {

using http_test::Count;
using http_test::RawSocket;
using namespace std::chrono_literals;

/// Waits for a condition that another thread makes true.
template <typename F>
bool Eventually(F condition, std::chrono::milliseconds limit = 5s) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

struct Rig {
  http::ServerOptions options;
  http::Handlers handlers;
  std::atomic<int> handled{0};
  std::unique_ptr<http::Server> server;

  Rig() {
    options.header_limit = 2048;
    options.body_limit = 4096;
    handlers.mode = [](const http::Request& head) {
      return head.target.starts_with("/worker") ? http::Mode::kWorker : http::Mode::kInline;
    };
    handlers.handle = [this](http::ServerRequest&& request,
                             std::unique_ptr<http::Responder> responder) {
      ++handled;
      Echo(std::move(request), std::move(responder));
    };
  }
  static void Echo(http::ServerRequest&& request, std::unique_ptr<http::Responder> responder) {
    http::Response response;
    response.status = 200;
    response.headers = {{"X-Target", request.request.target}};
    response.body =
        request.request.method + " " + request.request.target + " " + request.request.body;
    responder->Send(std::move(response));
  }
  uint16_t Start() {
    auto started = http::Server::Start(options, handlers);
    REQUIRE(started);
    server = *std::move(started);
    return server->Port();
  }
};

std::string Get(const std::string& target) {
  return "GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n";
}

struct Abuse {
  const char* name;
  std::string bytes;
  const char* status;  ///< The status expected, or "" for a close without an answer.
};

std::vector<Abuse> Abuses() {
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\n";
  return {
      {"a length beside chunked is refused",
       post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
      {"chunked beside a length is refused",
       post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400"},
      {"two equal lengths are refused", post + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
       "400"},
      {"two different lengths are refused",
       post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi", "400"},
      {"a list of lengths is refused", post + "Content-Length: 2, 2\r\n\r\nhi", "400"},
      {"a negative length is refused", post + "Content-Length: -1\r\n\r\n", "400"},
      {"a signed length is refused", post + "Content-Length: +2\r\n\r\nhi", "400"},
      {"a hexadecimal length is refused", post + "Content-Length: 0x2\r\n\r\nhi", "400"},
      {"an empty length is refused", post + "Content-Length:\r\n\r\n", "400"},
      {"a length over 64 bits is refused", post + "Content-Length: 99999999999999999999999\r\n\r\n",
       "400"},
      {"another transfer coding is refused",
       post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
      {"identity is refused", post + "Transfer-Encoding: identity\r\n\r\n", "501"},
      {"a coding with a tail is refused", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
       "501"},
      {"two transfer codings are refused",
       post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
      {"chunked in HTTP/1.0 is refused",
       "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
      {"a bare LF in the head is refused", "GET / HTTP/1.1\nHost: a\r\n\r\n", "400"},
      {"bare LFs that end the head are refused", "GET / HTTP/1.1\nHost: a\n\n", "400"},
      {"a bare LF between fields is refused", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "400"},
      {"a bare CR in a value is refused", "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", "400"},
      {"a folded line is refused", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", "400"},
      {"a space before the colon is refused", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"},
      {"a field without a name is refused", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "400"},
      {"a NUL is refused", std::string("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 29), "400"},
      {"no Host is refused", "GET / HTTP/1.1\r\n\r\n", "400"},
      {"two Hosts are refused", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
      {"HTTP/2.0 is refused", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"},
      {"HTTP/0.9 is refused", "GET /\r\n\r\n", "400"},
      {"garbage is refused", "\x16\x03\x01 hello\r\n\r\n", "400"},
      {"an authority is no path", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
      {"a star is no path", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
      {"bytes over 127 in the target are refused", "GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
       "400"},
      {"another expectation is refused", post + "Content-Length: 2\r\nExpect: tea\r\n\r\n", "417"},
      {"an oversized head is refused",
       "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(3000, 'x') + "\r\n\r\n", "431"},
      {"a head without end is refused", "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(9000, 'x'),
       "431"},
      {"an oversized length is refused before the body", post + "Content-Length: 4097\r\n\r\n",
       "413"},
      {"an oversized chunk is refused", post + "Transfer-Encoding: chunked\r\n\r\n1001\r\n", "413"},
      {"chunks that add up to too much are refused",
       post + "Transfer-Encoding: chunked\r\n\r\n800\r\n" + std::string(2048, 'x') + "\r\n801\r\n",
       "413"},
      {"a chunk size that is no number is refused",
       post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
      {"a negative chunk size is refused", post + "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n",
       "400"},
      {"a chunk size over 64 bits is refused",
       post + "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\n", "400"},
      {"a chunk without its end is refused",
       post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhixx0\r\n\r\n", "400"},
      {"a chunk line with a bare LF is refused",
       post + "Transfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n", "400"},
      {"an endless chunk extension is refused",
       post + "Transfer-Encoding: chunked\r\n\r\n2;" + std::string(4000, 'x'), "400"},
  };
}

}  // namespace

TEST_CASE("abuse is answered by its status, closes the connection and never reaches the handler") {
  Rig rig;
  const uint16_t port = rig.Start();
  for (const Abuse& abuse : Abuses()) {
    CAPTURE(abuse.name);
    RawSocket socket(port);
    CHECK(socket.Send(abuse.bytes + Get("/smuggled")));
    const std::string answer = socket.ReadToEnd();
    CHECK(socket.Ended());
    CHECK(answer.starts_with(std::string("HTTP/1.1 ") + abuse.status));
    CHECK(Count(answer, "HTTP/1.1 ") == 1);
    CHECK(rig.handled == 0);
  }
  RawSocket socket(port);
  socket.Send(Get("/fine"));
  CHECK(socket.ReadFor("GET /fine ").starts_with("HTTP/1.1 200 OK\r\n"));
}

TEST_CASE("requests that are unusual but right are served") {
  Rig rig;
  const uint16_t port = rig.Start();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi", "POST /a hi"},
      {"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\n "
       "yo\r\n0\r\n\r\n",
       "POST /b hi yo"},
      {"POST /t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
       "Chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Trailer: 1\r\n\r\n",
       "POST /t hi"},
      {"\r\nGET /c HTTP/1.1\r\nHost: a\r\n\r\n", "GET /c "},
      {"GET http://other/d?e=f HTTP/1.1\r\nHost: a\r\n\r\n", "GET /d?e=f "},
      {"PATCH /p HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "PATCH /p "},
      {"MADEUP /m HTTP/1.1\r\nHost: a\r\n\r\n", "MADEUP /m "},
      {"GET /old HTTP/1.0\r\n\r\n", "GET /old "},
  };
  for (const auto& [bytes, body] : cases) {
    CAPTURE(bytes);
    RawSocket whole(port);
    whole.Send(bytes);
    const std::string answer = whole.ReadFor(body);
    CHECK(answer.find(" 200 OK\r\n") != std::string::npos);
    CHECK(answer.ends_with("\r\n\r\n" + body));
    RawSocket in_bytes(port);  // Cut anywhere, the meaning is the same.
    for (const char c : bytes) in_bytes.Send(std::string_view(&c, 1));
    CHECK(in_bytes.ReadFor(body).ends_with("\r\n\r\n" + body));
  }
}

TEST_CASE(
    "pipelined requests are answered in order, inline and by workers, and the connection is kept") {
  Rig rig;
  const uint16_t port = rig.Start();
  for (const std::string prefix : {"/inline", "/worker"}) {
    RawSocket socket(port);
    std::string bytes;
    for (int i = 0; i < 500; ++i)
      bytes += "POST " + prefix + std::to_string(i) +
               " HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    std::thread sender([&] { socket.Send(bytes); });
    const std::string answer = socket.ReadFor("POST " + prefix + "499 abc");
    sender.join();
    CHECK(Count(answer, "HTTP/1.1 200 OK") == 500);
    size_t at = 0;
    for (int i = 0; i < 500 && at != std::string::npos; ++i)
      at = answer.find("POST " + prefix + std::to_string(i) + " abc", at);
    CHECK(at != std::string::npos);
  }
}

TEST_CASE("keep-alive follows the version and the Connection header") {
  Rig rig;
  const uint16_t port = rig.Start();
  struct Row {
    std::string bytes;
    bool closes;
  };
  const std::vector<Row> rows = {
      {"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", true},
      {"GET /x HTTP/1.0\r\n\r\n", true},
      {"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false},
      {"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.bytes);
    RawSocket socket(port);
    socket.Send(row.bytes);
    socket.ReadFor("GET /x ");
    socket.Forget();
    if (row.closes) {
      socket.ReadToEnd();
      CHECK(socket.Ended());
    } else {
      socket.Send(Get("/again"));
      CHECK(socket.ReadFor("GET /again ").find("200 OK") != std::string::npos);
    }
  }
}

TEST_CASE("an expectation of 100 is met before the body is sent") {
  Rig rig;
  RawSocket socket(rig.Start());
  socket.Send("POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  CHECK(socket.ReadFor("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  socket.Send("hi");
  CHECK(socket.ReadFor("POST /e hi").find("HTTP/1.1 200 OK") != std::string::npos);
}

TEST_CASE("the head is judged before the body is read") {
  Rig rig;
  rig.handlers.head_check = [](const http::Request& head) -> std::optional<http::Response> {
    if (!http::FindHeader(head.headers, "AUTHORIZATION").empty()) return std::nullopt;
    return http::Response{401, {}, "who are you"};
  };
  const uint16_t port = rig.Start();
  RawSocket socket(port);
  socket.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\nExpect: 100-continue\r\n\r\n");
  const std::string answer = socket.ReadToEnd();
  CHECK(answer.starts_with("HTTP/1.1 401 Unauthorized"));
  CHECK(answer.ends_with("who are you"));
  CHECK(rig.handled == 0);
}

TEST_CASE("a client that floods a refused body still reads the answer") {
  Rig rig;
  RawSocket socket(rig.Start());
  socket.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" +
              std::string(100'000, 'x'));
  CHECK(socket.ReadToEnd().starts_with("HTTP/1.1 413 "));
}

TEST_CASE("deadlines end slow heads, slow bodies and idle connections") {
  Rig rig;
  rig.options.header_deadline = 150ms;
  rig.options.body_deadline = 150ms;
  rig.options.idle_deadline = 150ms;
  const uint16_t port = rig.Start();
  struct Row {
    const char* name;
    std::string bytes;
    const char* start;
  };
  const std::vector<Row> rows = {
      {"nothing sent", "", ""},
      {"half a head", "GET / HT", "HTTP/1.1 408 "},
      {"half a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab", "HTTP/1.1 408 "},
      {"idle after an answer", Get("/x"), "HTTP/1.1 200 "},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    RawSocket socket(port);
    socket.Send(row.bytes);
    CHECK(socket.ReadToEnd().starts_with(row.start));
    CHECK(socket.Ended());
  }
}

TEST_CASE("a head that trickles in does not move its deadline") {
  Rig rig;
  rig.options.header_deadline = 300ms;
  RawSocket socket(rig.Start());
  const auto start = std::chrono::steady_clock::now();
  while (!socket.Ended() && std::chrono::steady_clock::now() - start < 5s) {
    socket.Send("G");
    socket.ReadToEnd(20);
  }
  CHECK(socket.Ended());
  CHECK(std::chrono::steady_clock::now() - start < 3s);
}

TEST_CASE("a peer that does not read its answer is dropped") {
  Rig rig;
  rig.options.write_deadline = 200ms;
  rig.handlers.handle = [](http::ServerRequest&&, std::unique_ptr<http::Responder> responder) {
    responder->Send({200, {}, std::string(64 << 20, 'x')});
  };
  RawSocket socket(rig.Start());
  socket.Send(Get("/big"));
  pollfd poll{socket.Fd(), 0, 0};  // POLLERR and POLLHUP come unasked.
  CHECK(::poll(&poll, 1, 5'000) == 1);
}

TEST_CASE("over the connection limit the longest idle one makes room") {
  Rig rig;
  rig.options.connection_limit = 3;
  const uint16_t port = rig.Start();
  std::vector<std::unique_ptr<RawSocket>> sockets;
  for (int i = 0; i < 3; ++i) {
    sockets.push_back(std::make_unique<RawSocket>(port));
    sockets.back()->Send(Get("/x"));
    CHECK_FALSE(sockets.back()->ReadFor("GET /x").empty());
  }
  sockets.front()->Send(Get("/again"));  // Now the second is idle for longest.
  CHECK_FALSE(sockets.front()->ReadFor("GET /again").empty());
  RawSocket fourth(port);
  fourth.Send(Get("/y"));
  CHECK(fourth.ReadFor("GET /y").find("200 OK") != std::string::npos);
  sockets[1]->ReadToEnd();
  CHECK(sockets[1]->Ended());
  for (const size_t kept : {0, 2}) {
    sockets[kept]->Send(Get("/z"));
    CHECK_FALSE(sockets[kept]->ReadFor("GET /z").empty());
  }
}

TEST_CASE("over the connection limit, with none idle, nobody is accepted until one leaves") {
  Rig rig;
  rig.options.connection_limit = 3;
  const uint16_t port = rig.Start();
  std::vector<std::unique_ptr<RawSocket>> sockets;
  for (int i = 0; i < 3; ++i) {
    sockets.push_back(std::make_unique<RawSocket>(port));
    sockets.back()->Send("GET /half HTTP/1.1\r\n");
  }
  RawSocket fourth(port);
  fourth.Send(Get("/y"));
  CHECK(fourth.ReadToEnd(200).empty());
  CHECK_FALSE(fourth.Ended());
  sockets.front().reset();
  CHECK(fourth.ReadFor("GET /y").find("200 OK") != std::string::npos);
}

TEST_CASE("out of descriptors the server pauses without spinning, and recovers") {
  Rig rig;
  const uint16_t port = rig.Start();
  base::LogInfo(
      "warming up");  // UBSan looks at a class for the first time with a descriptor of its own.
  rlimit old{};
  ::getrlimit(RLIMIT_NOFILE, &old);
  std::vector<std::unique_ptr<RawSocket>> sockets;
  RawSocket late(port);
  late.Send(Get("/late"));
  CHECK_FALSE(late.ReadFor("GET /late").empty());
  const int next = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  rlimit low = old;
  low.rlim_cur = static_cast<rlim_t>(next) + 1;
  ::close(next);
  ::setrlimit(RLIMIT_NOFILE, &low);
  RawSocket starved(port);  // Takes the last descriptor; the server has none left to accept with.
  rusage before{}, after{};
  ::getrusage(RUSAGE_SELF, &before);
  starved.Send(Get("/starved"));
  CHECK(starved.ReadToEnd(400).empty());
  ::getrusage(RUSAGE_SELF, &after);
  ::setrlimit(RLIMIT_NOFILE, &old);
  const auto spent = (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1'000'000 +
                     after.ru_stime.tv_usec - before.ru_stime.tv_usec +
                     (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1'000'000 +
                     after.ru_utime.tv_usec - before.ru_utime.tv_usec;
  CHECK(spent < 200'000);
  CHECK(starved.ReadFor("GET /starved").find("200 OK") != std::string::npos);
}

TEST_CASE(
    "over the in-flight limit workers' requests get 503 with Retry-After; inline ones are served") {
  Rig rig;
  rig.options.worker_threads = 1;
  rig.options.in_flight_limit = 2;
  std::mutex mutex;
  std::condition_variable changed;
  bool open = false;
  rig.handlers.handle = [&](http::ServerRequest&& request,
                            std::unique_ptr<http::Responder> responder) {
    if (request.request.target.starts_with("/worker")) {
      std::unique_lock lock(mutex);
      ++rig.handled;
      changed.wait(lock, [&] { return open; });
    }
    Rig::Echo(std::move(request), std::move(responder));
  };
  const uint16_t port = rig.Start();
  RawSocket first(port), second(port);
  first.Send(Get("/worker1"));
  REQUIRE(Eventually([&] { return rig.handled == 1; }));
  second.Send(Get("/worker2"));
  std::string refused;
  CHECK(Eventually([&] {  // The second is queued as soon as the server has read it.
    RawSocket third(port);
    third.Send("GET /worker3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    refused = third.ReadToEnd(200);
    return refused.starts_with("HTTP/1.1 503 ");
  }));
  CHECK(refused.find("Retry-After: 1\r\n") != std::string::npos);
  RawSocket inline_one(port);
  inline_one.Send(Get("/quick"));
  CHECK(inline_one.ReadFor("GET /quick").find("200 OK") != std::string::npos);
  {
    const std::lock_guard lock(mutex);
    open = true;
  }
  changed.notify_all();
  CHECK(first.ReadFor("GET /worker1").find("200 OK") != std::string::npos);
  CHECK(second.ReadFor("GET /worker2").find("200 OK") != std::string::npos);
}

TEST_CASE("a handler that throws or forgets to answer becomes 500") {
  Rig rig;
  rig.handlers.handle = [](http::ServerRequest&& request, std::unique_ptr<http::Responder>) {
    if (request.request.target.ends_with("throw")) throw std::runtime_error("no");
  };
  const uint16_t port = rig.Start();
  for (const std::string target : {"/throw", "/forget", "/worker/throw", "/worker/forget"}) {
    CAPTURE(target);
    RawSocket socket(port);
    socket.Send(Get(target));
    CHECK(socket.ReadFor("\r\n\r\n").starts_with("HTTP/1.1 500 "));
  }
}

TEST_CASE("an answer's headers cannot smuggle lines or framing") {
  Rig rig;
  rig.handlers.handle = [](http::ServerRequest&&, std::unique_ptr<http::Responder> responder) {
    responder->Send({200,
                     {{"X-Bad", "a\r\nSet-Cookie: b"},
                      {"Bad Name", "x"},
                      {"Content-Length", "99"},
                      {"X-Good", "c"}},
                     "body"});
  };
  RawSocket socket(rig.Start());
  socket.Send(Get("/"));
  const std::string answer = socket.ReadFor("body");
  CHECK(answer.find("Set-Cookie") == std::string::npos);
  CHECK(answer.find("Bad Name") == std::string::npos);
  CHECK(answer.find("Content-Length: 4\r\n") != std::string::npos);
  CHECK(answer.find("X-Good: c\r\n") != std::string::npos);
}

TEST_CASE("HEAD, 204 and 304 have no body and keep the connection in step") {
  Rig rig;
  rig.handlers.handle = [](http::ServerRequest&& request,
                           std::unique_ptr<http::Responder> responder) {
    const int status = request.request.target == "/204"   ? 204
                       : request.request.target == "/304" ? 304
                                                          : 200;
    responder->Send({status, {}, "body"});
  };
  RawSocket socket(rig.Start());
  socket.Send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + Get("/204") + Get("/304") + Get("/end"));
  const std::string answer = socket.ReadFor("body");
  CHECK(Count(answer, "HTTP/1.1 ") == 4);
  CHECK(Count(answer, "body") == 1);
  CHECK(Count(answer, "Content-Length: 4\r\n") == 2);
}

TEST_CASE("a range of a file is sent with its length, and the descriptor is closed") {
  const std::string path = "/tmp/wo_http_file_" + std::to_string(::getpid());
  {
    std::ofstream file(path);
    for (int i = 0; i < 100'000; ++i) file << "0123456789";
  }
  Rig rig;
  int fd = -1;
  rig.handlers.handle = [&](http::ServerRequest&& request,
                            std::unique_ptr<http::Responder> responder) {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (request.request.target == "/range")
      responder->SendFile({206, {}, {}}, fd, 5, 10);
    else if (request.request.target == "/short")
      responder->SendFile({200, {}, {}}, fd, 999'990, 100);
    else
      responder->SendFile({200, {}, {}}, fd, 0, 1'000'000);
  };
  const uint16_t port = rig.Start();
  RawSocket socket(port);
  socket.Send(Get("/range"));
  const std::string range = socket.ReadFor("5678901234");
  CHECK(range.starts_with("HTTP/1.1 206 Partial Content\r\n"));
  CHECK(range.ends_with("\r\n\r\n5678901234"));
  socket.Forget();
  socket.Send(Get("/all"));
  const std::string all = socket.ReadUntil(
      [](const std::string& got) { return got.size() > 1'000'000 && got.ends_with("789"); });
  CHECK(all.size() - all.find("\r\n\r\n") - 4 == 1'000'000);
  socket.Forget();
  socket.Send(Get("/short"));
  socket.ReadToEnd();
  CHECK(socket.Ended());  // A file that is shorter than promised cuts the connection.
  CHECK(Eventually([&] { return ::fcntl(fd, F_GETFD) == -1; }));
  std::filesystem::remove(path);
}

TEST_CASE("a handler that runs on after the grace of the stop is told of") {
  auto state = std::make_shared<std::pair<std::atomic<bool>, std::atomic<bool>>>();
  auto& [entered, release] = *state;
  for (const bool ends : {true, false}) {
    entered = release = false;
    http::Handlers handlers;
    handlers.handle = [state](http::ServerRequest&&, std::unique_ptr<http::Responder> responder) {
      state->first = true;
      support::Eventually([&] { return state->second.load(); });
      responder->Send({200, {}, ""});
    };
    auto server = *http::Server::Start({}, handlers);
    http_test::RawSocket peer(server->Port());
    REQUIRE(peer.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
    REQUIRE(support::Eventually([&] { return state->first.load(); }));
    if (ends) release = true;
    CHECK(server->Stop(ends ? base::Millis{10'000} : base::Millis{50}) == ends);
    CHECK(server->Stop(base::Millis{0}) == ends);  // Once and for all.
    release = true;
  }
}
