#include "box/pod/pod_state.hpp"

#include <doctest/doctest.h>

namespace {

using box::BoxState;

/// A Pod that runs, with one container `agent`.
kube::Pod Running() {
  kube::Pod pod;
  pod.meta.name = "w-box";
  pod.meta.uid = "u1";
  pod.node = "node-1";
  pod.phase = "Running";
  pod.scheduled = true;
  pod.ready = true;
  pod.containers = {{"agent", {"/configs"}}, {"sidecar", {}}};
  pod.statuses = {{"agent", "containerd://0123456789abcdef", "running", "", 0, "img:1", true},
                  {"sidecar", "containerd://ffff", "running", "", 0, "img:2", true}};
  return pod;
}

kube::Pod Waiting(const std::string& reason) {
  kube::Pod pod = Running();
  pod.phase = "Pending";
  pod.ready = false;
  pod.ready_reason = "ContainersNotReady";
  pod.statuses[0].state = "waiting";
  pod.statuses[0].reason = reason;
  pod.statuses[0].ready = false;
  return pod;
}

/// Somebody has deleted it, and it is there still.
kube::Pod Ending() {
  kube::Pod pod = Running();
  pod.meta.deletion_time = base::WallTime{};
  return pod;
}

struct Row {
  const char* what;
  kube::Pod pod;
  BoxState state;
  const char* reason;
  const char* in_cause;
};

template <typename Change>
kube::Pod With(kube::Pod pod, const Change& change) {
  change(pod);
  return pod;
}

}  // namespace

