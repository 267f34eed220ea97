#include "reconcile/status_writer.hpp"

#include "codec/merge_patch.hpp"
#include "codec/resources.hpp"

namespace reconcile {
namespace {

using codec::Json;

struct Write {
  const kube::Resource& resource;
  const meta::ObjectMeta& meta;
  Json before, after;
  bool lock = false;  ///< Compare-and-swap on resourceVersion.
};

/// The answer's bytes; empty when nothing differs.
base::Result<std::string> Patch(kube::Client& client, const Write& write, std::stop_token stop) {
  Json patch = codec::DiffMergePatch(write.before, write.after);
  if (patch.empty()) return std::string();
  Json metadata{{"uid", write.meta.uid}};
  if (write.lock) metadata["resourceVersion"] = write.meta.resource_version;
  const Json body{{"metadata", std::move(metadata)}, {"status", std::move(patch)}};
  kube::WriteOptions options;
  options.call = {.deadline = base::Seconds{30}, .stop = stop};
  return client.PatchStatus({write.resource, write.meta.ns, write.meta.name},
                            {kube::PatchType::kMerge, codec::Dump(body)}, options);
}

base::Result<bool> PatchWorkspace(const Dependencies& on, const Write& write,
                                  std::stop_token stop) {
  auto answer = Patch(on.client, write, stop);
  if (!answer) return std::move(answer).error();
  if (answer->empty()) return false;
  auto written = codec::DecodeWorkspace(*answer);
  if (!written) return std::move(written).error();
  on.workspaces.ObserveWrite(*std::move(written));
  return true;
}

}  // namespace

base::Result<bool> WriteStatus(const Dependencies& on, const api::Workspace& object,
                               const api::WorkspaceStatus& before,
                               const api::WorkspaceStatus& after, std::stop_token stop) {
  if (before == after) return false;  // Nearly every pass: spares encoding both.
  return PatchWorkspace(on,
                        {kube::kWorkspaces, object.meta, codec::EncodeWorkspaceStatus(before),
                         codec::EncodeWorkspaceStatus(after)},
                        stop);
}

base::Result<bool> WriteIntent(const Dependencies& on, const api::Workspace& object,
                               const api::WorkspaceStatus& intent, std::stop_token stop) {
  return PatchWorkspace(
      on,
      {kube::kWorkspaces, object.meta, codec::EncodeWorkspaceStatus(object.status),
       codec::EncodeWorkspaceStatus(intent), true},
      stop);
}

base::Result<bool> WriteStatus(const Dependencies& on, const api::DeclaredPlugin& object,
                               const api::DeclaredPluginStatus& before,
                               const api::DeclaredPluginStatus& after, std::stop_token stop) {
  if (before == after) return false;
  auto answer =
      Patch(on.client,
            {kube::kDeclaredPlugins, object.meta, codec::EncodeDeclaredPluginStatus(before),
             codec::EncodeDeclaredPluginStatus(after)},
            stop);
  if (!answer) return std::move(answer).error();
  if (answer->empty()) return false;
  auto written = codec::DecodeDeclaredPlugin(*answer);
  if (!written) return std::move(written).error();
  on.plugins.ObserveWrite(*std::move(written));
  return true;
}

}  // namespace reconcile
