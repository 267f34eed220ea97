#include "app/operator_metrics.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <string>

namespace app {
namespace {

using runtime::Metrics;

/// Counts by label value. A value that is no more counted is set to 0 instead of staying as it was.
class Census {
 public:
  explicit Census(Metrics::Family family) : family_(std::move(family)) {}
  void Clear() {
    for (auto& [labels, count] : counts_) count = 0;
  }
  /// Shown as 0 from the first scrape on: an alert on what is absent would never fire.
  void Expect(Metrics::Labels labels) { counts_[std::move(labels)]; }
  void Add(Metrics::Labels labels) { ++counts_[std::move(labels)]; }
  void SetGauges(Metrics& metrics) const {
    for (const auto& [labels, count] : counts_)
      metrics.GaugeOf(family_, labels).Set(static_cast<double>(count));
  }

 private:
  const Metrics::Family family_;
  std::map<Metrics::Labels, size_t> counts_;
};

std::string ReadyOf(const std::vector<meta::Condition>& conditions) {
  const meta::Condition* ready = meta::FindCondition(conditions, "Ready");
  if (ready == nullptr) return "Unknown";
  return meta::ConditionStatusName(ready->status);
}

bool Stalled(const std::vector<meta::Condition>& conditions) {
  const meta::Condition* stalled = meta::FindCondition(conditions, "Stalled");
  return stalled != nullptr && stalled->status == meta::ConditionStatus::kTrue;
}

/// One pass over the caches, which takes 0.4 s for 120,000 objects: a scrape within a hundred times
/// as long (at most 30 s) is answered with what the last one counted.
class FleetCensus {
 public:
  explicit FleetCensus(const MetricSources& sources) : sources_(sources) {
    workspaces_.Expect({"Online", "True"});
    plugins_.Expect({"true", ""});
    declared_.Expect({"True"});
    restarts_.Expect({"Online", "Unknown"});
    stalled_.Expect({"Workspace"});
    stalled_.Expect({"DeclaredPlugin"});
  }
  void Collect(Metrics& metrics) {
    const base::MonoTime begin = std::chrono::steady_clock::now();
    if (begin < next_) return;
    Count(metrics);
    const base::MonoTime end = std::chrono::steady_clock::now();
    next_ = end + std::min<base::MonoTime::duration>((end - begin) * 100, kOldest);
  }

 private:
  static constexpr base::Seconds kOldest{30};

  void Count(Metrics& metrics) {
    for (Census* census : {&workspaces_, &plugins_, &declared_, &restarts_, &stalled_})
      census->Clear();
    oldest_restart_.reset();
    sources_.workspaces.Cache().ForEach([this](const api::Workspace& workspace) {
      const api::WorkspaceStatus& status = workspace.status;
      const Metrics::Labels labels{status.state.empty() ? "New" : status.state,
                                   ReadyOf(status.conditions)};
      workspaces_.Add(labels);
      if (status.pending_restart) {
        restarts_.Add(labels);
        if (const auto since = status.pending_restart->since)
          oldest_restart_ = std::min(oldest_restart_.value_or(*since), *since);
      }
      if (Stalled(status.conditions)) stalled_.Add({"Workspace"});
      for (const api::PluginRow& row : status.plugins)
        plugins_.Add({row.loaded ? "true" : "false", row.reason});
    });
    sources_.plugins.Cache().ForEach([this](const api::DeclaredPlugin& plugin) {
      declared_.Add({ReadyOf(plugin.status.conditions)});
      if (Stalled(plugin.status.conditions)) stalled_.Add({"DeclaredPlugin"});
    });
    for (const Census* census : {&workspaces_, &plugins_, &declared_, &restarts_, &stalled_})
      census->SetGauges(metrics);
    metrics
        .GaugeOf({"workspace_operator_oldest_pending_restart_seconds",
                  "Unix time since when the restart that has been owed for longest is owed; 0: "
                  "none is."})
        .Set(oldest_restart_
                 ? static_cast<double>(oldest_restart_->time_since_epoch().count()) / 1000
                 : 0);
  }

