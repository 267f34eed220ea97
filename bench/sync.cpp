// From an empty cache to a full one through real sockets: http::Server with TLS in a process of its
// own, kube::Client and two informers here, as in the operator.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "app/cluster/kube_ports.hpp"
#include "app/informer_format.hpp"
#include "codec/resources.hpp"
#include "figure.hpp"
#include "http/client/client.hpp"
#include "http/server/server.hpp"
#include "http/tls.hpp"
#include "runtime/informer/informer.hpp"
#include "typical_fleet.hpp"

namespace {

using bench::TypicalFleet;

constexpr size_t kWorkspaceCount = 10'000;
constexpr size_t kPluginCount = kWorkspaceCount * TypicalFleet::kPluginsEach;

[[noreturn]] void Fail(const std::string& why) {
  fmt::print(stderr, "bench_sync: {}\n", why);
  std::_Exit(1);
}

/// Serves lists (in pages) and initial watch streams of prepared objects.
class FleetServer {
 public:
  FleetServer() {
    const TypicalFleet fleet;
    for (size_t i = 0; i < kWorkspaceCount; ++i) workspaces_.push_back(fleet.Workspace(i));
    for (size_t i = 0; i < kPluginCount; ++i) plugins_.push_back(fleet.DeclaredPlugin(i));
  }

  void Handle(http::ServerRequest&& in, std::unique_ptr<http::Responder> out) {
    const std::string& target = in.request.target;
    const auto& objects = target.find("/workspaces") != std::string::npos ? workspaces_ : plugins_;
    if (target.find("watch=") != std::string::npos)
      return Watch(objects, target.find("sendInitialEvents=true") != std::string::npos, *out);
    out->Send(Page(objects, Number(target, "limit="), Number(target, "continue=")));
  }

 private:
  static size_t Number(const std::string& target, std::string_view name) {
    const size_t at = target.find(name);
    size_t number = 0;
    if (at != std::string::npos)
      std::from_chars(target.data() + at + name.size(), target.data() + target.size(), number);
    return number;
  }

  static http::Response Page(const std::vector<std::string>& objects, size_t limit, size_t from) {
    const size_t end = limit == 0 ? objects.size() : std::min(objects.size(), from + limit);
    std::string body = R"({"apiVersion":"molecule.ai/v1alpha1","kind":"List","metadata":{)";
    if (end < objects.size()) body += fmt::format(R"("continue":"{}",)", end);
    body += R"("resourceVersion":"99000000"},"items":[)";
    for (size_t i = from; i < end; ++i) (body += i == from ? "" : ",") += objects[i];
    return {200, {{"Content-Type", "application/json"}}, body + "]}\n"};
  }

  void Watch(const std::vector<std::string>& objects, bool initial, http::Responder& out) {
    auto stream = out.StartStream({200, {{"Content-Type", "application/json"}}, ""}, 1u << 30);
    if (!stream) return;
    std::string bytes;
    for (size_t i = 0; initial && i < objects.size(); ++i) {
      bytes += TypicalFleet::WatchLine(objects[i], "ADDED") + "\n";
      if (bytes.size() < (64 << 10) && i + 1 < objects.size()) continue;
      stream->Write(std::move(bytes));
      bytes.clear();
    }
    if (initial)
      stream->Write(
          R"({"type":"BOOKMARK","object":{"kind":"Bookmark","apiVersion":"molecule.ai/v1alpha1",)"
          R"("metadata":{"resourceVersion":"99000000","annotations":{)"
          R"("k8s.io/initial-events-end":"true"}}}})"
          "\n");
    const std::lock_guard lock(mutex_);
    open_.push_back(std::move(stream));
  }

