#include "box/pod/pod_keeper.hpp"

#include <doctest/doctest.h>

#include "box/pod/pod_world.hpp"

namespace {

using codec::Json;

/// A Workspace whose Pod was made from the PodTemplate big, and runs.
struct Templated : pods::World {
  Templated() {
    workspace.spec.box.pod->image.clear();
    workspace.spec.box.pod->template_ref = api::LocalRef{"big"};
    Template() = {
        {"template",
         {{"spec",
           {{"containers",
             Json::array({{{"name", "m"}, {"image", "i"}, {"command", Json::array({"/x"})}}})}}}}}};
    REQUIRE(Box()->Provide({}));
    Run("w-box", "m");
  }
  Json& Template() { return api.objects["podtemplates/big"]; }
  /// BoxRunning as it was written so long ago.
  void Said(base::Seconds ago) {
    workspace.status.conditions = {{"BoxRunning", meta::ConditionStatus::kTrue, 0,
                                    base::SystemClock::Get().Read().wall - ago, "", ""}};
  }
  box::StateReport Pass() {
    const auto box = Box();
    CHECK(box->Provide({}));
    return box->State({});
  }
};

}  // namespace

TEST_CASE("a container that admission puts before the agent's is not taken for the agent's") {
  Templated world;
  // As a mesh does it: its proxy comes first, and does not mount /configs.
  Json& containers = world.Pod()["spec"]["containers"];
  containers.insert(containers.begin(), Json{{"name", "proxy"}, {"image", "mesh:1"}});
  Json& statuses = world.Pod()["status"]["containerStatuses"];
  statuses.insert(statuses.begin(),
                  Json{{"name", "proxy"},
                       {"containerID", "containerd://p1"},
                       {"state", {{"waiting", {{"reason", "CrashLoopBackOff"}}}}}});
  const box::StateReport report = world.Pass();
  CHECK(report.state == box::BoxState::kRunning);
  CHECK(report.identity.ends_with("/c1"));
  CHECK(report.plugins_path_persistent);
  REQUIRE(world.Box()->Probe({}, {}, {}));
  CHECK(world.exec.requests.back().container == "m");
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

TEST_CASE("a Pod that runs is kept when its template is gone or wrong, and looked after") {
  Templated world;
  CHECK(world.Pass().reason == "");
  const Json whole = world.Template();
  world.api.objects.erase("podtemplates/big");
  world.ca = "new";
  auto report = world.Pass();
  CHECK(report.state == box::BoxState::kRunning);
  CHECK(report.reason == "PodTemplateMissing");
  CHECK(report.cause ==
        "PodTemplate default/big does not exist; create it or correct spec.box.pod.templateRef; "
        "Pod w-box is kept as it is, and cannot be made again before");
  CHECK(world.api.patched.size() == 1);
  world.Template() = whole;
  world.Template()["template"]["spec"]["containers"] = Json::array();
  report = world.Pass();
  CHECK(report.state == box::BoxState::kRunning);
  CHECK(report.reason == "PodTemplateInvalid");
  world.Template() = whole;
  CHECK(world.Pass().reason == "");
  CHECK(world.api.deleted.empty());
  CHECK(world.api.created.size() == 1);
}

TEST_CASE("a Pod that has ended is not made again without its template, nor one of somebody else") {
  Templated world;
  world.api.objects.erase("podtemplates/big");
  const Json pod = world.Pod();
  world.Pod()["status"] = {{"phase", "Failed"}};
  CHECK(world.Box()->Provide({}).error().reason == "PodTemplateMissing");
  CHECK(world.Box()->Provide({}).error().code == base::Code::kInvalid);
  world.Pod() = pod;
  world.Pod()["metadata"].erase("ownerReferences");
  CHECK(world.Box()->Provide({}).error().reason == "PodTemplateMissing");
  world.Pod() = pod;
  world.api.fail = base::MakeError(base::Code::kUnavailable, "connection refused");
  CHECK(world.Box()->Provide({}).error().code == base::Code::kUnavailable);
  CHECK(world.api.deleted.empty());
}

TEST_CASE("a template that is missing is looked for again after as long as it has been missing") {
  Templated world;
  world.Said(base::Seconds{20});
  CHECK_FALSE(world.Pass().look_again);
  const Json pod = world.Pod();
  world.api.objects.erase("podtemplates/big");
  for (const bool there : {true, false}) {
    CAPTURE(there);
    if (there)
      world.Pod() = pod;
    else
      world.api.objects.erase("pods/w-box");
    const auto wait = [&] {
      const auto box = world.Box();
      CHECK(box->Provide({}).has_value() == there);
      return std::chrono::floor<base::Seconds>(box->State({}).look_again.value()).count();
    };
    for (const auto& [ago, seconds] : {std::pair{-9, 1}, {0, 1}, {20, 20}, {4000, 60}}) {
      CAPTURE(ago);
      world.Said(base::Seconds{ago});
      CHECK(wait() >= seconds);
      CHECK(wait() <= seconds + 2);
    }
    world.workspace.status.conditions.clear();
    CHECK(wait() == 1);
  }
}
