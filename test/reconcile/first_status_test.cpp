#include <doctest/doctest.h>

#include "reconcile/declared_plugin_reconciler.hpp"

TEST_CASE("one new DeclaredPlugin has its first status at once; ten thousand wait a minute") {
  using reconcile::DeclaredPluginReconciler;
  CHECK(DeclaredPluginReconciler::FirstStatusWait(1) == base::Millis{25});
  CHECK(DeclaredPluginReconciler::FirstStatusWait(100) == base::Millis{2'500});
  CHECK(DeclaredPluginReconciler::FirstStatusWait(10'000) == base::Millis{60'000});
}
