#include "app/cluster/pod_parts.hpp"

#include "app/cluster/kube_ports.hpp"
#include "base/log.hpp"

namespace app {
namespace {

runtime::InformerFormat<kube::Pod> PodFormat() {
  runtime::InformerFormat<kube::Pod> format;
  format.decode = kube::DecodePod;
  format.cache.pack = kube::EncodePod;
  format.cache.unpack = kube::DecodePod;
  return format;
}

}  // namespace

bool ServesPods(kube::Client& client) {
  const auto core = client.GetRaw("/api/v1", {.deadline = base::Seconds{10}});
  if (!core || core->find("\"pods\"") != std::string::npos) return true;
  base::LogInfo("the API server serves no Pods: boxes of type Pod are not available");
  return false;
}

base::Result<std::unique_ptr<PodParts>> PodParts::Make(Needs needs) {
  auto exec = kube::PodExec::Create(
      needs.api, [&client = needs.client] { return client.MayWrite(); }, needs.effect_lost);
  if (!exec) return std::move(exec).error();
  return std::unique_ptr<PodParts>(new PodParts(std::move(needs), *std::move(exec)));
}

PodParts::PodParts(Needs needs, std::unique_ptr<kube::PodExec> exec)
    : needs_(std::move(needs)),
      exec_(std::move(exec)),
      source_(MakeListWatch(needs_.client, kube::kPods, needs_.ns, box::kWorkspaceLabel)),
      pods_(needs_.informer, PodFormat(), *source_),
      tokens_(
          needs_.client, needs_.reviews, needs_.table, needs_.find_workspace, [this] { WakeAll(); },
          base::SystemClock::Get()) {
  pods_.AddHandler([this](const runtime::ObjectEvent<kube::Pod>& event) { OnPod(event); });
}

/// What their Workspaces say of them has changed, and no Pod's event says it.
void PodParts::WakeAll() {
  pods_.Cache().ForEach([this](const kube::Pod& pod) {
    const meta::ObjectKey workspace = PodTokens::WorkspaceOf(pod);
    if (!workspace.name.empty()) needs_.wake(workspace);
  });
}

void PodParts::OnPod(const runtime::ObjectEvent<kube::Pod>& event) {
  if (event.kind == runtime::ObjectEventKind::kResync) return;
  for (const auto& pod : {event.object, event.old_object}) {
    if (!pod) continue;
    const meta::ObjectKey workspace = PodTokens::WorkspaceOf(*pod);
    if (workspace.name.empty()) continue;
    // The API lets a token die with its Pod: so do we.
    if (event.kind == runtime::ObjectEventKind::kDeleted)
      if (const auto owner = needs_.find_workspace(workspace))
        needs_.table.DropReviewedTokens(owner->meta.uid);
    needs_.wake(workspace);
    return;
  }
}

box::PodMaker PodParts::Maker(const Settings& settings, std::string own_ca) const {
  box::PodDependencies out;
  out.client = &needs_.client;
  out.exec = exec_.get();
  out.tokens_refused = [this] { return needs_.reviews.TokenProblem(); };
  out.find_pod = [this](const meta::ObjectKey& key) { return pods_.Get(key); };
  out.managed = {settings.agent_image, settings.agent_url, std::move(own_ca),
                 settings.command_by_runtime, settings.settings_file_by_runtime};
  if (!settings.agent_ca_file.empty()) {
    auto pem = agent_ca_.Read(settings.agent_ca_file);
    if (pem) {
      out.managed.agent_ca_pem = *std::move(pem);
    } else {  // Our own is none that a Pod's agent could trust there.
      out.managed.agent_ca_pem.clear();
      out.managed.agent_ca_problem = std::move(pem).error().message;
    }
  }
  out.memory = memory_.get();
  return box::PodBoxMaker(std::move(out));
}

void PodParts::AddTo(runtime::Manager& manager) {
  manager.Add({"pods", [this](std::stop_token stop) { return pods_.Run(stop); },
               [this](std::stop_token stop) { return pods_.WaitForSync(stop); }});
  manager.Add({"pod-tokens", [this](std::stop_token stop) { return tokens_.Run(stop); }});
}

}  // namespace app
