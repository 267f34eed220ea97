#pragma once

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "box/box_factory.hpp"
#include "box/pod/pod_box.hpp"

namespace pods {

using codec::Json;

/// Objects by path, as an API server keeps them; counts what it is asked.
class SmallApi final : public kube::Client {
 public:
  std::map<std::string, Json> objects;
  std::vector<std::string> created, deleted, patched;
  int gets = 0;
  std::optional<base::Error> fail;

  static std::string PathOf(const kube::ObjectRef& ref) {
    return ref.resource.plural + "/" + ref.name;
  }

  base::Status MayWrite() const override { return {}; }
  base::Result<std::string> Get(const kube::ObjectRef& ref, const kube::CallOptions&) override {
    ++gets;
    if (fail) return *fail;
    const auto found = objects.find(PathOf(ref));
    if (found == objects.end()) return Missing(ref.name);
    return codec::Dump(found->second);
  }
  base::Result<std::string> Create(const kube::Collection& where, std::string body,
                                   const kube::WriteOptions&) override {
    if (fail) return *fail;
    Json object = *codec::ParseJson(body);
    const std::string path =
        where.resource.plural + "/" + object["metadata"]["name"].get<std::string>();
    if (objects.contains(path))
      return base::MakeError(base::Code::kAlreadyExists, path, "AlreadyExists");
    object["metadata"]["uid"] = "uid-" + std::to_string(created.size());
    objects[path] = object;
    created.push_back(path);
    return codec::Dump(object);
  }
  base::Result<std::string> Delete(const kube::ObjectRef& ref,
                                   const kube::DeleteOptions& options) override {
    const auto found = objects.find(PathOf(ref));
    if (found == objects.end()) return Missing(ref.name);
    if (options.uid != found->second["metadata"]["uid"])
      return base::MakeError(base::Code::kConflict, "another uid");
    if (!options.resource_version.empty() &&
        options.resource_version != found->second["metadata"]["resourceVersion"])
      return base::MakeError(base::Code::kConflict, "another version");
    deleted.push_back(PathOf(ref));
    objects.erase(found);
    return std::string("{}");
  }
  base::Result<std::string> Update(const kube::ObjectRef&, std::string,
                                   const kube::WriteOptions&) override {
    return Unused();
  }
  base::Result<std::string> Patch(const kube::ObjectRef& ref, const kube::Patch& patch,
                                  const kube::WriteOptions&) override {
    if (patch.type != kube::PatchType::kMerge) return Unused();
    const auto found = objects.find(PathOf(ref));
    if (found == objects.end()) return Missing(ref.name);
    const Json change = *codec::ParseJson(patch.body);
    if (change["metadata"]["uid"] != found->second["metadata"]["uid"])
      return base::MakeError(base::Code::kInvalid, "metadata.uid: field is immutable", "Invalid");
    patched.push_back(patch.body);
    found->second.merge_patch(change);
    return codec::Dump(found->second);
  }
  base::Result<std::string> GetRaw(const std::string&, const kube::CallOptions&) override {
    return Unused();
  }
  base::Result<std::string> PostRaw(const std::string&, std::string,
                                    const kube::CallOptions&) override {
    return Unused();
  }
  base::Result<kube::ListResult> ListEach(const kube::Collection&, const kube::ListOptions&,
                                          const kube::ItemSink&) override {
    return Unused();
  }
  base::Status Watch(const kube::Collection&, const kube::WatchOptions&,
                     const kube::EventSink&) override {
    return Unused();
  }

