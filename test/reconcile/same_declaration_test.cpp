#include <doctest/doctest.h>

#include <functional>

#include "reconcile/dependencies.hpp"

TEST_CASE("what wakes the workspaces of a declaration: everything of it but its status") {
  api::DeclaredPlugin before;
  before.meta.uid = "u";
  const auto same = [&](const std::function<void(api::DeclaredPlugin&)>& change) {
    api::DeclaredPlugin after = before;
    change(after);
    return reconcile::SameDeclaration(before, after);
  };
  CHECK(same([](api::DeclaredPlugin& p) { p.status.observed_generation = 5; }));
  CHECK(same([](api::DeclaredPlugin& p) { p.meta.resource_version = "7"; }));
  CHECK_FALSE(same([](api::DeclaredPlugin& p) { p.meta.uid = "another"; }));
  CHECK_FALSE(same([](api::DeclaredPlugin& p) { p.spec.source = "gitea://o/r#tag:v2"; }));
  CHECK_FALSE(same([](api::DeclaredPlugin& p) { p.meta.labels["a"] = "b"; }));
  CHECK_FALSE(same([](api::DeclaredPlugin& p) { p.meta.annotations["a"] = "b"; }));
  CHECK_FALSE(same([](api::DeclaredPlugin& p) { p.meta.deletion_time = base::WallTime{}; }));
}

TEST_CASE("what wakes the declarations of a workspace: all that their status may tell of") {
  api::Workspace before;
  before.meta.uid = "u";
  const auto same = [&](const std::function<void(api::Workspace&)>& change) {
    api::Workspace after = before;
    change(after);
    return reconcile::SameForDeclarations(before, after);
  };
  CHECK(same([](api::Workspace& w) { w.meta.resource_version = "7"; }));
  CHECK(same([](api::Workspace& w) { w.meta.annotations["a"] = "b"; }));
  CHECK_FALSE(same([](api::Workspace& w) { w.meta.uid = "another"; }));
  CHECK_FALSE(same([](api::Workspace& w) { w.meta.generation = 2; }));
  CHECK_FALSE(same([](api::Workspace& w) { w.meta.labels["a"] = "b"; }));
  CHECK_FALSE(same([](api::Workspace& w) { w.meta.deletion_time = base::WallTime{}; }));
  CHECK_FALSE(same([](api::Workspace& w) { w.spec.suspend = true; }));
  CHECK_FALSE(same([](api::Workspace& w) { w.status.plugins.emplace_back(); }));
}

TEST_CASE("workspaces that name one Pod find each other, and the elder has it") {
  api::Workspace a, b;
  a.meta.ns = b.meta.ns = "team";
  a.meta.name = "a";
  b.meta.name = "b";
  a.spec.box.type = b.spec.box.type = api::BoxType::kPod;
  a.spec.box.pod = api::PodBox{};
  CHECK(reconcile::IndexOf(a) == std::vector<std::string>{"team"});
  a.spec.box.pod->pod_ref = api::LocalRef{"p-0"};
  CHECK(reconcile::IndexOf(a) == std::vector<std::string>{"team", "pod:team/p-0"});
  b.spec.box.pod = a.spec.box.pod;
  CHECK(reconcile::IndexOf(b) == reconcile::IndexOf(a));
  const base::WallTime day{};
  a.meta.creation_time = b.meta.creation_time = day;
  CHECK(reconcile::ComesFirst(a, b));
  CHECK_FALSE(reconcile::ComesFirst(b, a));
  a.meta.creation_time = day + base::Seconds{1};
  CHECK(reconcile::ComesFirst(b, a));
  CHECK_FALSE(reconcile::ComesFirst(a, a));
}
