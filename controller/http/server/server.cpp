#include "http/server/server.hpp"

#include <arpa/inet.h>
#include <errno.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <unordered_map>
#include <vector>

#include "base/log.hpp"
#include "http/server/connection.hpp"
#include "http/server/io_loop.hpp"
#include "http/server/server_core.hpp"
#include "http/server/server_tls.hpp"
#include "http/transport.hpp"

namespace http {
namespace {

constexpr base::Millis kLinger{1'000};
constexpr int kAcceptsPerWake = 64;

base::Result<sockaddr_storage> ParseAddress(const std::string& address, uint16_t port,
                                            socklen_t& length) {
  sockaddr_storage storage{};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (::inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    length = sizeof *v4;
    return storage;
  }
  if (::inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    length = sizeof *v6;
    return storage;
  }
  return base::MakeError(base::Code::kInvalid,
                         fmt::format("the listen address `{}` is not an IP address", address),
                         "BadAddress");
}

std::string PeerText(const sockaddr_storage& peer) {
  char text[INET6_ADDRSTRLEN] = {};
  if (peer.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&peer);
    // An IPv4 peer of a socket of both families.
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
      ::inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, text, sizeof text);
      return fmt::format("{}:{}", text, ntohs(v6->sin6_port));
    }
    ::inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    return fmt::format("[{}]:{}", text, ntohs(v6->sin6_port));
  }
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(&peer);
  ::inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
  return fmt::format("{}:{}", text, ntohs(v4->sin_port));
}

base::Error ListenError(int error, const ServerOptions& options) {
  const std::string where = fmt::format("{}:{}", UrlHost(options.address), options.port);
  if (error == EADDRINUSE)
    return base::MakeError(
        base::Code::kAlreadyExists,
        fmt::format("listening on {}: the port is in use; stop its owner or choose another", where),
        "PortInUse");
  if (error == EACCES)
    return base::MakeError(base::Code::kForbidden,
                           fmt::format("listening on {}: not allowed", where));
  return base::ErrnoError(error, "listening on " + where);
}

/// Whether a failure says that this machine has no IPv6 at all.
bool NoIpv6(int error) { return error == EAFNOSUPPORT || error == EADDRNOTAVAIL; }

