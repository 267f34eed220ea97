#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "reconcile/dependencies.hpp"
#include "runtime/controller.hpp"

namespace reconcile {

/// Summarises one DeclaredPlugin: its source's resolution and how its workspaces do. It changes no
/// box: that is the workspaces' pass.
class DeclaredPluginReconciler final : public runtime::Reconciler {
 public:
  explicit DeclaredPluginReconciler(Dependencies on)
      : on_(std::move(on)), examined_time_(on_.clock->Read().wall) {}
  base::Result<runtime::Requeue> Reconcile(const meta::ObjectKey& key,
                                           std::stop_token stop) override;
  /// The first status of each of `waiting` new DeclaredPlugins may come this much later than the
  /// first pass: when many come at once, what it would say is soon replaced, and each would be
  /// written twice. Until then observedGeneration is -1 (kstatus: InProgress). 25 ms for each that
  /// waits, 60 s at most.
  static base::Millis FirstStatusWait(size_t waiting);
  /// Status writes of one DeclaredPlugin at once, and one every so often after that: 300 workspaces
  /// that are deleted change its counts 300 times. What it would say meanwhile is not even summed
  /// up; a changed spec and a reconcile request are answered at once.
  static constexpr int kStatusBurst = 4;
  static constexpr base::Millis kStatusInterval{1'000};
  /// Workspaces examined by all passes so far (SC-8).
  uint64_t Examined() const { return examined_.load(); }
  /// When a pass has last examined one; before any has: when this was made.
  base::WallTime ExaminedTime() const { return examined_time_.load(); }

 private:
  std::optional<base::MonoTime> WaitUntil(const api::DeclaredPlugin& plugin, bool may_wait,
                                          base::MonoTime now);
  std::optional<base::MonoTime> HoldUntil(const api::DeclaredPlugin& plugin, base::MonoTime now);
  void NoteWrite(const meta::ObjectKey& key, base::MonoTime now);

  const Dependencies on_;
  std::mutex mutex_;
  /// DeclaredPlugins without a status, by key: UID and time of the first pass. By mutex_.
  std::unordered_map<meta::ObjectKey, std::pair<std::string, base::MonoTime>> waiting_;
  /// Up to when the status writes of a DeclaredPlugin are paid for, while that is to come. By
  /// mutex_.
  std::unordered_map<meta::ObjectKey, base::MonoTime> written_;
  size_t sweep_at_ = 64;  ///< Entries, before those of the past are dropped. By mutex_.
  std::atomic<uint64_t> examined_{0};
  std::atomic<base::WallTime> examined_time_;
};

}  // namespace reconcile
