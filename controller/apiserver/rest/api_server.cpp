#include "apiserver/rest/api_server.hpp"

#include <fmt/format.h>

#include <utility>

#include "apiserver/authz/authz.hpp"
#include "apiserver/rest/credentials.hpp"
#include "apiserver/rest/housekeeper.hpp"
#include "apiserver/rest/object_writer.hpp"
#include "apiserver/rest/router.hpp"
#include "apiserver/wire/object_text.hpp"
#include "apiserver/wire/registry.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/sha256.hpp"
#include "http/server/server.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr base::Millis kStopGrace{5000};
constexpr const char* kManager = "workspace-operator-apiserver";

Json Condition(const char* type, const std::string& now) {
  return {{"type", type},
          {"status", "True"},
          {"lastTransitionTime", now},
          {"reason", type},
          {"message", "the definition is served"}};
}

/// A CRD as it is shown: with what a real server would have added.
Json ShownCrd(Json crd, const std::string& now) {
  const Json& spec = codec::GetMember(crd, "spec");
  Json versions = Json::array();
  for (const Json& version : codec::GetMember(spec, "versions"))
    versions.push_back(codec::GetString(version, "name"));
  crd["status"] = {
      {"conditions", Json::array({Condition("NamesAccepted", now), Condition("Established", now)})},
      {"acceptedNames", codec::GetMember(spec, "names")},
      {"storedVersions", versions}};
  Json& metadata = MutableMeta(crd);
  metadata["uid"] = base::RandomUuid();
  metadata["creationTimestamp"] = now;
  metadata["generation"] = 1;
  return crd;
}

}  // namespace

struct ApiServer::Impl {
  Impl(ApiServerOptions given, const base::Clock& time, Registry kinds)
      : options(std::move(given)), clock(time), registry(std::move(kinds)) {}

  base::Status Open();
  base::Status StoreDefinitions();
  base::Status StoreDefinition(const Json& crd);
  base::Status MakeNamespaces();
  base::Status Serve(const Credentials& credentials);
  base::Status WriteKubeconfigs(const Credentials& credentials);
  void Stop();

  const ApiServerOptions options;
  const base::Clock& clock;
  const Registry registry;
  TokenTable tokens;
  std::string url;
  std::unique_ptr<Store> store;
  std::unique_ptr<ObjectWriter> writer;
  std::unique_ptr<Housekeeper> housekeeper;
  std::unique_ptr<Router> router;
  std::unique_ptr<http::Server> server;
  bool stopped = false;
};

base::Result<std::unique_ptr<ApiServer>> ApiServer::Start(ApiServerOptions options,
                                                          const base::Clock& clock) {
  auto registry = Registry::Make(options.crds);
  if (!registry) return registry.error();
  auto impl = std::make_unique<Impl>(std::move(options), clock, std::move(*registry));
  if (auto opened = impl->Open(); !opened) {
    impl->Stop();
    return opened.error();
  }
  return std::unique_ptr<ApiServer>(new ApiServer(std::move(impl)));
}

base::Status ApiServer::Impl::Open() {
  for (const std::string& rule : registry.BrokenRules())
    base::LogWarning("a validation rule is not understood; it refuses the writes it guards",
                     {{"rule", rule}});
  StoreOptions store_options = options.store;
  store_options.data_dir = options.data_dir;
  auto opened = Store::Open(std::move(store_options));
  if (!opened) return opened.error();
  store = std::move(*opened);
  writer = std::make_unique<ObjectWriter>(*store, clock, options.event_ttl);
  if (auto made = StoreDefinitions(); !made) return made;
  if (auto made = MakeNamespaces(); !made) return made;
  Housekeeper::Options housekeeping;
  housekeeping.event_limit = options.event_limit;
  housekeeper = std::make_unique<Housekeeper>(*store, registry, *writer, clock, housekeeping);
  if (auto started = housekeeper->Start(); !started) return started;
  auto credentials = LoadOrMakeCredentials(options.data_dir, options.address, clock);
  if (!credentials) return credentials.error();
  const std::vector<std::string> masters = {std::string(kMasters)};
  if (auto added = tokens.Add(credentials->admin_token, {"admin", "", masters}, {}); !added)
    return added;
  if (auto added = tokens.Add(credentials->operator_token, {"molecule:operator", "", masters}, {});
      !added)
    return added;
  if (!options.tokens_file.empty()) {
    if (auto loaded = tokens.Load(options.tokens_file); !loaded) return loaded;
  }
  if (auto served = Serve(*credentials); !served) return served;
  return WriteKubeconfigs(*credentials);
}

base::Status ApiServer::Impl::StoreDefinitions() {
  for (const Json& crd : registry.Crds()) {
    if (auto stored = StoreDefinition(crd); !stored) return stored;
  }
  return {};
}