TEST_CASE("every way in which a Pod can be is one of Running, Stopped and Unknown, with a reason") {
  const Row rows[] = {
      {"runs", Running(), BoxState::kRunning, "", ""},
      {"runs, readiness probe fails",
       With(Running(),
            [](kube::Pod& p) {
              p.ready = false;
              p.ready_reason = "ContainersNotReady";
              p.statuses[0].ready = false;
            }),
       BoxState::kRunning, "ContainerNotReady", "readiness"},
      {"its node does not report", With(Running(), [](kube::Pod& p) { p.ready = false; }),
       BoxState::kUnknown, "NodeNotReady", "node-1"},
      {"phase Unknown", With(Running(), [](kube::Pod& p) { p.phase = "Unknown"; }),
       BoxState::kUnknown, "NodeNotReady", "node-1"},
      {"is being deleted", Ending(), BoxState::kUnknown, "PodTerminating", "deleted"},
      {"is being deleted, and ends",
       With(Ending(),
            [](kube::Pod& p) {
              p.ready = false;
              p.ready_reason = "ContainersNotReady";
              p.statuses[0].ready = false;
            }),
       BoxState::kUnknown, "PodTerminating", "deleted"},
      {"is being deleted, and held",
       With(Ending(),
            [](kube::Pod& p) {
              p.meta.finalizers = {"x.example/a", "x.example/b"};
              p.statuses[0].state = p.statuses[1].state = "terminated";
              p.statuses[0].ready = false;
            }),
       BoxState::kUnknown, "PodTerminating", "held by the finalizers x.example/a, x.example/b"},
      {"is being deleted, but its node does not report",
       With(Ending(), [](kube::Pod& p) { p.ready = false; }), BoxState::kUnknown, "NodeNotReady",
       "node-1 does not report; when that node is surely off"},
      {"is being deleted, in phase Unknown",
       With(Ending(), [](kube::Pod& p) { p.phase = "Unknown"; }), BoxState::kUnknown,
       "NodeNotReady", "kubectl delete pod w-box --force"},
      {"was evicted",
       With(Running(),
            [](kube::Pod& p) {
              p.phase = "Failed";
              p.reason = "Evicted";
              p.message = "The node was low on resource: memory.";
            }),
       BoxState::kStopped, "Evicted", "low on resource"},
      {"has failed", With(Running(), [](kube::Pod& p) { p.phase = "Failed"; }), BoxState::kStopped,
       "PodFailed", "Failed"},
      {"cannot be scheduled",
       With(Running(),
            [](kube::Pod& p) {
              p.phase = "Pending";
              p.scheduled = false;
              p.node = "";
              p.statuses.clear();
              p.scheduling_reason = "Unschedulable";
              p.scheduling_message = "0/3 nodes are available";
            }),
       BoxState::kStopped, "Unschedulable", "0/3 nodes"},
      {"waits for the scheduler",
       With(Running(),
            [](kube::Pod& p) {
              p.phase = "Pending";
              p.scheduled = false;
              p.node = "";
              p.statuses.clear();
            }),
       BoxState::kUnknown, "Pending", "not scheduled"},
      {"no image", Waiting("ErrImagePull"), BoxState::kStopped, "ImagePullBackOff", "img:1"},
      {"no image, again", Waiting("ImagePullBackOff"), BoxState::kStopped, "ImagePullBackOff",
       "img:1"},
      {"image never pulled", Waiting("ErrImageNeverPull"), BoxState::kStopped, "ErrImageNeverPull",
       "img:1"},
      {"bad config", Waiting("CreateContainerConfigError"), BoxState::kStopped,
       "CreateContainerConfigError", "agent"},
      {"crashes", Waiting("CrashLoopBackOff"), BoxState::kStopped, "CrashLoopBackOff", "log"},
      {"is created", Waiting("ContainerCreating"), BoxState::kUnknown, "ContainerCreating",
       "kubectl describe pod"},
      {"runs its init containers", Waiting("PodInitializing"), BoxState::kUnknown,
       "PodInitializing", "agent"},
      {"an init container has no image",
       With(Waiting("PodInitializing"),
            [](kube::Pod& p) {
              p.init_statuses = {
                  {"molecule-agent", "", "waiting", "ErrImagePull", 0, "op:9", false}};
            }),
       BoxState::kStopped, "ImagePullBackOff", "op:9"},
      {"runs, beside a sidecar that crashes",
       With(Running(),
            [](kube::Pod& p) {
              p.ready = false;
              p.ready_reason = "ContainersNotReady";
              p.init_statuses = {{"proxy", "", "waiting", "CrashLoopBackOff", 1, "mesh:1", false}};
            }),
       BoxState::kRunning, "", ""},
      {"out of memory",
       With(Running(),
            [](kube::Pod& p) {
              p.statuses[0].state = "terminated";
              p.statuses[0].reason = "OOMKilled";
              p.statuses[0].exit_code = 137;
            }),
       BoxState::kStopped, "OOMKilled", "137"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto report = box::DecidePodState(&row.pod, "agent");
    CHECK(report.state == row.state);
    CHECK(report.reason == row.reason);
    CHECK(report.cause.find(row.in_cause) != std::string::npos);
    CHECK(report.identity.starts_with("pod:u1/"));
    if (report.state != BoxState::kRunning) CHECK(report.cause != "");
    // A cache that packed it answers alike.
    const auto again = kube::DecodePod(kube::EncodePod(row.pod));
    REQUIRE(again);
    const auto same = box::DecidePodState(&*again, "agent");
    CHECK(same.state == report.state);
    CHECK(same.reason == report.reason);
    CHECK(same.cause == report.cause);
    CHECK(same.identity == report.identity);
  }
}

TEST_CASE("a Secret or ConfigMap that is missing is named, within bounds") {
  const auto cause = [](const std::string& reason, const std::string& message) {
    const auto pod = kube::DecodePod(
        R"({"metadata":{"name":"w","uid":"u"},"spec":{"nodeName":"n","containers":[{"name":"a"}]},)"
        R"("status":{"phase":"Pending","containerStatuses":[{"name":"a","state":{"waiting":{)"
        R"("reason":")" +
        reason + R"(","message":")" + message + R"("}}}]}})");
    REQUIRE(pod);
    CHECK(*kube::DecodePod(kube::EncodePod(*pod)) == *pod);
    return box::DecidePodState(&*pod, "a").cause;
  };
  CHECK(cause("CreateContainerConfigError", "secret 'keys' not found") ==
        "container a: CreateContainerConfigError: secret 'keys' not found");
  const std::string head = "container a: CreateContainerConfigError: ";
  CHECK(cause("CreateContainerConfigError", std::string(500, 'x')).size() == head.size() + 256);
  CHECK(cause("CreateContainerConfigError", std::string(255, 'x') + "\u00fc").size() ==
        head.size() + 255);
  CHECK(cause("ImagePullBackOff", "layer 1 of 7").find("layer") == std::string::npos);
}

