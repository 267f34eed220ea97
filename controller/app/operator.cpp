#include "app/operator.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "app/agent_keeper.hpp"
#include "app/build_info.hpp"
#include "app/cluster/access_review.hpp"
#include "app/cluster/kube_ports.hpp"
#include "app/cluster/pod_parts.hpp"
#include "app/endpoint_tls.hpp"
#include "app/first_passes.hpp"
#include "app/informer_format.hpp"
#include "app/leader_gate.hpp"
#include "app/operator_metrics.hpp"
#include "app/plugin_routes.hpp"
#include "app/settings/settings_file.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/program_files.hpp"
#include "box/box_factory.hpp"
#include "codec/packed_workspace.hpp"
#include "codec/resources.hpp"
#include "core/declared_set.hpp"
#include "http/server/server.hpp"
#include "reconcile/declared_plugin_reconciler.hpp"
#include "reconcile/executor.hpp"
#include "reconcile/workspace_reconciler.hpp"
#include "runtime/manager.hpp"
#include "runtime/metrics.hpp"
#include "server/operator_server.hpp"
#include "source/source_set.hpp"

namespace app {
namespace {

using runtime::ObjectEventKind;

/// What belongs together comes one after the other: a workspace is looked at once for all of it.
constexpr base::Millis kTogether{100};

std::string HostName() {
  char name[256] = "";
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

/// All parts of a running operator, in the order in which they need each other.
class Operator {
 public:
  explicit Operator(OperatorOptions options) : options_(std::move(options)) {}

  base::Status Run(std::stop_token stop) {
    for (auto step : {&Operator::OpenSettings, &Operator::OpenElection, &Operator::OpenClient,
                      &Operator::OpenSources})
      if (auto opened = (this->*step)(); !opened) return opened;
    MakeInformers();
    if (auto pods = MakePods(); !pods) return pods;
    MakeReconcilers();
    if (auto secured = OpenTls(stop); !secured) return secured;
    if (auto listening = Listen(); !listening) return listening;
    ConnectHandlers();
    AddParts();
    return manager_.Run(stop);
  }

 private:
  base::Status OpenSettings() {
    auto file = SettingsFile::Open(options_.settings_path, options_.defaults);
    if (!file) return std::move(file).error();
    settings_ = *std::move(file);
    base::OverrideLogLevel(settings_->Current()->log_level);
    return {};
  }

  kube::ClientOptions ClientOptions() {
    kube::ClientOptions client;
    client.user_agent = fmt::format("workspace-operator/{}", kVersion);
    client.observe = [this](const kube::RequestSample& sample) {
      rest_metrics_.Observe({sample.method, sample.host, sample.code,
                             static_cast<double>(sample.duration.count()) / 1000, sample.retry,
                             sample.request_bytes, sample.response_bytes});
    };
    if (election_) client.may_write = [this] { return election_->Elector().MayWrite(); };
    if (election_) client.write_lost = [this] { election_->NoteLostEffect(); };
    return client;
  }

  base::Status OpenElection() {
    if (!options_.election.on) return {};
    auto election = Election::Open(
        options_.election,
        {options_.api, ClientOptions(), &metrics_, [this] { return manager_.StoppedCleanly(); }});
    if (!election) return std::move(election).error();
    election_ = *std::move(election);
    return {};
  }

  base::Status OpenClient() {
    auto made = kube::Client::Create(options_.api, ClientOptions());
    if (!made) return std::move(made).error();
    client_ = *std::move(made);
    reviews_ = std::make_unique<Reviews>(*client_, clock_);
    event_sink_ = MakeEventSink(*client_);
    runtime::EventRecorderOptions events;
    events.reporting_controller = "molecule.ai/workspace-operator";
    events.reporting_instance = HostName();
    events.metrics = &metrics_;
    events_ = std::make_unique<runtime::EventRecorder>(events, *event_sink_);
    return {};
  }

  base::Result<std::shared_ptr<source::PluginSource>> MakeSource() {
    source::SourceSettings sources = settings_->Current()->sources;
    sources.work_directory = options_.data_dir + "/scratch";
    if (auto made = base::MakeDirectories(sources.work_directory, 0700); !made)
      return std::move(made).error();
    auto made = source::MakeSources(sources);
    if (!made) return std::move(made).error();
    return std::shared_ptr<source::PluginSource>(*std::move(made));
  }

  base::Status OpenSources() {
    const std::string folder = options_.data_dir + "/artifacts";
    if (auto made = base::MakeDirectories(folder, 0700); !made) return made;
    auto store = source::ArtifactStore::Open({.directory = folder});
    if (!store) return std::move(store).error();
    artifacts_ = *std::move(store);
    auto sources = MakeSource();
    if (!sources) return std::move(sources).error();
    lookup_ = std::make_unique<reconcile::SourceLookup>(*client_, clock_);
    resolver_ = std::make_unique<source::Resolver>(
        *sources, artifacts_, source::Resolver::Options{},
        [this](const std::string& key) { lookup_->OnChanged(key); });
    return {};
  }

  runtime::InformerOptions InformerFor(const char* name) {
    runtime::InformerOptions informer;
    informer.name = name;
    informer.resync = settings_->Current()->policy.resync;
    informer.metrics = &metrics_;
    return informer;
  }

  void MakeInformers() {
    workspace_source_ = MakeListWatch(*client_, kube::kWorkspaces, options_.ns);
    plugin_source_ = MakeListWatch(*client_, kube::kDeclaredPlugins, options_.ns);
    workspaces_ = std::make_unique<runtime::Informer<api::Workspace>>(
        InformerFor("workspaces"),
        FormatOf<api::Workspace>(codec::DecodeWorkspace, codec::UnpackWorkspace, interner_),
        *workspace_source_);
    plugins_ = std::make_unique<runtime::Informer<api::DeclaredPlugin>>(
        InformerFor("declaredplugins"),
        FormatOf<api::DeclaredPlugin>(codec::DecodeDeclaredPlugin, codec::UnpackDeclaredPlugin,
                                      interner_),
        *plugin_source_);
    fleet_ = std::make_unique<fleet::HeartbeatTable>(
        fleet::TableOptions{}, [this](const meta::ObjectKey& key) { Wake(key); });
  }

  base::Status MakePods() {
    if (!options_.pods || !ServesPods(*client_)) return {};
    auto pods = PodParts::Make(
        {.api = options_.api,
         .client = *client_,
         .reviews = *reviews_,
         .ns = options_.ns,
         .table = *fleet_,
         .find_workspace = [this](const meta::ObjectKey& key) { return workspaces_->Get(key); },
         .wake = [this](const meta::ObjectKey& key) { Wake(key); },
         .effect_lost = ClientOptions().write_lost,
         .informer = InformerFor("pods")});
    if (!pods) return std::move(pods).error();
    pods_ = *std::move(pods);
    return {};
  }

  box::BoxDependencies BoxNeeds() {
    box::BoxDependencies needs;
    const auto settings = settings_->Current();
    needs.request_restart = [this](const api::Workspace& workspace,
                                   const std::string& boot) -> base::Status {
      return reconcile::AskForRestart(*fleet_, workspace.meta.uid, boot);
    };
    needs.inventory =
        [this](
            const api::Workspace& workspace) -> std::optional<std::vector<bundle::InventoryItem>> {
      const auto slot = fleet_->Snapshot(workspace.meta.uid);
      if (!slot || !slot->last || !slot->last->inventory) return std::nullopt;
      std::vector<bundle::InventoryItem> items;
      for (const auto& item : *slot->last->inventory)
        items.push_back({item.name, item.revision, item.digest, item.loaded});
      return items;
    };
    needs.settings_file_by_runtime = settings->settings_file_by_runtime;
    needs.directory_roots = settings->directory_roots;
    needs.digest_cache = digest_cache_;
    if (pods_) needs.make_pod = pods_->Maker(*settings, tls_ ? tls_->Bundle() : "");
    return needs;
  }

  base::Result<std::unique_ptr<box::Box>> MakeBox(const api::Workspace& workspace) {
    auto made = box::MakeBox(workspace, BoxNeeds());
    if (!made) return made;
    return box::MakeMeteredBox(
        *std::move(made), [this](const box::BoxSample& sample) { CountBoxCall(metrics_, sample); });
  }

  void MakeReconcilers() {
    on_ = std::make_unique<reconcile::Dependencies>(reconcile::Dependencies{
        .client = *client_,
        .workspaces = *workspaces_,
        .plugins = *plugins_,
        .fleet = *fleet_,
        .sources = *lookup_,
        .artifacts = *artifacts_,
        .events = *events_,
        .downloads = downloads_,
        .make_box = [this](const api::Workspace& workspace) { return MakeBox(workspace); },
        .policy =
            [this] {
              const auto settings = settings_->Current();
              return std::shared_ptr<const core::Policy>(settings, &settings->policy);
            },
        .wake_declared = [this](const meta::ObjectKey& key,
                                base::Millis in) { plugin_controller_->Queue().AddAfter(key, in); },
        .resync = settings_->Current()->policy.resync,
        .slow_places = std::max(1, options_.workers / 2)});
    workspace_reconciler_ = std::make_unique<reconcile::WorkspaceReconciler>(*on_);
    plugin_reconciler_ = std::make_unique<reconcile::DeclaredPluginReconciler>(*on_);
    first_passes_ = std::make_unique<FirstPasses>(*workspace_reconciler_,
                                                  [this] { fleet_->TakeOver(clock_.Read()); });
    workspace_controller_ =
        std::make_unique<runtime::Controller>(ControllerOptionsFor("workspace"), *first_passes_);
    plugin_controller_ = std::make_unique<runtime::Controller>(
        ControllerOptionsFor("declaredplugin"), *plugin_reconciler_);
    lookup_->Connect(*resolver_, [this](const reconcile::Asker& asker, bool more) {
      auto& controller = asker.kind == reconcile::AskerKind::kWorkspace ? workspace_controller_
                                                                        : plugin_controller_;
      const auto gather = more ? settings_->Current()->policy.gather : kTogether;
      controller->Queue().AddAfter(asker.key, gather);
    });
    agents_ = std::make_unique<AgentKeeper>(base::OwnProgramPath(),
                                            [this] { return settings_->Current(); });
    scrapes_ = std::make_unique<ScrapeAccess>(*reviews_, clock_);
    own_metrics_ =
        AddOperatorMetrics(metrics_, {*workspaces_, *plugins_, *fleet_, *plugin_reconciler_,
                                      *artifacts_, *settings_, *reviews_, pods_.get()});
  }

  runtime::ControllerOptions ControllerOptionsFor(const char* name) {
    runtime::ControllerOptions controller;
    controller.name = name;
    controller.workers = options_.workers;
    controller.metrics = &metrics_;
    const auto settings = settings_->Current();
    controller.queue.backoff = {settings->policy.backoff_base, settings->policy.backoff_max, 1.0};
    controller.before = [this](const meta::ObjectKey&, const std::stop_token&) {
      return client_->MayWrite();
    };
    controller.wait_for = {
        {"workspaces", [this](std::stop_token stop) { return workspaces_->WaitForSync(stop); }},
        {"declaredplugins", [this](std::stop_token stop) { return plugins_->WaitForSync(stop); }}};
    return controller;
  }

  void Wake(const meta::ObjectKey& key) {
    if (leading_.IsOpen()) workspace_controller_->Queue().Add(key);
  }

  base::Status OpenTls(std::stop_token stop) {
    if (!options_.tls) return {};
    auto opened = EndpointTls::Open(options_.api, *options_.tls, options_.data_dir, metrics_, stop);
    if (!opened) return std::move(opened).error();
    tls_ = *std::move(opened);
    return {};
  }

  /// Which caches are not filled yet and why.
  std::optional<std::string> Unsynced() const {
    std::vector<std::string> all;
    const auto look = [&all](const char* name, const runtime::InformerStats& s) {
      if (!s.synced) all.push_back(fmt::format("{}: not synced yet: {}", name, s.last_error));
    };
    look("workspaces", workspaces_->Stats());
    look("declaredplugins", plugins_->Stats());
    if (pods_) look("pods", pods_->Stats());
    if (all.empty()) return std::nullopt;
    return fmt::format("{}", fmt::join(all, "; "));
  }

  base::Status Listen() {
    server::ServerPorts ports;
    ports.wake = [this](const meta::ObjectKey& key) { Wake(key); };
    if (pods_) ports.review = [this](std::string_view token) { return pods_->Consider(token); };
    ConnectPluginRoutes(ports, *on_, *reviews_);
    ports.metrics = [this] { return metrics_.Text(); };
    if (options_.metrics_authorization)
      ports.may_scrape = [this](const std::string& token) { return scrapes_->Check(token); };
    ports.build = {kVersion, kCommit, options_.mode};
    if (election_) {
      ports.leader.leadership = [this] { return election_->Who(); };
      ports.leader.spool_folder = options_.data_dir + "/scratch";
      ports.leader.client = [this](const std::string& url) {
        http::ClientOptions how{.base_url = url};
        if (tls_) how.ca_pem = tls_->Bundle();
        // All replicas serve under the same names; an address need not be one of them.
        if (tls_ && !options_.tls->names.empty()) how.server_name = options_.tls->names.front();
        return how;
      };
      ports.health = {{"leader-election", [this]() -> std::optional<std::string> {
                         const auto healthy = election_->Elector().Healthy();
                         return healthy ? std::nullopt : std::optional(healthy.error().message);
                       }}};
    }
    ports.ready = {{"informers", [this] { return Unsynced(); }},
                   {"api",
                    [this]() -> std::optional<std::string> {
                      const std::string problem = options_.not_ready ? options_.not_ready() : "";
                      return problem.empty() ? std::nullopt : std::optional(problem);
                    }},
                   // The old ones hold: no reason to take a working endpoint from the agents.
                   {"settings", [this] { return settings_->Problem(); }, true},
                   // Boxes that are no Pods report all the same.
                   {"reviews", [this] { return reviews_->Problem(); }, true}};
    routes_ = std::make_unique<server::OperatorServer>(*fleet_, clock_, std::move(ports));
    http::ServerOptions http;
    http.address = options_.address;
    http.connection_limit = static_cast<size_t>(options_.connections);
    http.port = options_.port != 0 ? options_.port : options_.preferred_port;
    if (tls_) http.tls = tls_->First();
    auto server = http::Server::Start(http, routes_->Handlers());
    if (!server && server.error().reason == "PortInUse" && options_.port == 0) {
      base::LogWarning("the HTTP port of the last start is taken; another one is used",
                       {{"port", std::to_string(http.port)}});
      http.port = 0;
      server = http::Server::Start(http, routes_->Handlers());
    }
    if (!server) return std::move(server).error();
    server_ = *std::move(server);
    const bool all = options_.address == "0.0.0.0" || options_.address == "::";
    url_ = UrlAt(all ? "127.0.0.1" : options_.address);
    agents_->SetUrl(url_, tls_ ? tls_->BundlePath() : "");
    return {};
  }

  std::string UrlAt(const std::string& address) const {
    return fmt::format("{}://{}:{}", tls_ ? "https" : "http", http::UrlHost(address),
                       server_->Port());
  }

  void ConnectHandlers() {
    workspaces_->OnSelfTrigger(
        [this](const meta::ObjectKey&) { workspace_controller_->CountSelfTrigger(); });
    plugins_->OnSelfTrigger(
        [this](const meta::ObjectKey&) { plugin_controller_->CountSelfTrigger(); });
    workspaces_->AddHandler([this](const runtime::ObjectEvent<api::Workspace>& event) {
      if (!leading_.IsOpen()) return;  // Lead() finds it in the cache.
      workspace_controller_->Queue().Add(event.key, event.WakePriority());
      if (event.kind == ObjectEventKind::kResync) return;
      if (event.kind == ObjectEventKind::kDeleted)
        agents_->Forget(*event.old_object);
      else
        agents_->Look(*event.object);
      for (const auto& key : reconcile::Concerned(*on_, event.old_object.get(), event.object.get()))
        plugin_controller_->Queue().Add(key);
    });
    plugins_->AddHandler([this](const runtime::ObjectEvent<api::DeclaredPlugin>& event) {
      if (!leading_.IsOpen()) return;
      plugin_controller_->Queue().Add(event.key, event.WakePriority());
      if (event.kind == ObjectEventKind::kResync) return;
      for (const auto& key : reconcile::Concerned(*on_, event.old_object.get(), event.object.get()))
        workspace_controller_->Queue().AddAfter(key, kTogether);
    });
  }

  /// In the order of the start; the stop goes backwards, so that the lease is given back last.
  void AddParts() {
    if (election_)
      manager_.Add({"leader-election",
                    [this](std::stop_token stop) { return election_->Elector().Run(stop); }});
    manager_.Add({"http", [this](std::stop_token stop) { return ServeUntil(stop); }});
    if (tls_)
      manager_.Add(
          {"certificate", [this](std::stop_token stop) { return tls_->Run(*server_, stop); }});
    manager_.Add({"settings", [this](std::stop_token stop) {
                    return settings_->Run([this] { OnSettings(); }, stop);
                  }});
    manager_.Add({"heartbeats", [this](std::stop_token stop) -> base::Status {
                    fleet_->Run(clock_, stop);
                    return {};
                  }});
    manager_.Add({"workspaces", [this](std::stop_token stop) { return workspaces_->Run(stop); },
                  [this](std::stop_token stop) { return workspaces_->WaitForSync(stop); }});
    manager_.Add({"declaredplugins", [this](std::stop_token stop) { return plugins_->Run(stop); },
                  [this](std::stop_token stop) { return plugins_->WaitForSync(stop); }});
    if (pods_) pods_->AddTo(manager_);
    // All of the above runs on every replica; what follows on the leader only.
    manager_.Add({"leadership", [](const std::stop_token&) { return base::Status{}; },
                  [this](std::stop_token stop) { return Lead(stop); }, runtime::kLongestDelay});
    manager_.Add({"events", [this](std::stop_token stop) { return events_->Run(stop); }});
    manager_.Add({"declaredplugin-controller",
                  [this](std::stop_token stop) { return plugin_controller_->Run(stop); }});
    manager_.Add({"workspace-controller",
                  [this](std::stop_token stop) { return workspace_controller_->Run(stop); },
                  [this](const std::stop_token&) -> base::Status {
                    if (options_.on_ready && !election_) options_.on_ready(UrlAt(options_.address));
                    return {};
                  }});
  }

  /// Waits for the lease with warm caches, then hands everything that is in them to the
  /// controllers: nothing is listed.
  base::Status Lead(std::stop_token stop) {
    if (election_) {
      if (options_.on_ready) options_.on_ready(UrlAt(options_.address));
      auto leading = election_->Lead(UrlAt(options_.address), *events_, stop);
      if (!leading) return leading;
    }
    leading_.Open([this] {
      const auto keys = workspaces_->Cache().Keys();
      first_passes_->Expect(keys);
      for (const auto& key : keys) workspace_controller_->Queue().Add(key, runtime::Priority::kLow);
      for (const auto& key : plugins_->Cache().Keys())
        plugin_controller_->Queue().Add(key, runtime::Priority::kLow);
      agents_->LookAtAll(workspaces_->Cache());
    });
    return {};
  }

  base::Status ServeUntil(std::stop_token stop) {
    runtime::SleepFor(clock_, runtime::kLongestDelay, stop);
    if (server_->Stop(base::Seconds{2})) return {};
    // They may write yet: the lease must not be given back.
    return base::MakeError(base::Code::kTimeout, "handlers did not end within 2 s of the stop");
  }

  void OnSettings() {
    base::OverrideLogLevel(settings_->Current()->log_level);
    auto sources = MakeSource();
    if (sources)
      resolver_->SetSource(*std::move(sources));
    else
      base::LogError("sources not taken from the settings", {{"error", sources.error().message}});
    if (!leading_.IsOpen()) return;
    agents_->LookAtAll(workspaces_->Cache());
    for (const auto& key : workspaces_->Cache().Keys())
      workspace_controller_->Queue().Add(key, runtime::Priority::kLow);
  }

  OperatorOptions options_;
  const base::SystemClock& clock_ = base::SystemClock::Get();
  runtime::Metrics metrics_;
  runtime::RestClientMetrics rest_metrics_{metrics_};
  runtime::Metrics::Collector process_metrics_ = runtime::AddProcessMetrics(metrics_);
  codec::StringInterner interner_;
  reconcile::DownloadTable downloads_;
  std::shared_ptr<bundle::DigestCache> digest_cache_ = std::make_shared<bundle::DigestCache>();
  std::unique_ptr<SettingsFile> settings_;
  std::unique_ptr<Election> election_;
  LeaderGate leading_;  ///< Open: controllers get what changes.
  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<Reviews> reviews_;
  std::unique_ptr<runtime::EventSink> event_sink_;
  std::unique_ptr<runtime::EventRecorder> events_;
  std::shared_ptr<source::ArtifactStore> artifacts_;
  std::unique_ptr<reconcile::SourceLookup> lookup_;
  std::unique_ptr<runtime::ListWatch> workspace_source_, plugin_source_;
  std::unique_ptr<runtime::Informer<api::Workspace>> workspaces_;
  std::unique_ptr<runtime::Informer<api::DeclaredPlugin>> plugins_;
  std::unique_ptr<fleet::HeartbeatTable> fleet_;
  std::unique_ptr<PodParts> pods_;  ///< Null: no Pod boxes.
  std::unique_ptr<reconcile::Dependencies> on_;
  std::unique_ptr<reconcile::WorkspaceReconciler> workspace_reconciler_;
  std::unique_ptr<reconcile::DeclaredPluginReconciler> plugin_reconciler_;
  std::unique_ptr<FirstPasses> first_passes_;
  std::unique_ptr<runtime::Controller> workspace_controller_, plugin_controller_;
  std::unique_ptr<AgentKeeper> agents_;
  std::unique_ptr<server::OperatorServer> routes_;
  std::unique_ptr<EndpointTls> tls_;
  std::unique_ptr<http::Server> server_;
  std::unique_ptr<source::Resolver> resolver_;  ///< Destroyed before what its wake-ups use.
  runtime::Metrics::Collector own_metrics_;
  std::unique_ptr<ScrapeAccess> scrapes_;
  runtime::Manager manager_{{.start_limit = options_.start_limit}};
  std::string url_;
};

}  // namespace

base::Status RunOperator(OperatorOptions options, std::stop_token stop) {
  auto running = std::make_unique<Operator>(std::move(options));
  base::Status ended = running->Run(std::move(stop));
  // Parts that did not stop in time still use all of this, until the process ends.
  if (!ended) static_cast<void>(running.release());
  return ended;
}

}  // namespace app
