#include "box/pod/pod_box.hpp"

#include <doctest/doctest.h>

#include "box/pod/pod_state.hpp"
#include "box/pod/pod_world.hpp"

namespace {

using codec::Json;
using pods::SmallApi;
using pods::World;

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
  world.memory->cas.Ask("uid-0", "ours", now + base::Seconds{61});
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
  CHECK(report.cause ==
        "Pod w-box was made from an earlier spec: image is agents/sample:1, not agents/sample:2; "
        "delete the Pod, or set spec.restart.recreate to Allowed");
  // Also where it does not run, once it has.
  Json& container = world.Pod()["status"]["containerStatuses"][0];
  container["state"] = {{"waiting", {{"reason", "CrashLoopBackOff"}}}};
  box = world.Box();
  CHECK(box->Provide({}));
  CHECK(box->State({}).reason == "CrashLoopBackOff");
  CHECK(box->State({}).cause.ends_with("; " + report.cause));
  container["state"] = {{"running", Json::object()}};
  CHECK(world.api.deleted.empty());
  world.workspace.spec.restart.recreate = api::RecreatePolicy::kAllowed;
  world.workspace.spec.restart.policy = api::RestartPolicy::kImmediate;
  const auto replacing = world.Box();
  CHECK(replacing->Provide({}));
  CHECK(world.api.deleted.size() == 1);
  // Whatever an informer still shows: nothing is delivered to what this pass has deleted.
  CHECK(replacing->State({}).state == box::BoxState::kUnknown);
  CHECK(replacing->State({}).reason == "PodTerminating");
  REQUIRE(replacing->State({}).notes.size() == 1);
  CHECK(replacing->State({}).notes[0].reason == "PodRecreated");
  CHECK(replacing->State({}).notes[0].message.find("image is agents/sample:1, not agents/") !=
        std::string::npos);
  CHECK(world.Box()->Provide({}));
  CHECK(world.Pod()["spec"]["containers"][0]["image"] == "agents/sample:2");
}

TEST_CASE("a Pod in which nothing has ever run is made anew at once, whatever spec.restart says") {
  const Json waiting{{"waiting", {{"reason", "ImagePullBackOff"}}}};
  const Json ended{{"terminated", {{"exitCode", 0}}}};
  const Json never = Json::array({{{"name", "agent"}, {"state", waiting}}});
  struct Row {
    const char* what;
    const char* node;
    Json statuses;
    bool anew;
  };
  const Row rows[] = {
      {"it has no node", "", nullptr, true},
      {"its image is missing", "n", never, true},
      {"nobody has told yet", "n", nullptr, false},
      {"not of every container", "n", Json::array(), false},
      {"it runs", "n", Json::array({{{"name", "agent"}, {"state", {{"running", {{"x", 1}}}}}}}),
       false},
      {"it has ended", "n", Json::array({{{"name", "agent"}, {"state", ended}}}), false},
      {"one has ended before", "n",
       Json::array({{{"name", "agent"}, {"state", waiting}, {"lastState", ended}}}), false},
      {"it was restarted", "n",
       Json::array({{{"name", "agent"}, {"state", waiting}, {"restartCount", 1}}}), false},
      {"there is a container", "n",
       Json::array({{{"name", "agent"}, {"state", waiting}, {"containerID", "containerd://1"}}}),
       false}};
  for (const Row& row : rows) {
    CAPTURE(row.what);
    World world;
    world.workspace.spec.restart.policy = api::RestartPolicy::kManual;
    CHECK(world.Box()->Provide({}));
    Json& pod = world.Pod();
    pod["metadata"]["resourceVersion"] = "7";
    pod["spec"]["nodeName"] = row.node;
    pod["status"] = {{"phase", "Pending"}, {"containerStatuses", row.statuses}};
    // What has only prepared its volumes does not count.
    pod["status"]["initContainerStatuses"] = Json::array(
        {{{"name", "molecule-agent"}, {"state", ended}, {"containerID", "containerd://0"}}});
    CHECK(world.Box()->Provide({}));
    world.workspace.spec.box.pod->image = "agents/sample:2";
    const auto box = world.Box();
    box->State({});
    pod["metadata"]["resourceVersion"] = "8";
    CHECK(box->Provide({}));
    CHECK(world.api.deleted.empty());  // It has changed since it was looked at.
    CHECK(box->State({}).notes.empty());
    const auto next = world.Box();
    CHECK(next->Provide({}));
    CHECK(world.api.deleted.size() == (row.anew ? 1 : 0));
    const auto report = next->State({});
    REQUIRE(report.notes.size() == (row.anew ? 1 : 0));
    if (!row.anew) continue;
    CHECK(report.notes[0].reason == "PodRecreated");
    CHECK(report.state == box::BoxState::kUnknown);
    CHECK(world.Box()->Provide({}));
    CHECK(world.Pod()["spec"]["containers"][0]["image"] == "agents/sample:2");
    world.Pod()["spec"]["nodeName"] = "";
    world.workspace.spec.box.pod->image = "agents/sample:3";  // Or another operator wants that one.
    CHECK(world.Box()->Provide({}).error().reason == "PodOutdated");
  }
}