base::Result<base::UniqueFd> Listen(const ServerOptions& options, uint16_t& port) {
  socklen_t length = 0;
  auto address = ParseAddress(options.address, options.port, length);
  if (!address) return address.error();
  base::UniqueFd fd(::socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const bool both = options.address == "::";
  const auto ipv4_alone = [&options, &port] {
    base::LogInfo("there is no IPv6 here: listening on 0.0.0.0 instead of ::");
    ServerOptions other = options;
    other.address = "0.0.0.0";
    return Listen(other, port);
  };
  if (!fd.Valid() && both && NoIpv6(errno)) return ipv4_alone();
  if (!fd.Valid()) return base::ErrnoError(errno, "making a socket");
  const int on = 1, off = 0;
  ::setsockopt(fd.Get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // Whatever the machine's default is (net.ipv6.bindv6only).
  if (both) ::setsockopt(fd.Get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  auto* generic = reinterpret_cast<sockaddr*>(&*address);
  const bool bound = ::bind(fd.Get(), generic, length) == 0;
  if (!bound && both && NoIpv6(errno)) return ipv4_alone();
  if (!bound || ::listen(fd.Get(), 1024) != 0) return ListenError(errno, options);
  if (::getsockname(fd.Get(), generic, &length) != 0)
    return base::ErrnoError(errno, "reading the port of a socket");
  port = ntohs(address->ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(generic)->sin6_port
                                              : reinterpret_cast<sockaddr_in*>(generic)->sin_port);
  return fd;
}

void PrepareSocket(int fd) {
  const int on = 1;
  const int idle_seconds = 30, interval_seconds = 10, probes = 3;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  // Finds peers that vanished while a stream is quiet.
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds, sizeof idle_seconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_seconds, sizeof interval_seconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

/// One loop and the connections that live on it (touched on the loop's thread only).
struct Shard {
  std::shared_ptr<IoLoop> loop;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections;
};

/// Accepts on the first loop and deals connections out to all loops in turn.
class Acceptor final : public Watched, public std::enable_shared_from_this<Acceptor> {
 public:
  Acceptor(base::UniqueFd fd, std::shared_ptr<ServerCore> core,
           std::vector<std::shared_ptr<Shard>> shards)
      : fd_(std::move(fd)),
        core_(std::move(core)),
        shards_(std::move(shards)),
        loop_(shards_.front()->loop) {}

  void Begin() {
    if (auto status = loop_->Add(fd_.Get(), EPOLLIN, this); !status)
      base::LogError("cannot accept connections", {{"error", status.error().message}});
  }
  void OnReady(uint32_t) override {
    for (int i = 0; i < kAcceptsPerWake; ++i)
      if (!AcceptOne()) return;
  }
  void OnDeadline() override { Resume(); }
  void Resume() {
    if (!paused_ || !fd_.Valid()) return;
    paused_ = false;
    loop_->Disarm(timer_);
    loop_->Modify(fd_.Get(), EPOLLIN, this);
  }
  void Close() {
    if (!fd_.Valid()) return;
    loop_->Disarm(timer_);
    loop_->Remove(fd_.Get());
    fd_.Reset();
  }

 private:
  /// A paused listener costs nothing; without the pause the loop would spin on a connection that it
  /// cannot take.
  void Pause(bool timed) {
    paused_ = true;
    loop_->Modify(fd_.Get(), 0, this);
    if (timed) loop_->Arm(timer_, Deadline::kLinger, this);
  }

  bool TakeSlot() {
    const std::lock_guard lock(core_->mutex);
    if (core_->connections >= core_->options.connection_limit) return false;
    ++core_->connections;
    return true;
  }

  bool AcceptOne() {
    if (!fd_.Valid()) return false;
    // Who has been idle for longest makes room: it can come back, whoever waits to be accepted
    // cannot.
    if (!TakeSlot() && !(loop_->ExpireFirst(Deadline::kIdle) && TakeSlot())) {
      Pause(false);
      // A connection may have closed between the look and the pause.
      const std::lock_guard lock(core_->mutex);
      if (core_->connections < core_->options.connection_limit)
        loop_->Post([self = shared_from_this()] { self->Resume(); });
      return false;
    }
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    base::UniqueFd fd(::accept4(fd_.Get(), reinterpret_cast<sockaddr*>(&peer), &length,
                                SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd.Valid()) {
      const int error = errno;
      ReturnSlot();
      if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
        base::LogWarning("accepting connections is paused", {{"error", std::strerror(error)}});
        Pause(true);
        return false;
      }
      return error == ECONNABORTED || error == EINTR;
    }
    PrepareSocket(fd.Get());
    HandOut(std::move(fd), PeerText(peer));
    return true;
  }

  void ReturnSlot() {
    const std::lock_guard lock(core_->mutex);
    --core_->connections;
  }

  void HandOut(base::UniqueFd fd, std::string peer) {
    std::shared_ptr<SSL_CTX> tls;
    {
      const std::lock_guard lock(core_->mutex);
      tls = core_->tls;
    }
    const auto shard = shards_[next_++ % shards_.size()];
    auto connection = std::make_shared<Connection>(
        core_, shard->loop, Connection::Accepted{std::move(fd), std::move(peer), std::move(tls)});
    const auto begin = [shard, connection, core = core_] {
      auto* raw = connection.get();
      const bool begun =
          !core->stopping && connection->Begin([table = shard.get()](Connection* closed) {
            table->connections.erase(closed);
          });
      if (begun)
        shard->connections.emplace(raw, connection);
      else
        core->ConnectionClosed();
    };
    if (shard->loop == loop_)
      begin();
    else
      shard->loop->Post(begin);
  }

  base::UniqueFd fd_;
  const std::shared_ptr<ServerCore> core_;
  const std::vector<std::shared_ptr<Shard>> shards_;
  const std::shared_ptr<IoLoop> loop_;
  IoLoop::TimerHandle timer_;
  size_t next_ = 0;
  bool paused_ = false;
};

class BeastServer final : public Server {
 public:
  BeastServer(std::shared_ptr<ServerCore> core, std::vector<std::shared_ptr<Shard>> shards,
              std::shared_ptr<Acceptor> acceptor, uint16_t port)
      : core_(std::move(core)),
        shards_(std::move(shards)),
        acceptor_(std::move(acceptor)),
        port_(port) {}
  ~BeastServer() override { (void)Stop(base::Millis{0}); }

  uint16_t Port() const override { return port_; }

  void ReplaceTls(const TlsMaterial& material) override {
    auto context = MakeServerContext(material);
    if (!context) {
      base::LogError("the new TLS material is refused; the old one stays",
                     {{"error", context.error().message}});
      return;
    }
    const std::lock_guard lock(core_->mutex);
    if (core_->tls) core_->tls = *std::move(context);
  }

  bool Stop(base::Millis grace) override {
    const std::lock_guard once(stop_mutex_);
    if (stopped_) return ended_;
    stopped_ = true;
    const base::MonoTime deadline = std::chrono::steady_clock::now() + grace;
    core_->stopping = true;
    shards_.front()->loop->Post([acceptor = acceptor_] { acceptor->Close(); });
    for (const auto& shard : shards_)
      shard->loop->Post([shard] { ForEach(*shard, &Connection::Drain); });
    {
      std::unique_lock lock(core_->mutex);
      core_->changed.wait_until(lock, deadline, [&] { return core_->connections == 0; });
    }
    for (const auto& shard : shards_)
      shard->loop->Post([shard] { ForEach(*shard, &Connection::Close); });
    ended_ = core_->workers.Stop(deadline + base::Millis{100});
    if (!ended_)
      base::LogError("HTTP handlers still run after the grace period; they are left behind");
    for (const auto& shard : shards_) shard->loop->Stop();
    return ended_;
  }

 private:
  static void ForEach(Shard& shard, void (Connection::*act)()) {
    std::vector<std::shared_ptr<Connection>> all;
    all.reserve(shard.connections.size());
    for (const auto& [raw, connection] : shard.connections) all.push_back(connection);
    for (const auto& connection : all) (connection.get()->*act)();
  }

  const std::shared_ptr<ServerCore> core_;
  const std::vector<std::shared_ptr<Shard>> shards_;
  const std::shared_ptr<Acceptor> acceptor_;
  const uint16_t port_;
  std::mutex stop_mutex_;
  bool stopped_ = false;
  bool ended_ = true;  ///< No handler was left behind.
};

base::Status CheckOptions(const ServerOptions& options, const Handlers& handlers) {
  if (!handlers.handle)
    return base::MakeError(base::Code::kInvalid, "an HTTP server needs a handler");
  if (options.io_threads < 1 || options.io_threads > 64 || options.worker_threads < 1 ||
      options.worker_threads > 1024)
    return base::MakeError(base::Code::kInvalid,
                           "an HTTP server needs 1 to 64 I/O threads and 1 to 1024 workers");
  if (options.header_limit < 256 || options.header_limit > (1 << 20) ||
      options.connection_limit < 1)
    return base::MakeError(
        base::Code::kInvalid,
        "an HTTP server's header limit is 256 B to 1 MiB, its connection limit at least 1");
  return {};
}

}  // namespace

base::Result<std::unique_ptr<Server>> Server::Start(ServerOptions options, Handlers handlers) {
  if (auto status = CheckOptions(options, handlers); !status) return status.error();
  std::shared_ptr<SSL_CTX> tls;
  if (options.tls) {
    auto context = MakeServerContext(*options.tls);
    if (!context) return context.error();
    tls = *std::move(context);
    options.tls->private_key_pem.clear();
  }
  uint16_t port = 0;
  auto listener = Listen(options, port);
  if (!listener) return listener.error();
  const IoLoop::Durations durations{options.header_deadline, options.body_deadline,
                                    options.idle_deadline, options.write_deadline, kLinger};
  std::vector<std::shared_ptr<Shard>> shards;
  for (int i = 0; i < options.io_threads; ++i) {
    auto loop = IoLoop::Start(durations);
    if (!loop) return loop.error();
    auto shard = std::make_shared<Shard>();
    shard->loop = *std::move(loop);
    shards.push_back(std::move(shard));
  }
  auto core = std::make_shared<ServerCore>(std::move(options), std::move(handlers));
  core->tls = std::move(tls);
  auto acceptor = std::make_shared<Acceptor>(*std::move(listener), core, shards);
  // Weak: the core must not keep the acceptor that keeps the core.
  core->resume_accepting = [weak = std::weak_ptr(acceptor), loop = shards.front()->loop] {
    loop->Post([weak] {
      if (const auto self = weak.lock()) self->Resume();
    });
  };
  shards.front()->loop->Post([acceptor] { acceptor->Begin(); });
  return std::unique_ptr<Server>(
      std::make_unique<BeastServer>(std::move(core), std::move(shards), std::move(acceptor), port));
}

}  // namespace http
