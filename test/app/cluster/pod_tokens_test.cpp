#include "app/cluster/pod_tokens.hpp"

#include <doctest/doctest.h>

namespace {

api::Workspace Managed() {
  api::Workspace workspace;
  workspace.meta.ns = "team";
  workspace.meta.name = "w";
  workspace.meta.uid = "w-uid";
  workspace.spec.box.type = api::BoxType::kPod;
  workspace.spec.box.pod = api::PodBox{};
  workspace.spec.box.pod->image = "i";
  return workspace;
}

kube::Pod Pod(const std::string& name, const std::string& owner_uid) {
  kube::Pod pod;
  pod.meta.ns = "team";
  pod.meta.name = name;
  if (!owner_uid.empty())
    pod.meta.owners.push_back({"molecule.ai/v1alpha1", "Workspace", "w", owner_uid, true, false});
  return pod;
}

}  // namespace

TEST_CASE("a Pod speaks for a Workspace only if it is that Workspace's box") {
  api::Workspace workspace = Managed();
  CHECK(app::PodTokens::IsBoxOf(workspace, Pod("w-box", "w-uid")));
  // Whoever may create Pods may write any owner.
  CHECK_FALSE(app::PodTokens::IsBoxOf(workspace, Pod("thief", "w-uid")));
  CHECK_FALSE(app::PodTokens::IsBoxOf(workspace, Pod("w-box", "an-earlier-uid")));
  CHECK_FALSE(app::PodTokens::IsBoxOf(workspace, Pod("w-box", "")));
  workspace.spec.box.pod = api::PodBox{};
  workspace.spec.box.pod->pod_ref = api::LocalRef{"mine"};
  CHECK(app::PodTokens::IsBoxOf(workspace, Pod("mine", "")));
  CHECK_FALSE(app::PodTokens::IsBoxOf(workspace, Pod("w-box", "w-uid")));
  kube::Pod elsewhere = Pod("mine", "");
  elsewhere.meta.ns = "another";
  CHECK_FALSE(app::PodTokens::IsBoxOf(workspace, elsewhere));
  workspace.spec.box.pod.reset();
  CHECK_FALSE(app::PodTokens::IsBoxOf(workspace, Pod("mine", "")));
}

TEST_CASE("the Workspace of a Pod is its owner, else what its label names") {
  kube::Pod pod = Pod("w-box", "w-uid");
  CHECK(app::PodTokens::WorkspaceOf(pod) == meta::ObjectKey{"team", "w"});
  pod.meta.labels["molecule.ai/workspace"] = "other";
  CHECK(app::PodTokens::WorkspaceOf(pod).name == "w");
  pod.meta.owners.clear();
  CHECK(app::PodTokens::WorkspaceOf(pod).name == "other");
  pod.meta.labels.clear();
  CHECK(app::PodTokens::WorkspaceOf(pod).name == "");
}