  const MetricSources sources_;
  base::MonoTime next_{};
  std::optional<base::WallTime> oldest_restart_;
  Census workspaces_{{"workspace_operator_workspaces",
                      "Workspaces by state and by their Ready condition.",
                      {"state", "ready"}}};
  Census plugins_{{"workspace_operator_plugins",
                   "Tracking rows of all workspaces, by whether they are loaded and by reason.",
                   {"loaded", "reason"}}};
  Census declared_{{"workspace_operator_declared_plugins",
                    "DeclaredPlugins by their Ready condition.",
                    {"ready"}}};
  Census restarts_{{"workspace_operator_pending_restarts",
                    "Workspaces that owe their box a restart, by state and Ready condition.",
                    {"state", "ready"}}};
  Census stalled_{{"workspace_operator_stalled",
                   "Objects that need a person: retrying cannot mend them.",
                   {"kind"}}};
};

void CollectTokens(Metrics& metrics, const PodTokens::Counts& counts) {
  const auto set = [&](Metrics::Family family, Metrics::Labels labels, size_t value) {
    metrics.GaugeOf(family, labels).Set(static_cast<double>(value));
  };
  set({"workspace_operator_pod_tokens_waiting",
       "Tokens of Pods' agents that the API server has not vouched for yet."},
      {}, counts.waiting);
  const Metrics::Family reviews{"workspace_operator_pod_token_reviews",
                                "Tokens of Pods' agents that were found out since the start.",
                                {"outcome"}};
  set(reviews, {"accepted"}, counts.accepted);
  set(reviews, {"denied"}, counts.denied);
  set(reviews, {"unanswered"}, counts.unanswered);
  set({"workspace_operator_pod_tokens_turned_away",
       "Times that a token of a Pod's agent found no room to wait, since the start."},
      {}, counts.turned_away);
}

void CollectCounts(Metrics& metrics, const MetricSources& sources) {
  const fleet::TableCounts counts = sources.fleet.Counts();
  const auto set = [&](const char* name, const char* help, double value) {
    metrics.GaugeOf({name, help}).Set(value);
  };
  set("workspace_operator_heartbeat_slots", "Workspaces that may report.",
      static_cast<double>(counts.slots));
  set("workspace_operator_heartbeat_reporting", "Workspaces whose last report is fresh.",
      static_cast<double>(counts.reporting));
  set("workspace_operator_heartbeats_recorded", "Heartbeats recorded since the start.",
      static_cast<double>(counts.recorded));
  set("workspace_operator_heartbeats_refused",
      "Heartbeats refused as replays or floods since the start.",
      static_cast<double>(counts.refused));
  set("workspace_operator_sweep_examined",
      "Workspaces that the declared plugins' sweep has examined since the start.",
      static_cast<double>(sources.sweep.Examined()));
  set("workspace_operator_sweep_examined_time_seconds",
      "When the declared plugins' sweep has last examined a workspace, since 1970; before it has: "
      "when the operator started.",
      static_cast<double>(sources.sweep.ExaminedTime().time_since_epoch().count()) / 1000);
  set("workspace_operator_resync_seconds", "How often every object is looked at without a cause.",
      static_cast<double>(sources.settings.Current()->policy.resync.count()) / 1000);
  set("workspace_operator_source_fetches", "Fetches of plugin sources since the start.",
      static_cast<double>(sources.artifacts.FetchCount()));
  set("workspace_operator_settings_rejected",
      "1 while the settings file cannot be used and the last good settings hold; 0 otherwise.",
      sources.settings.Problem() ? 1 : 0);
  set("workspace_operator_reviews_forbidden",
      "1 while somebody's token cannot be checked because the API server forbids the operator "
      "TokenReviews or SubjectAccessReviews; 0 otherwise.",
      sources.reviews.Problem() ? 1 : 0);
}

}  // namespace

Metrics::Collector AddOperatorMetrics(Metrics& metrics, const MetricSources& sources) {
  return metrics.OnScrape([&metrics, sources, census = std::make_shared<FleetCensus>(sources)] {
    CollectCounts(metrics, sources);
    CollectTokens(metrics, sources.pods ? sources.pods->TokenCounts() : PodTokens::Counts{});
    census->Collect(metrics);
  });
}

void CountBoxCall(Metrics& metrics, const box::BoxSample& sample) {
  metrics
      .CounterOf({"workspace_operator_box_calls_total",
                  "Calls that left the process towards a box.",
                  {"call", "outcome"}},
                 {std::string(sample.call), std::string(sample.outcome)})
      .Add();
  if (sample.plugins == 0) return;
  metrics
      .CounterOf({"workspace_operator_box_plugins_total",
                  "Plugins that calls on boxes succeeded for.",
                  {"call"}},
                 {std::string(sample.call)})
      .Add(static_cast<double>(sample.plugins));
}

}  // namespace app
