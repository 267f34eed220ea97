#include "http/client/client.hpp"

#include <openssl/ssl.h>
#include <pplx/threadpool.h>
#include <pthread.h>
#include <signal.h>

#include <cstdlib>
#include <mutex>

#include "base/log.hpp"
#include "base/thread_name.hpp"
#include "http/client/client_call.hpp"
#include "http/client/client_tls.hpp"
#include "http/client/line_pool.hpp"
#include "http/client/stream_call.hpp"

namespace http {
namespace {

/// Longer than any call: the library's timer is an idle timer that also runs while we hold it back,
/// so ours do the work.
constexpr std::chrono::hours kLibraryTimeout{24 * 7};
constexpr int kDefaultThreads = 2;
/// Where the library is not used. Through a proxy: it loses 32 bytes with each tunnel that it gives
/// a password (2.10.18), and a refusal by the proxy becomes a connection that broke. To an IPv6
/// address: it looks it up as a name, brackets included.
constexpr int kDirectConnections = 16;

void InitialiseOnce(int threads) {
  static std::once_flag once;
  std::call_once(once, [&] {
    RememberSystemRoots();
    // The library parses the system's bundle for each connection (30 ms) before we replace the
    // store; an empty one costs nothing.
    ::setenv(X509_get_default_cert_file_env(), "/dev/null", 1);
    ::setenv(X509_get_default_cert_dir_env(), "/dev/null", 1);
    // Before the pool, so that at exit its threads are joined while OpenSSL can still free what it
    // keeps for them.
    OPENSSL_init_ssl(0, nullptr);
    ::signal(SIGPIPE, SIG_IGN);  // NOLINT: a peer that has left is an error value.
    // The pool's threads, and those that they start, inherit this: a SIGTERM that lands on one that
    // does not block it would end the program at once instead of stopping it in order.
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    char name[16] = {};
    ::pthread_getname_np(::pthread_self(), name, sizeof name);
    base::NameThread("http-client");  // They inherit it.
    try {
      crossplat::threadpool::initialize_with_threads(static_cast<size_t>(threads));
    } catch (const std::exception& error) {
      base::LogWarning("the HTTP client's threads are already running", {{"error", error.what()}});
    }
    base::NameThread(name);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  });
}

class CpprestClient final : public Client {
 public:
  CpprestClient(std::shared_ptr<web::http::client::http_client> client, DirectServer direct)
      : client_(std::move(client)), direct_(direct), streams_(std::move(direct)) {}

  base::Result<Response> Send(const Request& request, const CallOptions& call) override {
    const auto running = std::make_shared<ClientCall>(client_);
    if (direct_.name.empty()) return running->Run(request, call, direct_.response_limit);
    // The library takes the name to verify from the Host header.
    Request named = request;
    named.headers.emplace_back("Host", direct_.name);
    return running->Run(named, call, direct_.response_limit);
  }
  base::Result<Response> Stream(const Request& request, const CallOptions& call,
                                const BodySink& sink) override {
    return streams_.Run(request, call, sink);
  }

 private:
  const std::shared_ptr<web::http::client::http_client> client_;
  const DirectServer direct_;
  StreamCalls streams_;
};

class DirectClient final : public Client {
 public:
  DirectClient(DirectServer server, int connections)
      : lines_(server, connections), streams_(std::move(server)) {}

  base::Result<Response> Send(const Request& request, const CallOptions& call) override {
    return lines_.Send(request, call);
  }
  base::Result<Response> Stream(const Request& request, const CallOptions& call,
                                const BodySink& sink) override {
    return streams_.Run(request, call, sink);
  }

 private:
  LinePool lines_;
  StreamCalls streams_;
};

}  // namespace

void InitialiseClientThreads(int threads) { InitialiseOnce(threads < 1 ? 1 : threads); }

base::Result<std::unique_ptr<Client>> Client::Create(ClientOptions options) {
  InitialiseOnce(kDefaultThreads);
  const bool tls = options.base_url.starts_with("https://");
  if (!tls && !options.base_url.starts_with("http://"))
    return base::MakeError(base::Code::kInvalid,
                           "an HTTP client's URL must start with http:// or https://");
  web::http::client::http_client_config config;
  config.set_timeout(std::chrono::duration_cast<utility::seconds>(kLibraryTimeout));
  config.set_max_redirects(0);  // A redirect would carry our credentials elsewhere.
  config.set_validate_certificates(true);
  auto route = RouteTo(options.base_url, options.proxy_url);
  if (!route) return std::move(route).error();
  DirectServer direct{*std::move(route), options.server_name, nullptr, options.response_limit};
  if (tls) {
    auto settings = MakeClientTls(options);
    if (!settings) return settings.error();
    direct.tls = MakeClientContext(**settings);
    if (!direct.tls) return base::MakeError(base::Code::kInternal, "no TLS context for a client");
    config.set_ssl_context_callback([shared = *settings](boost::asio::ssl::context& context) {
      ApplyClientTls(*shared, context.native_handle());
    });
  }
  const int connections =
      options.own_connections > 0 ? options.own_connections : kDirectConnections;
  const bool ipv6 = direct.route.place.host.find(':') != std::string::npos;
  if (options.own_connections > 0 || direct.route.proxy || ipv6)
    return std::unique_ptr<Client>(std::make_unique<DirectClient>(std::move(direct), connections));
  try {
    auto client =
        std::make_shared<web::http::client::http_client>(web::uri(options.base_url), config);
    return std::unique_ptr<Client>(
        std::make_unique<CpprestClient>(std::move(client), std::move(direct)));
  } catch (const std::exception&) {
    return base::MakeError(base::Code::kInvalid, "malformed URL `" + options.base_url + "`");
  }
}

}  // namespace http
