// What a heartbeat costs the operator: the real routes, table and HTTP server in a process of their
// own, 100,000 workspaces with a token each, 64 kept connections, and a generator here that sends
// the next beat of a connection when the last one is answered.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <thread>

#include "base/sha256.hpp"
#include "figure.hpp"
#include "fleet/heartbeat_table.hpp"
#include "http/pem.hpp"
#include "http/server/server.hpp"
#include "http/tls.hpp"
#include "http/transport.hpp"
#include "server/operator_server.hpp"
#include "typical_fleet.hpp"

namespace {

/// Shared by the two processes.
struct Counters {
  std::atomic<uint64_t> allocations;
  std::atomic<uint64_t> wakes;
};
Counters* counters = nullptr;
bool counting = false;  ///< True in the server's process.

void CountAllocation() {
  if (counting) counters->allocations.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

// Every allocation counts, OpenSSL's too: the C library's own functions are wrapped.
extern "C" {
void* __libc_malloc(size_t);          // NOLINT: glibc's names
void* __libc_calloc(size_t, size_t);  // NOLINT
void* __libc_realloc(void*, size_t);  // NOLINT
void* malloc(size_t size) {
  CountAllocation();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  CountAllocation();
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) {
  CountAllocation();
  return __libc_realloc(old, size);
}
}

namespace {

using bench::Print;

constexpr size_t kWorkspaces = 99'968;  ///< About 100,000: the connections' shares are equal.
constexpr size_t kConnections = 64;
constexpr size_t kShare = kWorkspaces / kConnections;  ///< Workspaces of a connection.
constexpr size_t kRounds = 3;                          ///< Measured; before that, one.

[[noreturn]] void Fail(const std::string& why) {
  fmt::print(stderr, "bench_heartbeat: {}\n", why);
  std::_Exit(1);
}

std::string TokenOf(size_t workspace) { return bench::HexOf(workspace + 7'000'000, 43); }
std::string UidOf(size_t workspace) { return bench::UidOf(workspace); }
std::string DigestOf(size_t seed) { return "sha256:" + bench::HexOf(seed, 64); }

fleet::AnswerParts AnswerOf(const std::string& uid, size_t workspace) {
  fleet::AnswerParts answer;
  answer.state = answer.reason = "Online";
  answer.message = "the agent reports";
  answer.plugins_known = true;
  for (size_t i = 0; i < 5; ++i) {
    const std::string name = fmt::format("plugin-{}", (workspace + i * 401) % 2000);
    answer.plugins.push_back({name, bench::HexOf(workspace % 2000, 40), DigestOf(workspace % 2000),
                              fmt::format("/workspaces/{}/plugins/{}/download", uid, name),
                              fmt::format("gitea://plugins/{}#tag:v1.0.0", name)});
  }
  return answer;
}

double ResidentBytes(pid_t pid) {
  long pages = 0;
  if (FILE* file = std::fopen(fmt::format("/proc/{}/statm", pid).c_str(), "r")) {
    if (std::fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return static_cast<double>(pages) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

/// What the server says when it listens.
struct Started {
  uint16_t port = 0;
  uint16_t tls_port = 0;
  double resident_empty = 0;  ///< Bytes, before it knew any workspace.
};

/// An authority, and the certificate of a server on 127.0.0.1.
struct Certificates {
  http::CertificateAndKey authority;
  http::CertificateAndKey server;
};

Certificates MakeCertificates() {
  const auto authority = http::MakeCertificateAuthority("bench", base::Seconds{3600});
  if (!authority) Fail(authority.error().message);
  const auto server =
      http::MakeServingCertificate(*authority, "bench", {}, {"127.0.0.1"}, base::Seconds{3600});
  if (!server) Fail(server.error().message);
  return {*authority, *server};
}

std::shared_ptr<SSL_CTX> ClientContext(const Certificates& certificates) {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
  for (const auto& root : http::ReadCertificates(certificates.authority.certificate_pem))
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), root.get());
  return context;
}

[[noreturn]] void Serve(const Certificates& certificates, int report) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Started started;
  started.resident_empty = ResidentBytes(::getpid());
  const base::Clock& clock = base::SystemClock::Get();
  static fleet::HeartbeatTable table({}, nullptr);
  for (size_t i = 0; i < kWorkspaces; ++i) {
    fleet::SlotSettings slot;
    slot.uid = UidOf(i);
    slot.key = {fmt::format("team-{}", i / 50), fmt::format("workspace-{:06}", i)};
    slot.token_hash = base::Sha256Of(TokenOf(i));
    table.Upsert(slot, clock.Read());
    table.SetAnswer(slot.uid, AnswerOf(slot.uid, i));
  }
  table.TakeOver(clock.Read());
  server::ServerPorts ports;
  ports.wake = [](const meta::ObjectKey&) { counters->wakes.fetch_add(1); };
  static server::OperatorServer routes(table, clock, std::move(ports));
  auto server = http::Server::Start({}, routes.Handlers());
  if (!server) Fail(server.error().message);
  static std::jthread expiry([&](std::stop_token stop) { table.Run(clock, stop); });
  http::ServerOptions with_tls;
  with_tls.tls = http::TlsMaterial{certificates.server.certificate_pem,
                                   certificates.server.private_key_pem, ""};
  auto tls_server = http::Server::Start(with_tls, routes.Handlers());
  if (!tls_server) Fail(tls_server.error().message);
  started.port = (*server)->Port();
  started.tls_port = (*tls_server)->Port();
  counting = true;
  if (::write(report, &started, sizeof started) != sizeof started) std::_Exit(1);
  while (true) ::pause();
}

/// The beat `round` of a workspace. Only the first names the inventory, and the later ones the
/// answer that is held, as agents do.
std::string Beat(size_t workspace, size_t round, const std::string& tag) {
  std::string inventory;
  for (size_t i = 0; round == 0 && i < 5; ++i)
    inventory +=
        fmt::format(R"({}{{"name":"plugin-{}","revision":"{}","digest":"{}","loaded":true}})",
                    i == 0 ? "" : ",", (workspace + i * 401) % 2000,
                    bench::HexOf(workspace % 2000, 40), DigestOf(workspace % 2000));
  if (round == 0) inventory = fmt::format(R"("inventory":[{}],)", inventory);
  const std::string body = fmt::format(
      R"({{"workspace":"{}","bootID":"{}","sequence":{},"time":"2026-11-21T10:34:13Z",)"
      R"("agentVersion":"0.1.0","runtime":"claude-code","activeTasks":1,)"
      R"("currentTask":"issue {}: read the report and answer","errorRate":0.{:02},)"
      R"("uptimeSeconds":{},"monthlySpend":{}.{:02},"managementPresent":true,"modelPresent":true,{})"
      R"("inventoryDigest":"{}"{}}})",
      UidOf(workspace), bench::UidOf(workspace + 500'000), round, workspace * 31 + round,
      (workspace + round) % 30, 3600 + round * 30, workspace % 90, (workspace + round * 7) % 100,
      inventory, DigestOf(workspace), tag.empty() ? "" : fmt::format(R"(,"answerTag":"{}")", tag));
  return fmt::format(
      "POST /registry/heartbeat HTTP/1.1\r\nHost: operator:8080\r\nAuthorization: Bearer {}\r\n"
      "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
      TokenOf(workspace), body.size(), body);
}

struct Connection {
  std::unique_ptr<http::Transport> transport;
  size_t workspace = 0;  ///< The next one.
  size_t asked = 0;      ///< The one whose answer is to come.
  size_t round = 0;
  size_t left = 0;  ///< Beats of this run that are not sent yet.
  std::string in;
};

/// Keeps all connections busy until a number of beats is answered.
class Generator {
 public:
  /// `round`: of the first beats; higher than those of a generator before this one.
  Generator(uint16_t port, SSL_CTX* tls, size_t round)
      : epoll_(::epoll_create1(0)), connections_(kConnections), tags_(kWorkspaces) {
    for (size_t i = 0; i < kConnections; ++i) {
      Connection& connection = connections_[i];
      connection.workspace = i;
      connection.round = round;
      connection.transport =
          std::make_unique<http::Transport>(base::UniqueFd(Connect(port)), tls, "127.0.0.1");
      if (tls != nullptr && connection.transport->Handshake() != http::Transport::Io::kOk)
        Fail("no TLS");
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.u64 = i;
      if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.transport->Fd(), &event) != 0)
        Fail("no epoll");
    }
  }

  /// Sends `each` beats on each connection, the next one when the last is answered; returns when
  /// all are answered.
  void Run(size_t each) {
    for (Connection& connection : connections_) {
      connection.left = each - 1;
      Send(connection);
    }
    size_t busy = connections_.size();
    while (busy > 0) {
      epoll_event events[kConnections];
      const int ready = ::epoll_wait(epoll_, events, kConnections, 10'000);
      if (ready <= 0) Fail("no answer for 10 s");
      for (int i = 0; i < ready; ++i) {
        Connection& connection = connections_[events[i].data.u64];
        if (!TakeAnswer(connection)) continue;
        if (connection.left == 0) {
          --busy;
          continue;
        }
        --connection.left;
        Send(connection);
      }
    }
  }
  /// Whether beats name the answer that is held (our agent does).
  void NameAnswers(bool name) { name_answers_ = name; }
  size_t BodyBytes() const { return body_bytes_; }
  size_t AnswerBytes() const { return answer_bytes_; }

 private:
  static int Connect(uint16_t port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      Fail("cannot connect");
    const int one = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
  }

  /// Each connection takes its turn through its share of the workspaces.
  void Send(Connection& connection) {
    const std::string bytes = Beat(connection.workspace, connection.round,
                                   name_answers_ ? tags_[connection.workspace] : std::string());
    connection.asked = connection.workspace;
    body_bytes_ = bytes.size() - bytes.find("\r\n\r\n") - 4;
    if (connection.transport->Send(bytes).bytes != bytes.size()) Fail("cannot send");
    connection.workspace += kConnections;
    if (connection.workspace < kWorkspaces) return;
    connection.workspace %= kConnections;
    ++connection.round;
  }

  bool TakeAnswer(Connection& connection) {
    char buffer[16 << 10];
    const auto [io, got] = connection.transport->Receive(buffer, sizeof buffer);
    if (io != http::Transport::Io::kOk) Fail("the server closed a connection");
    connection.in.append(buffer, got);
    const size_t head = connection.in.find("\r\n\r\n");
    if (head == std::string::npos) return false;
    if (!connection.in.starts_with("HTTP/1.1 200")) Fail("refused: " + connection.in);
    constexpr std::string_view kLength = "Content-Length: ";
    const size_t at = connection.in.find(kLength);
    size_t length = 0;
    if (at < head)
      std::from_chars(connection.in.data() + at + kLength.size(), connection.in.data() + head,
                      length);
    if (connection.in.size() < head + 4 + length) return false;
    answer_bytes_ = length;
    constexpr std::string_view kTag = R"("answerTag":")";
    if (const size_t tag = connection.in.find(kTag, head); tag != std::string::npos)
      tags_[connection.asked] = connection.in.substr(tag + kTag.size(), 16);
    connection.in.clear();
    return true;
  }

  int epoll_;
  std::vector<Connection> connections_;
  std::vector<std::string> tags_;  ///< Of the answers that the workspaces hold.
  bool name_answers_ = true;
  size_t body_bytes_ = 0;
  size_t answer_bytes_ = 0;
};

void MeasureTls(clockid_t cpu, const Started& started, const Certificates& certificates) {
  const auto context = ClientContext(certificates);
  Generator generator(started.tls_port, context.get(), 2 * (kRounds + 2));
  generator.Run(kShare);
  const double begin = bench::SecondsOn(cpu);
  const uint64_t allocations = counters->allocations;
  generator.Run(kShare * kRounds);
  constexpr double kBeats = kWorkspaces * kRounds;
  Print(
      {"heartbeat over TLS, server", (bench::SecondsOn(cpu) - begin) * 1e6 / kBeats, "us CPU", 13});
  Print({"heartbeat over TLS, allocations",
         static_cast<double>(counters->allocations - allocations) / kBeats, "count"});
}

void Measure(pid_t server, const Started& started, const Certificates& certificates) {
  clockid_t cpu{};
  if (::clock_getcpuclockid(server, &cpu) != 0) Fail("no CPU clock of the server");
  Generator generator(started.port, nullptr, 0);
  generator.Run(kShare);
  Print({"resident per workspace that reports (slot, last report, answer)",
         (ResidentBytes(server) - started.resident_empty) / kWorkspaces, "B"});
  constexpr double kBeats = kWorkspaces * kRounds;
  const double begin = bench::SecondsOn(cpu), wall = bench::SecondsOn(CLOCK_MONOTONIC);
  const uint64_t allocations = counters->allocations, wakes = counters->wakes;
  generator.Run(kShare * kRounds);
  const double spent = bench::SecondsOn(cpu) - begin;
  const double passed = bench::SecondsOn(CLOCK_MONOTONIC) - wall;
  Print({fmt::format("heartbeat, token and JSON ({} B in, {} B out), server", generator.BodyBytes(),
                     generator.AnswerBytes()),
         spent * 1e6 / kBeats, "us CPU", 10});
  Print({"heartbeat, allocations",
         static_cast<double>(counters->allocations - allocations) / kBeats, "count"});
  Print({"heartbeat, passes of a reconciler woken per 1,000",
         static_cast<double>(counters->wakes - wakes) * 1000 / kBeats, "count", 1});
  Print({"heartbeats answered, one I/O thread, generator beside it", kBeats / passed, "1/s",
         std::nullopt, "higher"});
  generator.NameAnswers(false);
  const double whole = bench::SecondsOn(cpu);
  generator.Run(kShare);
  Print({fmt::format("heartbeat of an agent that keeps no answers ({} B out)",
                     generator.AnswerBytes()),
         (bench::SecondsOn(cpu) - whole) * 1e6 / kWorkspaces, "us CPU"});
  MeasureTls(cpu, started, certificates);
}

}  // namespace

int main() {
  void* shared =
      ::mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) Fail("no shared memory");
  counters = new (shared) Counters{};
  const Certificates certificates = MakeCertificates();
  int ends[2];
  if (::pipe(ends) != 0) Fail("no pipe");
  const pid_t server = ::fork();
  if (server < 0) Fail("no process");
  if (server == 0) Serve(certificates, ends[1]);
  ::close(ends[1]);
  Started started;
  if (::read(ends[0], &started, sizeof started) != sizeof started) Fail("the server did not start");
  Measure(server, started, certificates);
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
}
