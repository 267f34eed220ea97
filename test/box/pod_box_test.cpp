#include "box/pod_box.hpp"

#include <doctest/doctest.h>

#include "box/box_factory.hpp"
#include "box/pod_state.hpp"

namespace {

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
  std::string ca;
  std::shared_ptr<box::PodRemakes> remakes = std::make_shared<box::PodRemakes>();
  std::shared_ptr<box::CaHandings> cas = std::make_shared<box::CaHandings>();
  std::shared_ptr<box::NodeReports> nodes = std::make_shared<box::NodeReports>();

  World() {
    workspace.meta.ns = "default";
    workspace.meta.name = "w";
    workspace.meta.uid = "ws-uid";
    workspace.spec.runtime = "sample";
    workspace.spec.box.type = api::BoxType::kPod;
    workspace.spec.box.pod = api::PodBox{};
    workspace.spec.box.pod->image = "agents/sample:1";
  }
  /// As in each pass: a new one.
  std::unique_ptr<box::Box> Box() {
    box::BoxDependencies dependencies;
    dependencies.pods.emplace();
    dependencies.pods->client = &api;
    dependencies.pods->exec = &exec;
    dependencies.pods->managed = {"operator:1", "https://op", ca, commands};
    dependencies.pods->remakes = remakes;
    dependencies.pods->cas = cas;
    dependencies.pods->nodes = nodes;
    dependencies.request_restart = [this](const api::Workspace&, const std::string& boot) {
      restarts.push_back(boot);
      return base::Status{};
    };
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

}  // namespace

TEST_CASE("a managed Pod is made once, however often it is asked for") {
  World world;
  CHECK(world.Box()->State({}).reason == "PodMissing");
  for (int pass = 0; pass < 3; ++pass) CHECK(world.Box()->Provide({}));
  CHECK(world.api.created == std::vector<std::string>{"pods/w-box"});
  auto box = world.Box();
  CHECK(box->State({}).state == box::BoxState::kUnknown);
  CHECK_FALSE(box->Probe({"x"}, {}, {}));
  CHECK(world.exec.requests.empty());
  world.Run("w-box", "agent");
  box = world.Box();
  CHECK(box->State({}).state == box::BoxState::kRunning);
  CHECK(box->State({}).identity == "pod:uid-0/c1");
  CHECK(world.Box()->Provide({}));
  CHECK(world.api.deleted.empty());
}

TEST_CASE("a Pod that was deleted is made again, with its storage kept") {
  World world;
  world.workspace.spec.box.pod->storage = api::PodStorage{"1Gi", ""};
  CHECK(world.Box()->Provide({}));
  world.api.objects.erase("pods/w-box");
  CHECK(world.Box()->Provide({}));
  CHECK(world.api.created ==
        std::vector<std::string>{"persistentvolumeclaims/w-box", "pods/w-box", "pods/w-box"});
}

TEST_CASE("a Pod that failed or was evicted is deleted and made again, but not in a hot loop") {
  World world;
  const auto fail = [&] {
    world.Pod()["status"] = {{"phase", "Failed"}, {"reason", "Evicted"}, {"message", "disk"}};
    // By a server whose clock is an hour before ours: that is no age.
    world.Pod()["metadata"]["creationTimestamp"] =
        base::FormatTime(base::SystemClock::Get().Read().wall + base::Seconds{3600});
  };
  CHECK(world.Box()->Provide({}));
  fail();
  CHECK(world.ProvideReason() == "Evicted");
  CHECK(world.api.deleted == std::vector<std::string>{"pods/w-box"});
  CHECK(world.Box()->Provide({}));
  CHECK(world.api.created.size() == 2);
  fail();
  const auto refused = world.Box()->Provide({});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().reason == "Evicted");
  REQUIRE(refused.error().retry_after);
  CHECK(*refused.error().retry_after <= base::Millis{10'000});
  CHECK(world.api.deleted.size() == 1);
}

TEST_CASE(
    "Pods that go on failing are made again ever more slowly, and at once after a good time") {
  box::PodRemakes remakes;
  const base::MonoTime start{};
  const auto ask = [&](int seconds) {
    return std::chrono::ceil<base::Seconds>(remakes.Ask("ns/a", start + base::Seconds{seconds}))
        .count();
  };
  CHECK(ask(0) == 0);
  CHECK(ask(4) == 6);
  CHECK(ask(10) == 0);
  CHECK(ask(20) == 10);
  CHECK(ask(30) == 0);
  CHECK(ask(30) == 40);
  int at = 70;
  for (const int wait : {80, 160, 300, 300}) {
    CHECK(ask(at) == 0);
    CHECK(ask(at) == wait);
    at += wait;
  }
  CHECK(remakes.Ask("ns/b", start) == base::Millis{0});
  // One that lasted for a minute after it might have been made again did not fail at once.
  at += 61;
  CHECK(ask(at) == 0);
  CHECK(ask(at) == 10);
}

TEST_CASE("a claim that went away before the Pod had a node is made again") {
  World world;
  world.workspace.spec.box.pod->storage = api::PodStorage{"1Gi", ""};
  CHECK(world.Box()->Provide({}));
  CHECK(world.Box()->Provide({}));
  CHECK(world.api.created.size() == 2);
  world.Pod()["status"]["phase"] = "Pending";
  world.api.objects.erase("persistentvolumeclaims/w-box");
  CHECK(world.Box()->Provide({}));
  CHECK(world.api.created.back() == "persistentvolumeclaims/w-box");
  CHECK(world.api.created.size() == 3);
  // One that runs holds its claim: nothing is asked.
  world.Run("w-box", "agent");
  world.Pod()["spec"]["nodeName"] = "n";
  world.api.objects.erase("persistentvolumeclaims/w-box");
  CHECK(world.Box()->Provide({}));
  CHECK(world.api.created.size() == 3);
}

TEST_CASE("no Pod is made for a claim that goes away, or that is somebody else's") {
  World world;
  world.workspace.spec.box.pod->storage = api::PodStorage{"1Gi", ""};
  world.Claim()["metadata"] = {{"name", "w-box"}, {"namespace", "default"}, {"uid", "c"}};
  CHECK(world.ProvideReason() == "ClaimForeign");
  const auto owned_by = [&](const char* uid) {
    world.Claim()["metadata"]["ownerReferences"] =
        Json::array({{{"apiVersion", "molecule.ai/v1alpha1"},
                      {"kind", "Workspace"},
                      {"name", "w"},
                      {"uid", uid}}});
  };
  owned_by("of-an-earlier-w");
  CHECK(world.ProvideReason() == "ClaimTerminating");
  owned_by("ws-uid");
  world.Claim()["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
  CHECK(world.ProvideReason() == "ClaimTerminating");
  CHECK(world.Box()->Provide({}).error().retry_after);
  CHECK(world.api.created.empty());
  world.Claim()["metadata"].erase("deletionTimestamp");
  CHECK(world.ProvideReason() == "");
  CHECK(world.api.created == std::vector<std::string>{"pods/w-box"});
  // Also while it waits for a node.
  world.Claim()["metadata"].erase("ownerReferences");
  CHECK(world.ProvideReason() == "ClaimForeign");
}

TEST_CASE("a rotated authority reaches a Pod that runs, once, and only that very Pod") {
  World world;
  world.ca = "old";
  CHECK(world.Box()->Provide({}));
  world.Run("w-box", "agent");
  CHECK(world.Box()->Provide({}));
  CHECK(world.api.patched.empty());
  world.ca = "old and new";
  auto box = world.Box();
  CHECK(box->Provide({}));
  CHECK(
      world.api.patched ==
      std::vector<std::string>{
          R"({"metadata":{"annotations":{"molecule.ai/operator-ca":"old and new"},"uid":"uid-0"}})"});
  CHECK(box->State({}).reason == "");
  CHECK(world.Box()->Provide({}));
  CHECK(world.api.patched.size() == 1);
  // The settings' file cannot be read for a moment: what is there stays.
  world.ca = "";
  CHECK(world.Box()->Provide({}));
  world.ca = "newest";
  auto late = world.Box();
  CHECK(late->State({}).state == box::BoxState::kRunning);
  world.Pod()["metadata"]["uid"] = "another";
  CHECK(late->Provide({}));
  CHECK(world.api.patched.size() == 1);
}

TEST_CASE("two operators that serve one Workspace do not give it their authorities by turns") {
  World world;
  world.ca = "ours";
  CHECK(world.Box()->Provide({}));
  world.Run("w-box", "agent");
  for (int i = 0; i < 20; ++i) {
    world.Pod()["metadata"]["annotations"]["molecule.ai/operator-ca"] = "theirs";
    CHECK(world.Box()->Provide({}));
  }
  CHECK(world.api.patched.size() == 1);
  // Once it had to be given again that is said.
  const base::MonoTime now = base::SystemClock::Get().Read().mono;
  world.cas->Ask("uid-0", "ours", now + base::Seconds{61});
  auto box = world.Box();
  CHECK(box->Provide({}));
  const auto report = box->State({});
  CHECK(report.state == box::BoxState::kRunning);
  CHECK(report.reason == "AnotherOperator");
  CHECK(report.cause.find("let only one operator watch its namespace") != std::string::npos);
}

TEST_CASE("a Pod of that name that is somebody else's is left alone") {
  World world;
  CHECK(world.Box()->Provide({}));
  world.Pod()["metadata"].erase("ownerReferences");
  world.Pod()["status"]["phase"] = "Failed";
  CHECK(world.Box()->Provide({}).error().reason == "PodForeign");
  CHECK(world.api.deleted.empty());
}

TEST_CASE("a changed spec makes the Pod anew only where that is allowed; else it is shown") {
  World world;
  CHECK(world.Box()->Provide({}));
  world.Run("w-box", "agent");
  world.workspace.spec.box.pod->image = "agents/sample:2";
  auto box = world.Box();
  CHECK(box->Provide({}));
  const auto report = box->State({});
  CHECK(report.state == box::BoxState::kRunning);
  CHECK(report.reason == "PodOutdated");
  CHECK(report.cause.find("spec.restart.recreate") != std::string::npos);
  CHECK(world.api.deleted.empty());
  world.workspace.spec.restart.recreate = api::RecreatePolicy::kAllowed;
  const auto replacing = world.Box();
  CHECK(replacing->Provide({}));
  CHECK(world.api.deleted.size() == 1);
  // Whatever an informer still shows: nothing is delivered to what this pass has deleted.
  CHECK(replacing->State({}).state == box::BoxState::kUnknown);
  CHECK(replacing->State({}).reason == "PodTerminating");
  CHECK(world.Box()->Provide({}));
  CHECK(world.Pod()["spec"]["containers"][0]["image"] == "agents/sample:2");
}

TEST_CASE("a template that is missing is named, and found when it comes") {
  World world;
  world.workspace.spec.box.pod->image.clear();
  world.workspace.spec.box.pod->template_ref = api::LocalRef{"big"};
  CHECK(world.Box()->Provide({}).error().reason == "PodTemplateMissing");
  world.api.objects["podtemplates/big"] = {
      {"template",
       {{"spec",
         {{"containers",
           Json::array({{{"name", "m"}, {"image", "i"}, {"command", Json::array({"/x"})}}})}}}}}};
  CHECK(world.Box()->Provide({}));
  world.Run("w-box", "m");
  CHECK(world.Box()->State({}).state == box::BoxState::kRunning);
}

TEST_CASE("an API that cannot be asked is Unknown with the cause, never Stopped") {
  World world;
  world.api.fail = base::MakeError(base::Code::kUnavailable, "connection refused", "ConnectFailed");
  const auto report = world.Box()->State({});
  CHECK(report.state == box::BoxState::kUnknown);
  CHECK(report.identity == "");
  CHECK(report.cause.find("connection refused") != std::string::npos);
  CHECK(world.Box()->Probe({"x"}, {}, {}).error().code == base::Code::kUnavailable);
}

TEST_CASE("execs go to the right container by argv, and never to a Pod that does not run") {
  World world;
  world.Adopt("a-0", true);
  auto box = world.Box();
  world.exec.reply.plugins = {{"p", "Absent", "", false, "", "", "", "", false, true}};
  const auto report = box->Probe({"p"}, {}, {});
  REQUIRE(report);
  CHECK(box->State({}).plugins_path_persistent);
  REQUIRE(world.exec.requests.size() == 1);
  CHECK(world.exec.requests[0].pod == "a-0");
  CHECK(world.exec.requests[0].container == "main");
  CHECK(world.exec.requests[0].argv ==
        std::vector<std::string>{"workspace-operator", "box-helper", "--root", "/"});
  world.Pod("a-0")["status"]["phase"] = "Failed";
  CHECK(world.Box()->Probe({"p"}, {}, {}).error().reason == "BoxNotRunning");
  CHECK(world.Box()->WriteToken("t", {}).error().reason == "BoxNotRunning");
  CHECK(world.exec.requests.size() == 1);
}

TEST_CASE("nothing is run in a Pod whose /configs is on no volume, and every call says so") {
  World world;
  world.Adopt("a-0", true);
  world.workspace.spec.restart.recreate = api::RecreatePolicy::kAllowed;
  world.Pod("a-0")["spec"]["containers"][0].erase("volumeMounts");
  CHECK_FALSE(world.Box()->State({}).plugins_path_persistent);
  CHECK(world.Box()->State({}).state == box::BoxState::kRunning);
  const auto box = world.Box();
  const auto check = [](const auto& result) {
    REQUIRE_FALSE(result);
    CHECK(result.error().code == base::Code::kInvalid);
    CHECK(result.error().reason == "PluginsPathNotPersistent");
    CHECK(result.error().message.find("mount one at /configs") != std::string::npos);
  };
  check(box->Probe({"p"}, {}, {}));
  check(box->Deliver({}, {}));
  check(box->Adopt({}, {}));
  check(box->Activate({{"p"}, "boot"}, {}));
  check(box->Remove({"p"}, "boot", {}));
  check(box->ClearRemovals("boot", {}));
  check(box->WriteToken("t", {}));
  check(box->Restart("boot", {}));
  CHECK(world.exec.requests.empty());
  CHECK(world.api.deleted.empty());
}

TEST_CASE("an exec that is refused is about the operator's rights: tried again, and named") {
  World world;
  world.Adopt("a-0", true);
  for (const base::Code code : {base::Code::kForbidden, base::Code::kUnauthorized}) {
    world.exec.fail = base::MakeError(code, "told so", "Forbidden");
    const auto refused = world.Box()->Probe({"p"}, {}, {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == base::Code::kUnavailable);
    CHECK(refused.error().reason == "ExecRefused");
    CHECK(refused.error().message.find("told so") != std::string::npos);
    CHECK(refused.error().message.find("`create pods/exec`") != std::string::npos);
  }
  world.exec.fail = base::MakeError(base::Code::kNotFound, "no such Pod", "NotFound");
  CHECK(world.Box()->Probe({"p"}, {}, {}).error().code == base::Code::kNotFound);
}

TEST_CASE("a managed Pod's agent is asked for the restart, and keeps its own token") {
  World world;
  CHECK(world.Box()->Provide({}));
  world.Run("w-box", "agent");
  CHECK(world.Box()->Restart("boot-1", {}));
  CHECK(world.restarts == std::vector<std::string>{"boot-1"});
  CHECK(world.Box()->WriteToken("t", {}));
  CHECK(world.exec.requests.empty());
}

TEST_CASE("a container counts as one start only where no agent has ever reported") {
  World world;
  world.Adopt("a-0", true);
  CHECK(world.Box()->State({}).boot_id == "box:pod:adopted-uid/c1");
  world.workspace.status.agent = api::AgentStatus{};
  world.workspace.status.agent->boot_id = "boot-1";
  CHECK(world.Box()->State({}).boot_id == "");
}

TEST_CASE("an adopted Pod without an agent cannot be restarted, unless its owner makes it again") {
  World world;
  world.Adopt("a-0", true);
  world.exec.reply.agent_running = true;
  CHECK(world.Box()->Restart("boot-1", {}));
  CHECK(world.restarts.size() == 1);
  world.exec.reply.agent_running = false;
  CHECK(world.Box()->Restart("boot-1", {}).error().reason == "RestartUnsupported");
  CHECK(world.api.deleted.empty());
  world.workspace.spec.restart.recreate = api::RecreatePolicy::kAllowed;
  // The start that is to be ended was another container's: its restart has happened.
  CHECK(world.Box()->Restart("box:pod:adopted-uid/c0", {}));
  world.workspace.status.agent = api::AgentStatus{};
  world.workspace.status.agent->boot_id = "boot-1";
  world.workspace.status.box = api::BoxStatus{"pod:adopted-uid/c0", "Running", "", {}};
  CHECK(world.Box()->Restart("boot-1", {}));
  CHECK(world.api.deleted.empty());
  world.workspace.status.box->identity = "pod:adopted-uid/c1";
  CHECK(world.Box()->Restart("boot-1", {}));
  CHECK(world.api.deleted == std::vector<std::string>{"pods/a-0"});
  world.Adopt("a-0", true);
  CHECK(world.Box()->Restart("box:pod:adopted-uid/c1", {}));
  CHECK(world.api.deleted.size() == 2);
  // A Pod that begins empty would be owed the same restart again, and again.
  world.Adopt("a-0", true);
  world.workspace.spec.restart.recreate = api::RecreatePolicy::kAllowed;
  world.Pod("a-0")["spec"]["containers"][0]["volumeMounts"][0]["name"] = "c";
  world.Pod("a-0")["spec"]["volumes"] =
      Json::array({{{"name", "c"}, {"emptyDir", Json::object()}}});
  const auto refused = world.Box()->Restart("box:pod:adopted-uid/c1", {});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().reason == "RestartUnsupported");
  CHECK(refused.error().message.find("PersistentVolumeClaim") != std::string::npos);
  CHECK(world.api.deleted.size() == 2);
  world.Pod("a-0")["spec"]["volumes"][0] = {{"name", "c"},
                                            {"persistentVolumeClaim", {{"claimName", "c"}}}};
  CHECK(world.Box()->Restart("box:pod:adopted-uid/c1", {}));
  CHECK(world.api.deleted.size() == 3);
  world.Adopt("a-1", false);
  world.workspace.spec.restart.recreate = api::RecreatePolicy::kAllowed;
  CHECK(world.Box()->Restart("boot-1", {}).error().reason == "RestartUnsupported");
  CHECK(world.api.deleted.size() == 3);
  CHECK(world.Box()->Provide({}));
}

TEST_CASE("a Pod that was not Ready when its node went away is not called running") {
  World world;
  world.Adopt("a-0", false);
  Json& pod = world.Pod("a-0");
  pod["spec"]["nodeName"] = "n1";
  CHECK_FALSE(world.Box()->State({}).look_again);  // Of a Ready one the API tells by itself.
  pod["status"]["conditions"][0] = {
      {"type", "Ready"}, {"status", "False"}, {"reason", "ContainersNotReady"}};
  pod["status"]["containerStatuses"][0]["ready"] = false;
  world.api.objects["nodes/n1"]["status"]["conditions"] = Json::array(
      {{{"type", "DiskPressure"}, {"status", "Unknown"}},
       {{"type", "Ready"}, {"status", "Unknown"}, {"message", "Kubelet stopped posting."}}});
  const auto away = world.Box()->State({});
  CHECK(away.state == box::BoxState::kUnknown);
  CHECK(away.reason == "NodeNotReady");
  CHECK(away.look_again == base::Millis{60'000});
  CHECK_FALSE(world.Box()->Probe({"x"}, {}, {}));
  CHECK(world.exec.requests.empty());
  // Of one node all its Pods ask together.
  const int gets = world.api.gets;
  world.Box()->State({});
  CHECK(world.api.gets == gets + 1);
  world.nodes = std::make_shared<box::NodeReports>();
  world.api.objects["nodes/n1"]["status"]["conditions"][1]["status"] = "True";
  const auto back = world.Box()->State({});
  CHECK(back.state == box::BoxState::kRunning);
  CHECK(back.reason == "ContainerNotReady");
}

TEST_CASE("an operator that may not read nodes believes the Pod, and does not ask each time") {
  SmallApi api;
  box::NodeReports nodes;
  const base::MonoTime start{};
  const auto ask = [&](const char* node, int seconds) {
    return nodes.Ask(api, node, start + base::Seconds{seconds}, {});
  };
  api.fail = base::MakeError(base::Code::kForbidden, "nodes is forbidden", "Forbidden");
  CHECK_FALSE(ask("n1", 0));
  CHECK_FALSE(ask("n2", 299));
  CHECK(api.gets == 1);
  CHECK_FALSE(ask("n2", 300));
  CHECK(api.gets == 2);
  api.fail = base::MakeError(base::Code::kUnavailable, "away", "");
  CHECK_FALSE(ask("n1", 700));
  api.fail.reset();
  const auto missing = ask("n1", 705);
  REQUIRE(missing);
  CHECK_FALSE(missing->exists);
  CHECK(api.gets == 4);
}
