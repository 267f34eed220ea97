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