TEST_CASE("of a Pod that was not Ready when its node went away, the node itself has to tell") {
  const kube::Pod starting =
      With(Waiting("ContainerCreating"), [](kube::Pod& p) { p.statuses.clear(); });
  const kube::Pod unready = With(Running(), [](kube::Pod& p) {
    p.ready = false;
    p.ready_reason = "ContainersNotReady";
    p.statuses[0].ready = false;
  });
  const kube::Pod going =
      With(unready, [](kube::Pod& p) { p.meta.deletion_time = base::WallTime{}; });
  const kube::Node silent{true, false, true, "Kubelet stopped posting node status."};
  const kube::Node sick{true, false, false, "container runtime is down"};
  const kube::Node gone{false, false, false, ""};
  const kube::Node fine{true, true, false, "kubelet is posting ready status"};
  for (const kube::Pod& pod : {unready, starting, Waiting("CrashLoopBackOff"),
                               Waiting("ImagePullBackOff"), Waiting("PodInitializing")}) {
    CHECK(box::NeedsNode(pod));
    for (const auto& [node, cause] : {std::pair{silent, "node node-1 does not report"},
                                      std::pair{gone, "node node-1 does not exist any more"},
                                      std::pair{sick, "not ready: container runtime is down"}}) {
      const auto report = box::DecidePodState(&pod, "agent", &node);
      CHECK(report.state == BoxState::kUnknown);
      CHECK(report.reason == "NodeNotReady");
      CHECK(report.cause.find(cause) != std::string::npos);
      CHECK(report.identity == box::DecidePodState(&pod, "agent").identity);
    }
    const auto well = box::DecidePodState(&pod, "agent", &fine);
    CHECK(well.state == box::DecidePodState(&pod, "agent").state);
    CHECK(well.reason == box::DecidePodState(&pod, "agent").reason);
  }
  CHECK(box::DecidePodState(&going, "agent", &silent).cause.find("--force") != std::string::npos);
  CHECK(box::DecidePodState(&going, "agent", &fine).reason == "PodTerminating");
  // What has ended for good stays so, and a Pod that is Ready is written to when its node goes.
  const kube::Pod failed = With(unready, [](kube::Pod& p) { p.phase = "Failed"; });
  CHECK(box::DecidePodState(&failed, "agent", &silent).state == BoxState::kStopped);
  CHECK_FALSE(box::NeedsNode(failed));
  CHECK_FALSE(box::NeedsNode(Running()));
  CHECK_FALSE(box::NeedsNode(With(Running(), [](kube::Pod& p) { p.ready = false; })));
  CHECK_FALSE(box::NeedsNode(With(starting, [](kube::Pod& p) { p.node = ""; })));
}

TEST_CASE("no Pod is Stopped; a container that is not there is named") {
  CHECK(box::DecidePodState(nullptr, "agent").state == BoxState::kStopped);
  CHECK(box::DecidePodState(nullptr, "agent").reason == "PodMissing");
  const kube::Pod pod = Running();
  const auto report = box::DecidePodState(&pod, "other");
  CHECK(report.reason == "ContainerMissing");
  CHECK(report.cause.find("spec.box.pod.container") != std::string::npos);
}

TEST_CASE("another container of the same Pod is another box; one that only stopped is the same") {
  kube::Pod pod = Running();
  const auto running = box::DecidePodState(&pod, "");
  CHECK(running.identity == "pod:u1/0123456789ab");
  pod.statuses[0].state = "terminated";
  CHECK(box::DecidePodState(&pod, "agent").identity == running.identity);
  pod.statuses[0] = {"agent", "containerd://99", "running", "", 0, "img:1", true};
  CHECK(box::DecidePodState(&pod, "agent").identity != running.identity);
}

TEST_CASE("the plugins path counts as persistent only on a writable volume that covers /configs") {
  kube::Pod pod = Running();
  CHECK(box::ConfigsOnVolume(pod, "agent"));
  CHECK(box::ConfigsOnVolume(pod, ""));
  CHECK_FALSE(box::ConfigsOnVolume(pod, "sidecar"));
  pod.containers[0].mounts = {"/configs/plugins", "/config", "/configs2"};
  CHECK_FALSE(box::ConfigsOnVolume(pod, "agent"));
  pod.containers[0].mounts = {"/configs/"};
  CHECK(box::ConfigsOnVolume(pod, "agent"));
  CHECK_FALSE(box::ConfigsDieWithPod(pod, "agent"));
  pod.containers[0].ephemeral = {"/configs/"};
  CHECK(box::ConfigsDieWithPod(pod, "agent"));
  CHECK(*kube::DecodePod(kube::EncodePod(pod)) == pod);
  pod.containers[0].mounts = {"/configs", "/"};
  pod.containers[0].ephemeral = {"/"};
  CHECK_FALSE(box::ConfigsDieWithPod(pod, "agent"));
}