base::Status ApiServer::Impl::StoreDefinition(const Json& crd) {
  const StoreKey key{"customresourcedefinitions.apiextensions.k8s.io", "", NameOf(crd)};
  Json shown = ShownCrd(crd, base::FormatTime(clock.Read().wall));
  Write write;
  write.key = key;
  auto there = store->Get(key);
  if (there) {
    const Json old = ParseStored(there->text);
    if (codec::GetMember(old, "spec") == codec::GetMember(shown, "spec")) return {};
    for (const char* member : {"uid", "creationTimestamp"})
      MutableMeta(shown)[member] = codec::GetMember(MetaOf(old), member);
    MutableMeta(shown)["generation"] = codec::GetInt(MetaOf(old), "generation") + 1;
    write.kind = Write::Kind::kUpdate;
    write.expected_version = there->version;
  }
  write.uid = UidOf(shown);
  write.tail = TailFrom(shown);
  auto stored = store->Apply(std::move(write));
  return stored ? base::Status() : base::Status(stored.error());
}

base::Status ApiServer::Impl::MakeNamespaces() {
  const Served* served = registry.Find("", "v1", "namespaces");
  for (const std::string& name : options.namespaces) {
    if (store->Get({"namespaces", "", name})) continue;
    WriteRequest request;
    request.served = served;
    request.manager = FieldManager{kManager, "", clock.Read().wall};
    auto made = writer->Create(
        request, {{"apiVersion", "v1"}, {"kind", "Namespace"}, {"metadata", {{"name", name}}}});
    if (!made && made.failure().code != 409) {
      return base::MakeError(base::Code::kUnavailable,
                             fmt::format("namespace \"{}\" could not be made: {}", name,
                                         codec::GetString(made.failure().status, "message")));
    }
  }
  return {};
}

base::Status ApiServer::Impl::Serve(const Credentials& credentials) {
  RouterOptions routing;
  routing.address = options.address;
  routing.server_version = options.server_version;
  routing.reader.bookmark_period = options.bookmark_period;
  routing.reader.watch_buffer_limit = options.watch_buffer_limit;
  router = std::make_unique<Router>(*store, registry, tokens, *writer, clock, routing);
  http::ServerOptions serving;
  serving.address = options.address;
  serving.port = options.port;
  serving.tls = credentials.tls;
  serving.worker_threads = options.worker_threads;
  serving.body_limit = options.body_limit;
  serving.connection_limit = options.connection_limit;
  http::Handlers handlers;
  handlers.head_check = [this](const http::Request& head) { return router->CheckHead(head); };
  handlers.handle = [this](http::ServerRequest&& request,
                           std::unique_ptr<http::Responder> responder) {
    router->Handle(std::move(request), std::move(responder));
  };
  auto started = http::Server::Start(std::move(serving), std::move(handlers));
  if (!started) return started.error();
  server = std::move(*started);
  const std::string host = options.address == "0.0.0.0" ? "127.0.0.1"
                           : options.address == "::"    ? "127.0.0.1"
                                                        : options.address;
  url = fmt::format("https://{}:{}", http::UrlHost(host), server->Port());
  return {};
}

base::Status ApiServer::Impl::WriteKubeconfigs(const Credentials& credentials) {
  const std::string admin =
      EncodeKubeconfig({url, credentials.ca_pem, "admin", credentials.admin_token});
  const std::string own =
      EncodeKubeconfig({url, credentials.ca_pem, "operator", credentials.operator_token});
  if (auto written = base::WriteFileAtomic(options.data_dir + "/kubeconfig", admin, 0600); !written)
    return written;
  return base::WriteFileAtomic(options.data_dir + "/operator.kubeconfig", own, 0600);
}

void ApiServer::Impl::Stop() {
  if (stopped) return;
  stopped = true;
  if (housekeeper) housekeeper->Stop();
  if (store) store->Hub().Stop();  // Watches end orderly before their connections do.
  if (server) server->Stop(kStopGrace);
  if (store) store->Stop();
}

ApiServer::ApiServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ApiServer::~ApiServer() { Stop(); }
uint16_t ApiServer::Port() const { return impl_->server->Port(); }
const std::string& ApiServer::Url() const { return impl_->url; }
std::string ApiServer::KubeconfigPath() const { return impl_->options.data_dir + "/kubeconfig"; }
std::string ApiServer::OperatorKubeconfigPath() const {
  return impl_->options.data_dir + "/operator.kubeconfig";
}
std::vector<std::string> ApiServer::BrokenRules() const { return impl_->registry.BrokenRules(); }

std::string ApiServer::NotReady() const {
  const auto trouble = impl_->store->Trouble();
  return trouble ? trouble->message : std::string();
}

void ApiServer::Stop() { impl_->Stop(); }

}  // namespace apiserver
