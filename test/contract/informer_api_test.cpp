#include <atomic>
#include <map>

#include "app/cluster/kube_ports.hpp"
#include "codec/packed_workspace.hpp"
#include "codec/resources.hpp"
#include "contract/served_api.hpp"
#include "runtime/informer/informer.hpp"
#include "runtime/metrics.hpp"

using namespace contract;

namespace {

using Plugin = api::DeclaredPlugin;
using Event = runtime::ObjectEvent<Plugin>;

/// An informer of one namespace's declared plugins, wired as the operator's, and what its handler
/// was told.
class RunningInformer {
 public:
  RunningInformer(const ServedApi& api, runtime::InformerOptions options,
                  const std::string& selector = "")
      : source_(app::MakeListWatch(api.Client(), kube::kDeclaredPlugins, api.ns, selector)),
        informer(std::move(options), Format(), *source_) {
    informer.AddHandler([this](const Event& event) { Record(event); });
    thread_ = std::jthread([this](std::stop_token stop) { (void)informer.Run(stop); });
  }

  bool Await(const std::function<bool(const std::map<std::string, std::string>&)>& holds) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds{20}, [&] { return holds(told_); });
  }
  std::map<std::string, std::string> Cached() const {
    std::map<std::string, std::string> content;
    for (const auto& key : informer.Cache().Keys())
      if (const auto object = informer.Get(key)) content[key.name] = object->spec.source;
    return content;
  }
  int Added() const { return added_; }
  int Deleted() const { return deleted_; }

 private:
  runtime::InformerFormat<Plugin> Format() {
    runtime::InformerFormat<Plugin> format;
    format.decode = codec::DecodeDeclaredPlugin;
    format.cache.pack = [this](const Plugin& object) { return codec::Pack(object, interner_); };
    format.cache.unpack = [this](std::string_view bytes) {
      return codec::UnpackDeclaredPlugin(bytes, interner_);
    };
    return format;
  }
  void Record(const Event& event) {
    const std::lock_guard lock(mutex_);
    if (event.kind == runtime::ObjectEventKind::kDeleted) {
      told_.erase(event.key.name);
      ++deleted_;
    } else if (event.kind != runtime::ObjectEventKind::kResync) {
      added_ += event.kind == runtime::ObjectEventKind::kAdded;
      told_[event.key.name] = event.object->spec.source;
    }
    changed_.notify_all();
  }

  codec::StringInterner interner_;
  std::unique_ptr<runtime::ListWatch> source_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> told_;  ///< By mutex.
  std::atomic<int> added_ = 0, deleted_ = 0;

 public:
  runtime::Informer<Plugin> informer;

 private:
  std::jthread thread_;
};

}  // namespace

