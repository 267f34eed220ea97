#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "app/first_passes.hpp"
#include "app/informer_format.hpp"
#include "box/box_factory.hpp"
#include "codec/resources.hpp"
#include "reconcile/declared_plugin_reconciler.hpp"
#include "reconcile/executor.hpp"
#include "reconcile/simulation/api_client.hpp"
#include "reconcile/simulation/machine_box.hpp"
#include "reconcile/simulation/watch_source.hpp"
#include "reconcile/workspace_reconciler.hpp"
#include "runtime/event_recorder.hpp"
#include "runtime/work_queue.hpp"
#include "source/resolver.hpp"

namespace simulation {

/// A work queue whose deadlines are known, and what becomes of a pass (the table of
/// runtime::Controller, without its threads).
class Line {
 public:
  Line(std::string name, uint64_t seed, const support::FakeClock& clock)
      : name_(std::move(name)), clock_(clock), queue_(Options(name_, seed, clock)) {}

  const std::string& Name() const { return name_; }
  bool Ready() const { return queue_.Stats().ready > 0; }
  std::optional<base::MonoTime> NextDeadline() {
    deadlines_.erase(deadlines_.begin(), deadlines_.upper_bound(clock_.Read().mono));
    return deadlines_.empty() ? std::nullopt : std::optional(*deadlines_.begin());
  }
  void Add(const meta::ObjectKey& key, runtime::Priority priority = runtime::Priority::kNormal) {
    queue_.Add(key, priority);
  }
  void AddAfter(const meta::ObjectKey& key, base::Millis delay,
                runtime::Priority priority = runtime::Priority::kNormal) {
    queue_.AddAfter(key, delay, priority);
    deadlines_.insert(clock_.Read().mono + delay);
  }
  void RunOne(runtime::Reconciler& reconciler, Trace& trace) {
    const auto key = queue_.TryGet();
    if (!key) return;
    trace.Step(fmt::format("{} pass of {}", name_, key->Text()));
    Settle(*key, reconciler.Reconcile(*key, {}), trace);
    queue_.Done(*key);
  }

 private:
  static runtime::WorkQueueOptions Options(const std::string& name, uint64_t seed,
                                           const support::FakeClock& clock) {
    runtime::WorkQueueOptions options;
    options.name = name;
    options.clock = &clock;
    options.jitter_seed = seed | 1;
    return options;
  }
  void Settle(const meta::ObjectKey& key, const base::Result<runtime::Requeue>& result,
              Trace& trace) {
    if (result) {
      queue_.Forget(key);
      if (result->after) AddAfter(key, *result->after, result->priority);
      trace.Note(result->after ? fmt::format("again in {} ms", result->after->count()) : "done");
      return;
    }
    const base::Error& error = result.error();
    trace.Note(fmt::format("failed: {} {}", base::CodeName(error.code), error.message));
    if (error.code == base::Code::kInvalid) return queue_.Forget(key);
    if (error.code == base::Code::kCancelled) return;
    const auto delay = queue_.AddRateLimited(key, error.retry_after.value_or(base::Millis{}));
    deadlines_.insert(clock_.Read().mono + delay);
  }

  const std::string name_;
  const support::FakeClock& clock_;
  runtime::WorkQueue queue_;
  std::multiset<base::MonoTime> deadlines_;
};

/// An informer and its thread; see WatchSource for who runs when.
template <typename T>
class Follower {
 public:
  Follower(const char* plural, ApiStore& store, runtime::InformerFormat<T> format,
           const support::FakeClock& clock)
      : source_(store, plural),
        clock_(clock, source_),
        informer_(Options(plural, clock_), std::move(format), source_) {}
  ~Follower() {
    thread_.request_stop();
    source_.Quit();
  }
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;

  void Start() {
    thread_ = std::jthread([this](const std::stop_token& stop) {
      clock_.IAmTheInformer();
      (void)informer_.Run(stop);
    });
    source_.Begin();
  }
  runtime::Informer<T>& Get() { return informer_; }
  WatchSource& Source() { return source_; }

 private:
  /// Resyncs and broken watches are steps.
  static runtime::InformerOptions Options(const char* plural, const base::Clock& clock) {
    runtime::InformerOptions options;
    options.name = plural;
    options.resync = base::Millis{0};
    options.liveness = options.marker_limit = runtime::kLongestDelay;
    options.clock = &clock;
    options.jitter_seed = 1;
    return options;
  }