 private:
  static base::Error Missing(const std::string& name) {
    return base::MakeError(base::Code::kNotFound, name + " not found", "NotFound");
  }
  static base::Error Unused() { return base::MakeError(base::Code::kInternal, "not used here"); }
};

/// A container in which the helper answers every question alike.
class SmallExec final : public kube::PodExec {
 public:
  protocol::BoxReply reply;
  std::vector<kube::ExecRequest> requests;
  std::optional<base::Error> fail;
  base::Result<kube::ExecResult> Run(const kube::ExecRequest& request) override {
    requests.push_back(request);
    if (fail) return *fail;
    kube::ExecResult result;
    protocol::AppendFrame(result.output, protocol::FrameKind::kReply,
                          protocol::EncodeBoxReply(reply));
    return result;
  }
};

struct World {
  SmallApi api;
  SmallExec exec;
  api::Workspace workspace;
  std::vector<std::string> restarts;
  std::map<std::string, std::vector<std::string>> commands{{"sample", {"/bin/runtime"}}};
  std::string ca, agent_url = "https://op";
  std::optional<std::string> refused;  ///< Why tokens cannot be checked.
  bool watched = false;                ///< Whether there is an informer.
  std::unique_ptr<box::PodMemory> memory = std::make_unique<box::PodMemory>();

  World() {
    workspace.meta.ns = "default";
    workspace.meta.name = "w";
    workspace.meta.uid = "ws-uid";
    workspace.spec.runtime = "sample";
    workspace.spec.box.type = api::BoxType::kPod;
    workspace.spec.box.pod.emplace().image = "agents/sample:1";
  }
  /// As in each pass: a new one.
  std::unique_ptr<box::Box> Box() {
    box::BoxDependencies dependencies;
    box::PodDependencies pods;
    pods.client = &api;
    pods.exec = &exec;
    pods.managed = {"operator:1", agent_url, ca, commands};
    pods.tokens_refused = [this] { return refused; };
    pods.memory = memory.get();
    if (watched)
      pods.find_pod = [this](const meta::ObjectKey& key) {
        const auto found = api.objects.find("pods/" + key.name);
        return found == api.objects.end() ? nullptr
                                          : std::make_shared<const kube::Pod>(
                                                *kube::DecodePod(codec::Dump(found->second)));
      };
    dependencies.request_restart = [this](const api::Workspace&, const std::string& boot) {
      restarts.push_back(boot);
      return base::Status{};
    };
    dependencies.make_pod = box::PodBoxMaker(std::move(pods));
    auto made = box::MakeBox(workspace, dependencies);
    REQUIRE(made);
    return *std::move(made);
  }
  Json& Pod(const std::string& name = "w-box") { return api.objects["pods/" + name]; }
  Json& Claim() { return api.objects["persistentvolumeclaims/w-box"]; }
  std::string ProvideReason() {
    const auto provided = Box()->Provide({});
    return provided ? "" : provided.error().reason;
  }
  void Adopt(const std::string& name, bool controlled) {
    workspace.spec.box.pod = api::PodBox{};
    workspace.spec.box.pod->pod_ref = api::LocalRef{name};
    Json& pod = Pod(name);
    pod["metadata"] = {{"name", name}, {"namespace", "default"}, {"uid", "adopted-uid"}};
    if (controlled)
      pod["metadata"]["ownerReferences"] = Json::array({{{"apiVersion", "apps/v1"},
                                                         {"kind", "StatefulSet"},
                                                         {"name", "s"},
                                                         {"uid", "s-uid"},
                                                         {"controller", true}}});
    pod["spec"]["containers"] = Json::array(
        {{{"name", "main"}, {"volumeMounts", Json::array({{{"mountPath", "/configs"}}})}}});
    Run(name, "main");
  }
  void Run(const std::string& name, const std::string& container) {
    Json& status = Pod(name)["status"];
    status["phase"] = "Running";
    status["conditions"] = Json::array(
        {{{"type", "Ready"}, {"status", "True"}}, {{"type", "PodScheduled"}, {"status", "True"}}});
    status["containerStatuses"] = Json::array({{{"name", container},
                                                {"containerID", "containerd://c1"},
                                                {"ready", true},
                                                {"state", {{"running", Json::object()}}}}});
  }
};

}  // namespace pods
