#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "app/cluster/agent_ca_file.hpp"
#include "app/cluster/pod_tokens.hpp"
#include "app/settings/settings.hpp"
#include "box/pod/pod_box.hpp"
#include "kube/client.hpp"
#include "kube/kubeconfig.hpp"
#include "kube/pod_exec.hpp"
#include "runtime/informer/informer.hpp"
#include "runtime/manager.hpp"

namespace app {

/// False: the API server has no Pods (the embedded one), so that Pod boxes are BoxTypeUnavailable.
/// One that does not answer is taken to have them.
bool ServesPods(kube::Client& client);

/// Everything that serving Pod boxes needs of a running operator: the informer of labelled Pods,
/// pods/exec, and the tokens of the agents in them.
class PodParts {
 public:
  struct Needs {
    const kube::ClientConfig& api;
    kube::Client& client;
    Reviews& reviews;
    std::string ns;  ///< Watched; empty: all.
    fleet::HeartbeatTable& table;
    PodTokens::FindWorkspace find_workspace;
    std::function<void(const meta::ObjectKey& workspace)> wake;
    std::function<void()> effect_lost;  ///< What kube::PodExec tells of as `run_lost`.
    runtime::InformerOptions informer;
  };
  static base::Result<std::unique_ptr<PodParts>> Make(Needs needs);

  /// For one pass; the settings as last read. `own_ca`: PEM of the authority of our own endpoint,
  /// for agents that the settings give no other one; empty: none.
  box::PodMaker Maker(const Settings& settings, std::string own_ca) const;
  std::optional<base::Error> Consider(std::string_view token) { return tokens_.Consider(token); }
  /// The informer's end of the start-up, and the reviewer. Before the controllers.
  void AddTo(runtime::Manager& manager);
  bool HasSynced() const { return pods_.HasSynced(); }
  PodTokens::Counts TokenCounts() const { return tokens_.Count(); }
  runtime::InformerStats Stats() const { return pods_.Stats(); }

 private:
  PodParts(Needs needs, std::unique_ptr<kube::PodExec> exec);
  void WakeAll();
  void OnPod(const runtime::ObjectEvent<kube::Pod>& event);

  Needs needs_;
  std::unique_ptr<kube::PodExec> exec_;
  std::unique_ptr<runtime::ListWatch> source_;
  runtime::Informer<kube::Pod> pods_;
  PodTokens tokens_;
  mutable AgentCaFile agent_ca_;
  const std::unique_ptr<box::PodMemory> memory_ = std::make_unique<box::PodMemory>();
};

}  // namespace app