  WatchSource source_;
  InformerClock clock_;
  runtime::Informer<T> informer_;
  std::jthread thread_;
};

/// What lives longer than a process of the operator.
struct Surroundings {
  support::FakeClock& clock;
  Trace& trace;
  Weather& weather;
  ApiStore& store;
  std::shared_ptr<source::PluginSource> repositories;
  std::map<std::string, std::unique_ptr<Machine>>& machines;  ///< By the workspace's name.
  std::shared_ptr<const core::Policy> policy;
  /// Something in the box of that workspace is changed by an operator.
  std::function<void(const std::string& workspace, const std::vector<std::string>& names)> witness;
  std::function<base::Status()> provide = nullptr;  ///< Makes a box, as for a managed Pod.
};

/// One process of the operator: everything that a crash takes with it, wired as app/operator.cpp
/// does it.
class Process {
 public:
  static constexpr base::Millis kTogether{100};

  /// One that stands by: its informers follow the API, and nothing else happens until Lead.
  /// `artifact_folder` is its own disk.
  Process(const Surroundings& in, uint64_t seed, const std::string& artifact_folder)
      : in_(in),
        client(in.store, in.weather, in.trace),
        artifacts_(OpenStore(artifact_folder)),
        lookup_(client, in.clock),
        fleet({}, [this](const meta::ObjectKey& key) { workspace_line.Add(key); }),
        workspaces("workspaces", in.store,
                   app::FormatOf<api::Workspace>(codec::DecodeWorkspace, codec::UnpackWorkspace,
                                                 interner_),
                   in.clock),
        plugins("declaredplugins", in.store,
                app::FormatOf<api::DeclaredPlugin>(codec::DecodeDeclaredPlugin,
                                                   codec::UnpackDeclaredPlugin, interner_),
                in.clock),
        workspace_line("workspace", seed, in.clock),
        plugin_line("declaredplugin", seed + 2, in.clock),
        events_sink_(in.trace),
        events_(EventOptions(in.clock), events_sink_),
        on_(MakeDependencies()),
        workspace_reconciler_(on_),
        plugin_reconciler_(on_),
        first_passes_(workspace_reconciler_, [this] { TakeOver(); }),
        resolver(
            in.repositories, artifacts_, ResolverOptions(seed),
            [this](const std::string& key) { lookup_.OnChanged(key); }, in.clock) {
    Connect();
    workspaces.Start();
    plugins.Start();
  }

  /// It takes over with what its informers have seen so far.
  void Lead() {
    first_passes_.Expect(workspaces.Get().Cache().Keys());
    leading_ = true;
    Resync();
  }

  /// Everything is looked at once more, as the informers' scan does it.
  void Resync() {
    for (const auto& key : workspaces.Get().Cache().Keys())
      workspace_line.Add(key, runtime::Priority::kLow);
    for (const auto& key : plugins.Get().Cache().Keys())
      plugin_line.Add(key, runtime::Priority::kLow);
  }
  void PassOfWorkspace() { workspace_line.RunOne(first_passes_, in_.trace); }
  void PassOfPlugin() { plugin_line.RunOne(plugin_reconciler_, in_.trace); }
  void Wake(const meta::ObjectKey& key) { workspace_line.Add(key); }
  const reconcile::Dependencies& On() const { return on_; }
  bool HasEvents() const { return events_.GetStats().queued > 0; }
  void SendEvents() {
    std::stop_source stopped;
    stopped.request_stop();
    (void)events_.Run(stopped.get_token());
  }

 private:
  class EventTrace final : public runtime::EventSink {
   public:
    explicit EventTrace(Trace& trace) : trace_(trace) {}
    base::Status Create(const runtime::Event& event, std::stop_token) override {
      trace_.Note(fmt::format("event {} {}: {}", event.note.regarding.name, event.note.reason,
                              event.note.note));
      return {};
    }
    base::Status PatchSeries(const runtime::Event& event, std::stop_token) override {
      trace_.Note(fmt::format("event {} {} again", event.note.regarding.name, event.note.reason));
      return {};
    }

   private:
    Trace& trace_;
  };

