#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "apiserver/rest/api_server.hpp"
#include "app/built_in_crds.hpp"
#include "base/sha256.hpp"
#include "codec/json.hpp"
#include "kube/client.hpp"
#include "support/temp_folder.hpp"

/// What these suites hold is what the operator relies on of any Kubernetes API server. They run
/// against the embedded one, or, with WO_CONTRACT_KUBECONFIG, against the server that this file
/// names (test/cluster/run gives a real kube-apiserver; the product's CRDs must be installed).
namespace contract {

using codec::Json;

/// The embedded server of this process: started by the first test that needs it, gone at exit.
inline const std::string& ServerKubeconfig() {
  static const std::string path = [] {
    if (const char* given = std::getenv("WO_CONTRACT_KUBECONFIG")) return std::string(given);
    static support::TempFolder folder;
    apiserver::ApiServerOptions options;
    options.data_dir = folder / "data";
    options.crds = app::BuiltInCrds();
    options.store.change_log_rows = 200;  // So that a test can fall out of it.
    static auto server = apiserver::ApiServer::Start(options);
    REQUIRE_MESSAGE(server.has_value(), (server ? "" : server.error().message));
    return (*server)->KubeconfigPath();
  }();
  return path;
}

template <typename T>
T Value(base::Result<T> result) {
  REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().message));
  return *std::move(result);
}

inline Json Parsed(base::Result<std::string> answer) {
  return Value(codec::ParseJson(Value(std::move(answer))));
}

template <typename T>
base::Code CodeOf(const T& result) {
  REQUIRE_FALSE(result.has_value());
  return result.error().code;
}
template <typename T>
std::string MessageOf(const T& result) {
  return result.has_value() ? "" : result.error().message;
}

/// A client and a namespace of its own for one test.
class ServedApi {
 public:
  explicit ServedApi(kube::ClientOptions options = {}) : client_(Connect(std::move(options))) {
    ns = "contract-" + base::RandomUuid().substr(0, 8);
    const Json made = {{"apiVersion", "v1"}, {"kind", "Namespace"}, {"metadata", {{"name", ns}}}};
    REQUIRE(client_->Create({kube::kNamespaces}, codec::Dump(made)).has_value());
  }
  ~ServedApi() { (void)client_->Delete({kube::kNamespaces, "", ns}); }

  static std::unique_ptr<kube::Client> Connect(kube::ClientOptions options = {}) {
    return Value(kube::Client::Create(Value(kube::LoadKubeconfig({ServerKubeconfig()})), options));
  }

  kube::Client* operator->() const { return client_.get(); }
  kube::Client& Client() const { return *client_; }

  kube::Collection Plugins() const { return {kube::kDeclaredPlugins, ns}; }
  kube::ObjectRef Plugin(const std::string& name) const {
    return {kube::kDeclaredPlugins, ns, name};
  }
  kube::Collection Maps() const { return {kube::kConfigMaps, ns}; }
  kube::ObjectRef Map(const std::string& name) const { return {kube::kConfigMaps, ns, name}; }

  Json PluginObject(const std::string& name, const std::string& tag = "v1") const {
    return {{"apiVersion", "molecule.ai/v1alpha1"},
            {"kind", "DeclaredPlugin"},
            {"metadata", {{"name", name}, {"namespace", ns}, {"labels", {{"tag", tag}}}}},
            {"spec", {{"workspaceRef", {{"name", "w"}}}, {"source", Source(tag)}}}};
  }
  static std::string Source(const std::string& tag) { return "gitea://demo/a#tag:" + tag; }

  Json CreatePlugin(const std::string& name, const std::string& tag = "v1") const {
    return Parsed(client_->Create(Plugins(), codec::Dump(PluginObject(name, tag))));
  }
  base::Result<std::string> Merge(const kube::ObjectRef& object, const Json& patch) const {
    return client_->Patch(object, {kube::PatchType::kMerge, codec::Dump(patch)});
  }
  /// Another tag, in the source and in the label.
  Json Retag(const std::string& name, const std::string& tag) const {
    return Parsed(Merge(Plugin(name), {{"metadata", {{"labels", {{"tag", tag}}}}},
                                       {"spec", {{"source", Source(tag)}}}}));
  }
  std::string ListVersion() const {
    return Value(client_->ListEach(Plugins(), {}, [](std::string_view) { return base::Status(); }))
        .resource_version;
  }

  std::string ns;

 private:
  std::unique_ptr<kube::Client> client_;
};

inline std::string VersionOf(const Json& object) {
  return object.at("metadata").at("resourceVersion");
}

/// A watch on a thread of its own, and what it has seen: "+name@tag", "~name@tag", "-name@tag",
/// "bookmark", "end" (of the initial events), "error 410".
class WatchLog {
 public:
  WatchLog(kube::Client& client, kube::Collection from, kube::WatchOptions options) {
    options.stop = stop_.get_token();
    thread_ = std::thread([this, &client, from = std::move(from), options] {
      auto ended = client.Watch(from, options, [this](const kube::WatchEvent& event) {
        Add(event);
        return base::Status();
      });
      const std::lock_guard lock(mutex_);
      ended_ = std::move(ended);
      over_ = true;
      changed_.notify_all();
    });
  }
  ~WatchLog() {
    stop_.request_stop();
    thread_.join();
  }

  /// True as soon as `count` events were seen; false after 15 s.
  bool Await(size_t count) {
    return Wait([&] { return seen_.size() >= count; });
  }
  bool AwaitEnd() {
    return Wait([&] { return over_; });
  }
  /// All events so far, a blank between two.
  std::string Seen() {
    const std::lock_guard lock(mutex_);
    return fmt::format("{}", fmt::join(seen_, " "));
  }
  std::string LastVersion() {
    const std::lock_guard lock(mutex_);
    return version_;
  }
  base::Status Ended() {
    const std::lock_guard lock(mutex_);
    return ended_;
  }

 private:
  void Add(const kube::WatchEvent& event) {
    const std::lock_guard lock(mutex_);
    const Json object = codec::ParseJson(event.object).value();
    if (event.type == kube::EventType::kError) {
      seen_.push_back("error " + std::to_string(codec::GetInt(object, "code")));
    } else if (event.type == kube::EventType::kBookmark) {
      seen_.push_back(kube::EndsInitialEvents(event) ? "end" : "bookmark");
      version_ = kube::FindResourceVersion(event.object);
    } else {
      const char* sign = event.type == kube::EventType::kAdded      ? "+"
                         : event.type == kube::EventType::kModified ? "~"
                                                                    : "-";
      const Json& meta = object.at("metadata");
      seen_.push_back(sign + meta.at("name").get<std::string>() + "@" +
                      codec::GetString(codec::GetMember(meta, "labels"), "tag"));
      version_ = kube::FindResourceVersion(event.object);
    }
    changed_.notify_all();
  }
  bool Wait(const std::function<bool()>& holds) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds{15}, holds);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> seen_;  ///< By mutex, as all below.
  std::string version_;
  base::Status ended_;
  bool over_ = false;
  std::stop_source stop_;
  std::thread thread_;
};

}  // namespace contract
