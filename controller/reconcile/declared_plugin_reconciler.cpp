#include "reconcile/declared_plugin_reconciler.hpp"

#include <algorithm>
#include <tuple>

#include "core/plan/plugin_status.hpp"
#include "core/status_text.hpp"
#include "reconcile/status_writer.hpp"

namespace reconcile {

base::Millis DeclaredPluginReconciler::FirstStatusWait(size_t waiting) {
  constexpr size_t kMost = 2'400;
  return base::Millis{25} * std::min(waiting, kMost);
}

/// Until when the status is not written yet; nothing: it is to be written.
std::optional<base::MonoTime> DeclaredPluginReconciler::WaitUntil(const api::DeclaredPlugin& plugin,
                                                                  bool may_wait,
                                                                  base::MonoTime now) {
  const std::lock_guard lock(mutex_);
  const meta::ObjectKey key = plugin.meta.Key();
  if (!may_wait) {
    waiting_.erase(key);
    return std::nullopt;
  }
  auto& [uid, since] = waiting_.try_emplace(key, plugin.meta.uid, now).first->second;
  if (uid != plugin.meta.uid) std::tie(uid, since) = std::pair(plugin.meta.uid, now);
  const base::MonoTime until = since + FirstStatusWait(waiting_.size());
  if (now < until) return until;
  waiting_.erase(key);
  return std::nullopt;
}

/// Until when its status has been written often enough; nothing: it may be written.
std::optional<base::MonoTime> DeclaredPluginReconciler::HoldUntil(const api::DeclaredPlugin& plugin,
                                                                  base::MonoTime now) {
  const bool asked =
      plugin.status.observed_generation != plugin.meta.generation ||
      core::ReconcileRequested(plugin.meta.annotations, plugin.status.last_handled_reconcile_at);
  if (asked) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const auto written = written_.find(plugin.meta.Key());
  if (written == written_.end()) return std::nullopt;
  const base::MonoTime until = written->second - kStatusInterval * (kStatusBurst - 1);
  return now < until ? std::optional(until) : std::nullopt;
}

void DeclaredPluginReconciler::NoteWrite(const meta::ObjectKey& key, base::MonoTime now) {
  const std::lock_guard lock(mutex_);
  base::MonoTime& paid = written_.try_emplace(key, now).first->second;
  paid = std::max(paid, now) + kStatusInterval;
  if (written_.size() < sweep_at_) return;
  std::erase_if(written_, [&](const auto& entry) { return entry.second <= now; });
  sweep_at_ = std::max<size_t>(64, 2 * written_.size());
}

base::Result<runtime::Requeue> DeclaredPluginReconciler::Reconcile(const meta::ObjectKey& key,
                                                                   std::stop_token stop) {
  const auto plugin = on_.plugins.Get(key);
  if (!plugin || plugin->meta.deletion_time) {
    on_.sources.Forget({AskerKind::kDeclaredPlugin, key});
    const std::lock_guard lock(mutex_);
    waiting_.erase(key);
    written_.erase(key);
    return runtime::Requeue::None();
  }
  if (const auto until = HoldUntil(*plugin, on_.clock->Read().mono)) return Until(on_, *until);
  const auto policy = on_.policy();
  core::DeclaredPluginObservation observation;
  observation.object = *plugin;
  const auto uri = core::ParseSourceUri(plugin->spec.source);
  if (!uri) {
    observation.resolution.state = core::ResolutionView::State::kFailed;
    observation.resolution.error = uri.error();
  } else if (!plugin->spec.suspend) {
    const SourceQuestion question{
        .uri = *uri,
        .ns = key.ns,
        .secret = plugin->spec.source_secret_ref,
        .interval = base::Seconds{plugin->spec.update.interval_seconds},
        .refresh = core::ReconcileRequested(plugin->meta.annotations,
                                            plugin->status.last_handled_reconcile_at)};
    observation.resolution = on_.sources.Find(question, {AskerKind::kDeclaredPlugin, key}, stop);
  }
  const auto selected = SelectedBy(on_, *plugin, &observation.workspaces_examined);
  for (const auto& workspace : selected) observation.matched.push_back(workspace.get());
  const base::Now now = on_.clock->Read();
  examined_ += observation.workspaces_examined;
  if (observation.workspaces_examined > 0) examined_time_ = now.wall;

  const core::DeclaredPluginSummary summary =
      core::SummariseDeclaredPlugin(observation, *policy, now);
  if (const auto until = WaitUntil(*plugin, summary.may_wait, now.mono))
    return Until(on_, std::min(*until, summary.next_check));
  auto wrote = WriteStatus(on_, *plugin, plugin->status, summary.status, stop);
  if (!wrote && wrote.error().code != base::Code::kNotFound) return std::move(wrote).error();
  if (wrote && *wrote) NoteWrite(key, now.mono);
  return Until(on_, summary.next_check);
}

}  // namespace reconcile