TEST_CASE("api contract: an informer has the first set and follows, streaming or by pages") {
  for (const bool streaming : {true, false}) {
    CAPTURE(streaming);
    const ServedApi api;
    for (int i = 0; i < 12; ++i) api.CreatePlugin("p" + std::to_string(i));
    RunningInformer run(api, {.name = "plugins", .streaming = streaming, .page_size = 5});
    REQUIRE(run.informer.WaitForSync({}, base::Millis{20'000}).has_value());
    CHECK(run.Cached().size() == 12);
    CHECK(run.informer.Stats().lists == (streaming ? 0 : 1));
    api.Retag("p1", "v2");
    api.CreatePlugin("new");
    REQUIRE(api->Delete(api.Plugin("p2")).has_value());
    REQUIRE(run.Await([](const auto& told) {
      return told.size() == 12 && told.contains("new") && !told.contains("p2") &&
             told.at("p1") == ServedApi::Source("v2");
    }));
    CHECK(run.Cached().at("p1") == ServedApi::Source("v2"));
    CHECK(run.Added() == 13);
    CHECK(run.Deleted() == 1);
  }
}

TEST_CASE("api contract: an informer of a selection is told of what leaves it as of a deletion") {
  for (const bool streaming : {true, false}) {
    CAPTURE(streaming);
    const ServedApi api, elsewhere;
    api.CreatePlugin("in", "v1");
    api.CreatePlugin("out", "v2");
    elsewhere.CreatePlugin("elsewhere", "v1");
    RunningInformer run(api, {.name = "plugins", .streaming = streaming}, "tag=v1");
    REQUIRE(run.informer.WaitForSync({}, base::Millis{20'000}).has_value());
    CHECK(run.Cached().size() == 1);
    CHECK(run.Cached().contains("in"));
    api.Retag("in", "v2");
    REQUIRE(run.Await([](const auto& told) { return told.empty(); }));
    CHECK(run.Cached().empty());
    CHECK(run.Deleted() == 1);
    api.Retag("out", "v1");
    REQUIRE(run.Await([](const auto& told) { return told.size() == 1; }));
    CHECK(run.Cached().contains("out"));
  }
}

TEST_CASE("api contract: an informer shows the version of the last event") {
  const ServedApi api;
  runtime::Metrics metrics;
  RunningInformer run(
      api,
      {.name = "plugins", .watch_timeout_min = 4, .watch_timeout_max = 4, .metrics = &metrics});
  REQUIRE(run.informer.WaitForSync({}, base::Millis{20'000}).has_value());
  const auto shown = [&] {
    const std::string name = "\ninformer_resource_version{informer=\"plugins\"} ";
    const std::string text = metrics.Text();
    return std::stoll(text.substr(text.find(name) + name.size()));
  };
  const auto event = std::stoll(VersionOf(api.CreatePlugin("a")));
  REQUIRE(run.Await([](const auto& told) { return told.size() == 1; }));
  CHECK(shown() >= event);
  CHECK(shown() <= std::stoll(api.ListVersion()));
  CHECK(run.informer.Stats().relists == 0);
  CHECK(run.Added() == 1);
}

TEST_CASE("api contract: an informer loses nothing across the ends of its watches") {
  const ServedApi api;
  api.CreatePlugin("a");
  RunningInformer run(api, {.name = "plugins", .watch_timeout_min = 1, .watch_timeout_max = 1});
  REQUIRE(run.informer.WaitForSync({}, base::Millis{20'000}).has_value());
  std::map<std::string, std::string> wanted;
  const auto begin = std::chrono::steady_clock::now();
  int writes = 0;
  // The time is the input here: several ends of a watch fall into it.
  for (; std::chrono::steady_clock::now() - begin < std::chrono::seconds{4}; ++writes) {
    const std::string name = "p" + std::to_string(writes % 20);
    const std::string tag = "v" + std::to_string(writes);
    if (wanted.contains(name) && writes % 7 == 0) {
      REQUIRE(api->Delete(api.Plugin(name)).has_value());
      wanted.erase(name);
    } else {
      if (wanted.contains(name))
        api.Retag(name, tag);
      else
        api.CreatePlugin(name, tag);
      wanted[name] = ServedApi::Source(tag);
    }
  }
  wanted["a"] = ServedApi::Source("v1");
  REQUIRE(run.Await([&](const auto& told) { return told == wanted; }));
  CHECK(run.Cached() == wanted);
  CHECK(run.informer.Stats().watches >= 3);
  CHECK(run.informer.Stats().relists == 0);
  MESSAGE(writes << " writes, " << run.informer.Stats().watches << " watches");
}

TEST_CASE("api contract: what we wrote ourselves is in the cache when the answer is") {
  const ServedApi api;
  RunningInformer run(api, {.name = "plugins"});
  REQUIRE(run.informer.WaitForSync({}, base::Millis{20'000}).has_value());
  const auto observe = [&](const Json& answer) {
    run.informer.ObserveWrite(Value(codec::DecodeDeclaredPlugin(codec::Dump(answer))));
  };
  observe(api.CreatePlugin("a"));
  for (int i = 0; i < 20; ++i) {
    const std::string tag = "w" + std::to_string(i);
    observe(api.Retag("a", tag));
    REQUIRE(run.Cached().at("a") == ServedApi::Source(tag));
  }
  CHECK(run.informer.WaitFor({api.ns, "a"}, base::Millis{10'000}).has_value());
  REQUIRE(api->Delete(api.Plugin("a")).has_value());
  REQUIRE(run.Await([](const auto& told) { return told.empty(); }));
  CHECK(run.Deleted() == 1);
}