  std::vector<std::string> workspaces_, plugins_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<http::ResponseStream>> open_;
};

struct Address {
  pid_t server = -1;
  uint16_t port = 0;
};

[[noreturn]] void Serve(const http::CertificateAndKey& certificate, int report) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  static FleetServer fleet;
  http::Handlers handlers;
  handlers.handle = [](http::ServerRequest&& in, std::unique_ptr<http::Responder> out) {
    fleet.Handle(std::move(in), std::move(out));
  };
  http::ServerOptions options;
  options.tls = http::TlsMaterial{certificate.certificate_pem, certificate.private_key_pem, ""};
  auto server = http::Server::Start(options, handlers);
  if (!server) Fail(server.error().message);
  const uint16_t port = (*server)->Port();
  if (::write(report, &port, sizeof port) != sizeof port) std::_Exit(1);
  while (true) ::pause();
}

Address StartServer(const http::CertificateAndKey& certificate) {
  int ends[2];
  if (::pipe(ends) != 0) Fail("no pipe");
  Address address;
  address.server = ::fork();
  if (address.server < 0) Fail("no process");
  if (address.server == 0) Serve(certificate, ends[1]);
  ::close(ends[1]);
  if (::read(ends[0], &address.port, sizeof address.port) != sizeof address.port)
    Fail("the server did not start");
  ::close(ends[0]);
  return address;
}

void Sync(kube::Client& client, bool streaming, const bench::Figure& figure) {
  codec::StringInterner interner;
  const auto workspace_source = app::MakeListWatch(client, kube::kWorkspaces, "");
  const auto plugin_source = app::MakeListWatch(client, kube::kDeclaredPlugins, "");
  runtime::InformerOptions options;
  options.streaming = streaming;
  options.name = "workspaces";
  runtime::Informer<api::Workspace> workspaces(
      options,
      app::FormatOf<api::Workspace>(codec::DecodeWorkspace, codec::UnpackWorkspace, interner),
      *workspace_source);
  options.name = "declaredplugins";
  runtime::Informer<api::DeclaredPlugin> plugins(
      options,
      app::FormatOf<api::DeclaredPlugin>(codec::DecodeDeclaredPlugin, codec::UnpackDeclaredPlugin,
                                         interner),
      *plugin_source);
  const double begin = bench::SecondsOn(CLOCK_PROCESS_CPUTIME_ID);
  std::jthread first([&](std::stop_token stop) { (void)workspaces.Run(stop); });
  std::jthread second([&](std::stop_token stop) { (void)plugins.Run(stop); });
  for (auto synced : {workspaces.WaitForSync({}, base::Millis{60'000}),
                      plugins.WaitForSync({}, base::Millis{60'000})})
    if (!synced) Fail(synced.error().message);
  const double spent = bench::SecondsOn(CLOCK_PROCESS_CPUTIME_ID) - begin;
  if (workspaces.Cache().Size() != kWorkspaceCount || plugins.Cache().Size() != kPluginCount)
    Fail("the caches are not complete");
  bench::Figure measured = figure;
  measured.value = spent * 1e6 / static_cast<double>(kWorkspaceCount + kPluginCount);
  Print(measured);
}

}  // namespace

int main() {
  const auto authority = http::MakeCertificateAuthority("bench", base::Seconds{3600});
  if (!authority) Fail(authority.error().message);
  const auto certificate = http::MakeServingCertificate(*authority, "bench", {"localhost"},
                                                        {"127.0.0.1"}, base::Seconds{3600});
  if (!certificate) Fail(certificate.error().message);
  const Address server = StartServer(*certificate);
  http::InitialiseClientThreads(2);
  kube::ClientConfig config;
  config.server = fmt::format("https://127.0.0.1:{}", server.port);
  config.ca_pem = authority->certificate_pem;
  auto client = kube::Client::Create(config);
  if (!client) Fail(client.error().message);
  Sync(**client, true, {"socket to cache, initial stream over TLS, per object", 0, "us CPU", 18});
  Sync(**client, false, {"socket to cache, pages of 500 over TLS, per object", 0, "us CPU"});
  client->reset();
  ::kill(server.server, SIGKILL);
  ::waitpid(server.server, nullptr, 0);
}
