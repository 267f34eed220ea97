#pragma once

#include <memory>

#include "api/declared_plugin.hpp"
#include "api/workspace.hpp"
#include "app/cluster/pod_parts.hpp"
#include "app/cluster/reviews.hpp"
#include "app/settings/settings_file.hpp"
#include "box/metered_box.hpp"
#include "fleet/heartbeat_table.hpp"
#include "reconcile/declared_plugin_reconciler.hpp"
#include "runtime/informer/informer.hpp"
#include "runtime/metrics.hpp"
#include "source/artifact_store.hpp"

namespace app {

/// What the operator's own numbers are read from at each scrape. All outlive the collector.
struct MetricSources {
  const runtime::Informer<api::Workspace>& workspaces;
  const runtime::Informer<api::DeclaredPlugin>& plugins;
  const fleet::HeartbeatTable& fleet;
  const reconcile::DeclaredPluginReconciler& sweep;
  const source::ArtifactStore& artifacts;
  const SettingsFile& settings;
  const Reviews& reviews;
  const PodParts* pods;  ///< Null: no Pod boxes.
};

/// workspace_operator_*: the names are listed in docs/reference/metrics.md.
[[nodiscard]] runtime::Metrics::Collector AddOperatorMetrics(runtime::Metrics& metrics,
                                                             const MetricSources& sources);

/// workspace_operator_box_calls_total{call,outcome} and workspace_operator_box_plugins_total{call}.
void CountBoxCall(runtime::Metrics& metrics, const box::BoxSample& sample);

}  // namespace app