TEST_CASE("a Pod that runs is made anew when restart.policy allows it, counted from one time") {
  World world;
  CHECK(world.Box()->Provide({}));
  world.Run("w-box", "agent");
  world.workspace.spec.box.pod->image = "agents/sample:2";
  world.workspace.spec.restart = {api::RestartPolicy::kWhenIdle, 3600,
                                  api::RecreatePolicy::kAllowed};
  std::vector<base::WallTime> asked;
  bool granted = false;
  const box::MayEnd may_end = [&](base::WallTime since) {
    asked.push_back(since);
    return box::EndPermit{granted, "the agent is busy", base::Millis{7'000}};
  };
  for (int pass = 0; pass < 2; ++pass) {
    const auto box = world.Box();
    CHECK(box->Provide(may_end, {}));
    const auto report = box->State({});
    CHECK(report.state == box::BoxState::kRunning);
    CHECK(report.reason == "PodOutdated");
    CHECK(report.cause.find("not agents/sample:2; before it is made anew: the agent is busy") !=
          std::string::npos);
    CHECK(report.look_again == base::Millis{7'000});
    CHECK(report.notes.empty());
  }
  CHECK(world.api.deleted.empty());
  CHECK(world.api.patched.size() == 1);
  REQUIRE(asked.size() == 2);
  CHECK(asked[0] == asked[1]);
  // Another change waits anew.
  world.Pod()["metadata"]["annotations"][box::kOutdatedAnnotation] = "other 2020-01-01T00:00:00Z";
  CHECK(world.Box()->Provide(may_end, {}));
  CHECK(asked[2] >= asked[0]);
  // What does not run disturbs nobody, and Immediate asks nobody.
  granted = true;
  CHECK(world.Box()->Provide(may_end, {}));
  CHECK(world.api.deleted.size() == 1);
  CHECK(asked.size() == 4);
  for (const bool stopped : {true, false}) {
    world.workspace.spec.box.pod->image = "agents/sample:1";
    CHECK(world.Box()->Provide({}));
    world.Run("w-box", "agent");
    if (stopped)
      world.Pod()["status"]["containerStatuses"][0]["state"] = {
          {"waiting", {{"reason", "CrashLoopBackOff"}}}};
    else
      world.workspace.spec.restart.policy = api::RestartPolicy::kImmediate;
    world.workspace.spec.box.pod->image = "agents/sample:2";
    CHECK(world.Box()->Provide(may_end, {}));
  }
  CHECK(world.api.deleted.size() == 3);
  CHECK(asked.size() == 4);
}

TEST_CASE("other settings for agents concern those Pods alone whose agent has never reported") {
  World world;
  CHECK(world.Box()->Provide({}));
  world.Run("w-box", "agent");
  world.agent_url = "https://right";
  auto box = world.Box();
  CHECK(box->Provide({}));
  CHECK(box->State({}).reason == "PodOutdated");
  CHECK(box->State({}).cause ==
        "Pod w-box was made by other settings of the operator: boxes.agentURL is https://op, not "
        "https://right; delete the Pod, or set spec.restart.recreate to Allowed");
  world.workspace.status.agent = api::AgentStatus{};
  box = world.Box();
  CHECK(box->Provide({}));
  CHECK(box->State({}).reason == "");
  CHECK(world.api.deleted.empty());
  // No container of it has ever run.
  world.Pod()["status"] = {{"phase", "Pending"}};
  CHECK(world.Box()->Provide({}));
  CHECK(world.api.deleted.size() == 1);
  CHECK(world.Box()->Provide({}));
  CHECK(world.Box()->Provide({}));
  CHECK(world.api.created.size() == 2);
  CHECK(world.api.deleted.size() == 1);
}

TEST_CASE("the managed Pod of another Workspace is not adopted, and nothing is run in it") {
  World world;
  world.Adopt("other-box", true);
  Json& owner = world.Pod("other-box")["metadata"]["ownerReferences"][0];
  owner = {{"apiVersion", "molecule.ai/v1"},
           {"kind", "Workspace"},
           {"name", "other"},
           {"uid", "other-uid"},
           {"controller", true}};
  const auto report = world.Box()->State({});
  CHECK(report.state == box::BoxState::kStopped);
  CHECK(report.reason == "PodForeign");
  CHECK(report.identity == "");
  CHECK(report.cause.find("managed box of Workspace other;") != std::string::npos);
  CHECK(world.Box()->Probe({"p"}, {}, {}).error().reason == "BoxNotRunning");
  CHECK(world.Box()->WriteToken("t", {}).error().reason == "BoxNotRunning");
  CHECK(world.exec.requests.empty());
  owner["uid"] = "ws-uid";
  CHECK(world.Box()->State({}).state == box::BoxState::kRunning);
  owner["uid"] = "other-uid";
  owner["apiVersion"] = "elsewhere.example/v1";
  CHECK(world.Box()->State({}).state == box::BoxState::kRunning);
}

TEST_CASE("whoever adopts another Pod has the managed one deleted, and no one else's") {
  World world;
  world.watched = true;
  CHECK(world.Box()->Provide({}));
  world.Run("w-box", "agent");
  const Json own = world.Pod();
  world.Adopt("a-0", true);
  const auto box = world.Box();
  CHECK(box->Provide({}));
  CHECK(world.api.deleted == std::vector<std::string>{"pods/w-box"});
  const auto report = box->State({});
  CHECK(report.state == box::BoxState::kRunning);
  CHECK(report.identity == "pod:adopted-uid/c1");
  REQUIRE(report.notes.size() == 1);
  CHECK(report.notes[0].reason == "PodRemoved");
  CHECK(world.Box()->Provide({}));
  world.Pod() = own;
  world.Pod()["metadata"]["ownerReferences"][0]["uid"] = "another";
  CHECK(world.Box()->Provide({}));
  world.Pod() = own;
  world.Pod()["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
  CHECK(world.Box()->Provide({}));
  // Adopted by its name, it is the box.
  world.Pod() = own;
  world.workspace.spec.box.pod->pod_ref = api::LocalRef{"w-box"};
  CHECK(world.Box()->Provide({}));
  CHECK(world.api.deleted.size() == 1);
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

TEST_CASE("what only looks into a Pod is told from what changes it") {
  World world;
  world.Adopt("theirs", true);
  const auto effect = [&](const auto& call) {
    world.exec.requests.clear();
    call(*world.Box());
    REQUIRE(world.exec.requests.size() == 1);
    return world.exec.requests.front().effect;
  };
  const std::vector<box::Delivery> some{{"x", "r", "sha256:0", "local://x", "/dev/null"}};
  CHECK(effect([](box::Box& b) { (void)b.Probe({"x"}, {}, {}); }) == base::Effect::kReads);
  CHECK(effect([](box::Box& b) { (void)b.Restart("boot-1", {}); }) == base::Effect::kReads);
  const auto changes = base::Effect::kChanges;
  CHECK(effect([&](box::Box& b) { (void)b.Probe({"x"}, some, {}); }) == changes);
  CHECK(effect([&](box::Box& b) { (void)b.Deliver(some, {}); }) == changes);
  CHECK(effect([&](box::Box& b) { (void)b.Adopt(some, {}); }) == changes);
  CHECK(effect([](box::Box& b) { (void)b.Activate({{"x"}, "boot-1"}, {}); }) == changes);
  CHECK(effect([](box::Box& b) { (void)b.Remove({"x"}, "boot-1", {}); }) == changes);
  CHECK(effect([](box::Box& b) { (void)b.ClearRemovals("boot-1", {}); }) == changes);
  CHECK(effect([](box::Box& b) { (void)b.WriteToken("t", {}); }) == changes);
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

TEST_CASE("that tokens cannot be checked concerns the agents of managed Pods") {
  World world;
  CHECK(world.Box()->Provide({}));
  world.Run("w-box", "agent");
  CHECK(world.Box()->State({}).reports_refused == "");
  world.refused = "no right";
  CHECK(world.Box()->State({}).reports_refused == "no right");
  world.Adopt("a-0", true);
  CHECK(world.Box()->State({}).reports_refused == "");
}

TEST_CASE("a container counts as one start only where no agent has ever reported") {
  World world;
  world.Adopt("a-0", true);
  CHECK(world.Box()->State({}).boot_id == "box:pod:adopted-uid/c1");
  world.workspace.status.agent = api::AgentStatus{};
  world.workspace.status.agent->boot_id = "boot-1";
  CHECK(world.Box()->State({}).boot_id == "");
}

TEST_CASE("what is activated before the API tells of a container's restart is not loaded by it") {
  World world;
  world.Adopt("a-0", true);
  world.Pod("a-0")["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] =
      "2026-01-01T12:00:05Z";
  struct Row {
    const char* recorded;
    const char* at;
    const char* seen;
  };
  const Row rows[] = {
      // The first one had ended by then.
      {"box:pod:adopted-uid/c0", "2026-01-01T12:00:06Z", "box:pod:adopted-uid/c1"},
      {"box:pod:adopted-uid/c0", "2026-01-01T12:00:05Z", "box:pod:adopted-uid/c1"},
      {"box:pod:adopted-uid/c0", "2026-01-01T12:00:04Z", "box:pod:adopted-uid/c0"},
      {"box:pod:adopted-uid/c1", "2026-01-01T12:00:06Z", "box:pod:adopted-uid/c1"},
      // Of another Pod, whose node may have another clock; of a helper that tells no time; of an
      // agent, whose boot ids are its own.
      {"box:pod:earlier-uid/c0", "2026-01-01T12:00:06Z", "box:pod:earlier-uid/c0"},
      {"box:pod:adopted-uid/c0", "", "box:pod:adopted-uid/c0"},
      {"boot-1", "2026-01-01T12:00:06Z", "boot-1"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.recorded);
    protocol::BoxPlugin plugin;
    plugin.name = "p";
    plugin.presence = "Present";
    plugin.activated_boot_id = row.recorded;
    plugin.activated_time = base::ParseTime(row.at);
    world.exec.reply.plugins = {plugin};
    const auto report = world.Box()->Probe({"p"}, {}, {});
    REQUIRE(report);
    CHECK(report->plugins[0].activated_boot_id == row.seen);
  }
}

TEST_CASE("what is removed before the API tells of a container's restart is still loaded by it") {
  World world;
  world.Adopt("a-0", true);
  world.Pod("a-0")["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] =
      "2026-01-01T12:00:05Z";
  const auto before = base::ParseTime("2026-01-01T12:00:04Z");
  const auto after = base::ParseTime("2026-01-01T12:00:06Z");
  const std::string c0 = "box:pod:adopted-uid/c0", c1 = "box:pod:adopted-uid/c1";
  const auto told = [&](std::vector<protocol::BoxRemoval> removals) {
    world.exec.reply.removals = std::move(removals);
    const auto report = world.Box()->Probe({}, {}, {});
    REQUIRE(report);
    std::string text;
    for (const auto& r : report->removals) text += r.name + " " + r.removed_boot_id + "; ";
    return text;
  };
  CHECK(told({{"p", c0, before}}) == "p " + c0 + "; ");
  CHECK(told({{"p", c0, after}}) == "p " + c1 + "; ");
  CHECK(told({{"p", c0, std::nullopt}}) == "p " + c0 + "; ");
  CHECK(told({{"p", "box:pod:earlier-uid/c0", after}}) == "p box:pod:earlier-uid/c0; ");
  // Forgetting is by the start alone: it would take the corrected one, too.
  CHECK(told({{"old", c0, before}, {"p", c0, after}, {"q", c1, after}}) ==
        "p " + c1 + "; q " + c1 + "; ");
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
  world.memory = std::make_unique<box::PodMemory>();
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