  static std::shared_ptr<source::ArtifactStore> OpenStore(const std::string& folder) {
    auto opened = source::ArtifactStore::Open({.directory = folder});
    return opened ? std::shared_ptr<source::ArtifactStore>(*std::move(opened)) : nullptr;
  }
  static runtime::EventRecorderOptions EventOptions(const support::FakeClock& clock) {
    runtime::EventRecorderOptions options;
    options.clock = &clock;
    return options;
  }
  static source::Resolver::Options ResolverOptions(uint64_t seed) {
    source::Resolver::Options options;
    options.workers = 0;
    options.jitter_seed = seed | 1;
    return options;
  }

  reconcile::Dependencies MakeDependencies() {
    return {.client = client,
            .workspaces = workspaces.Get(),
            .plugins = plugins.Get(),
            .fleet = fleet,
            .sources = lookup_,
            .artifacts = *artifacts_,
            .events = events_,
            .downloads = downloads_,
            .make_box = [this](const api::Workspace& workspace) { return MakeBox(workspace); },
            .policy = [this] { return in_.policy; },
            .wake_declared = [this](const meta::ObjectKey& key,
                                    base::Millis in) { plugin_line.AddAfter(key, in); },
            .clock = &in_.clock,
            .resync = in_.policy->resync};
  }
  base::Result<std::unique_ptr<box::Box>> MakeBox(const api::Workspace& workspace) {
    const std::string name = workspace.meta.name;
    if (workspace.spec.box.type == api::BoxType::kExternal) return MakeExternal(workspace);
    MachineBox::Parts parts{name, *in_.machines.at(name), in_.weather, in_.trace};
    // A call that was under way when the Lease ran out may have its effect at any time.
    parts.witness = [this, name](const std::vector<std::string>& names) {
      if (!client.Deposed()) in_.witness(name, names);
    };
    parts.may_act = [this] { return !client.Deposed(); };
    parts.provide = in_.provide;
    if (workspace.spec.box.type == api::BoxType::kDirectory)
      parts.ask_agent = [this, uid = workspace.meta.uid](const std::string& boot) {
        return reconcile::AskForRestart(fleet, uid, boot);
      };
    return std::unique_ptr<box::Box>(std::make_unique<MachineBox>(std::move(parts)));
  }
  base::Result<std::unique_ptr<box::Box>> MakeExternal(const api::Workspace& workspace) {
    box::BoxDependencies needs;
    needs.request_restart = [this](const api::Workspace& of, const std::string& boot) {
      if (!client.Deposed()) in_.witness(of.meta.name, {});
      return reconcile::AskForRestart(fleet, of.meta.uid, boot);
    };
    return box::MakeBox(workspace, needs);
  }
  void TakeOver() {
    in_.trace.Note("all tokens are known: taken over");
    fleet.TakeOver(in_.clock.Read());
  }
  void Connect() {
    workspaces.Get().AddHandler([this](const runtime::ObjectEvent<api::Workspace>& event) {
      if (!leading_) return;
      workspace_line.Add(event.key, event.WakePriority());
      for (const auto& key : reconcile::Concerned(on_, event.old_object.get(), event.object.get()))
        plugin_line.Add(key);
    });
    plugins.Get().AddHandler([this](const runtime::ObjectEvent<api::DeclaredPlugin>& event) {
      if (!leading_) return;
      plugin_line.Add(event.key, event.WakePriority());
      for (const auto& key : reconcile::Concerned(on_, event.old_object.get(), event.object.get()))
        workspace_line.AddAfter(key, kTogether);
    });
    lookup_.Connect(resolver, [this](const reconcile::Asker& asker, bool more) {
      Line& line = asker.kind == reconcile::AskerKind::kWorkspace ? workspace_line : plugin_line;
      line.AddAfter(asker.key, more ? in_.policy->gather : kTogether);
    });
  }

  const Surroundings& in_;
  bool leading_ = false;
  codec::StringInterner interner_;
  reconcile::DownloadTable downloads_;

 public:
  ApiClient client;

 private:
  std::shared_ptr<source::ArtifactStore> artifacts_;
  reconcile::SourceLookup lookup_;

 public:
  fleet::HeartbeatTable fleet;
  Follower<api::Workspace> workspaces;
  Follower<api::DeclaredPlugin> plugins;
  Line workspace_line, plugin_line;

 private:
  EventTrace events_sink_;
  runtime::EventRecorder events_;
  const reconcile::Dependencies on_;
  reconcile::WorkspaceReconciler workspace_reconciler_;
  reconcile::DeclaredPluginReconciler plugin_reconciler_;
  app::FirstPasses first_passes_;

 public:
  source::Resolver resolver;
};

}  // namespace simulation
