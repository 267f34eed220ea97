#pragma once

#include <atomic>

#include "reconcile/dependencies.hpp"
#include "runtime/controller.hpp"

namespace reconcile {

/// Summarises one DeclaredPlugin: its source's resolution and how its workspaces do. It changes no
/// box: that is the workspaces' pass.
class DeclaredPluginReconciler final : public runtime::Reconciler {
 public:
  explicit DeclaredPluginReconciler(Dependencies on) : on_(std::move(on)) {}
  base::Result<runtime::Requeue> Reconcile(const meta::ObjectKey& key,
                                           std::stop_token stop) override;
  /// Workspaces examined by all passes so far (SC-8).
  uint64_t Examined() const { return examined_.load(); }

 private:
  const Dependencies on_;
  std::atomic<uint64_t> examined_{0};
};

}  // namespace reconcile
