#pragma once

#include <openssl/types.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "http/server/server.hpp"
#include "http/server/worker_pool.hpp"

namespace http {

/// What all connections of a server share. Outlives the server while a handler or a stream still
/// holds a connection.
struct ServerCore {
  ServerCore(ServerOptions o, Handlers h)
      : options(std::move(o)),
        handlers(std::move(h)),
        workers(options.worker_threads, options.in_flight_limit) {}

  /// False if `bytes` more of bodies would pass the limit.
  bool TakeBodyBytes(size_t bytes) {
    if (body_bytes.fetch_add(bytes) + bytes <= options.total_body_limit) return true;
    body_bytes.fetch_sub(bytes);
    return false;
  }
  void ConnectionClosed() {
    {
      const std::lock_guard lock(mutex);
      --connections;
    }
    changed.notify_all();
    if (resume_accepting) resume_accepting();
  }

  const ServerOptions options;
  const Handlers handlers;
  std::atomic<bool> stopping{false};
  std::atomic<size_t> body_bytes{0};
  std::function<void()> resume_accepting;  ///< Set before the first connection.
  std::mutex mutex;
  std::condition_variable changed;
  size_t connections = 0;        ///< By mutex.
  std::shared_ptr<SSL_CTX> tls;  ///< By mutex.
  WorkerPool workers;
};

}  // namespace http
