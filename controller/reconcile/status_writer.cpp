#include "reconcile/status_writer.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "codec/merge_patch.hpp"
#include "codec/resources.hpp"

namespace reconcile {
namespace {

using codec::Json;

struct Write {
  const kube::Resource& resource;
  const meta::ObjectMeta& meta;
  Json before, after;
  std::string version = {};  ///< Not empty: a compare-and-swap on it.
};

/// What was sent, and the answer's bytes: empty when nothing differs.
struct Sent {
  Json status;
  std::string answer;
};

base::Result<Sent> Patch(kube::Client& client, const Write& write, std::stop_token stop) {
  Sent sent{codec::DiffMergePatch(write.before, write.after), ""};
  if (sent.status.empty()) return sent;
  Json metadata{{"uid", write.meta.uid}};
  if (!write.version.empty()) metadata["resourceVersion"] = write.version;
  const Json body{{"metadata", std::move(metadata)}, {"status", sent.status}};
  kube::WriteOptions options;
  options.call = {.deadline = base::Seconds{30}, .stop = stop};
  auto answer = client.PatchStatus({write.resource, write.meta.ns, write.meta.name},
                                   {kube::PatchType::kMerge, codec::Dump(body)}, options);
  if (!answer) return std::move(answer).error();
  sent.answer = *std::move(answer);
  return sent;
}

/// The path of a member that was sent and is not in what the server has stored; empty: all are.
std::string Dropped(const Json& sent, const Json& stored, const std::string& path) {
  if (sent.is_array() && stored.is_array() && sent.size() == stored.size()) {
    for (size_t i = 0; i < sent.size(); ++i)
      if (auto lost = Dropped(sent[i], stored[i], path + "[]"); !lost.empty()) return lost;
  }
  if (!sent.is_object()) return {};
  for (const auto& [name, value] : sent.items()) {
    const std::string at = path + "." + name;
    if (value.is_null()) continue;
    if (!stored.is_object() || !stored.contains(name)) return at;
    if (auto lost = Dropped(value, stored.at(name), at); !lost.empty()) return lost;
  }
  return {};
}

/// A server whose schema lacks a field drops it without an error: rows or a debt would be lost, and
/// every pass would write them again.
base::Status CheckStored(const Write& write, const Json& sent, const Json& stored) {
  const std::string lost = Dropped(sent, stored, "status");
  if (lost.empty()) return {};
  return base::MakeError(
      base::Code::kUnavailable,
      fmt::format("write {} of {} {}: the API server has dropped the field: the installed CRD is "
                  "older than this operator; apply the CRDs of this version",
                  lost, write.resource.plural, write.meta.Key().Text()),
      kSchemaOutdated);
}

base::Result<std::string> PatchWorkspace(const Dependencies& on, const Write& write,
                                         std::stop_token stop) {
  const runtime::Informer<api::Workspace>::WriteInFlight flight(on.workspaces, write.meta.Key());
  auto sent = Patch(on.client, write, stop);
  if (!sent) return std::move(sent).error();
  if (sent->answer.empty()) return std::string();
  auto written = codec::DecodeWorkspace(sent->answer);
  if (!written) return std::move(written).error();
  std::string version = written->meta.resource_version;
  const base::Status stored =
      CheckStored(write, sent->status, codec::EncodeWorkspaceStatus(written->status));
  on.workspaces.ObserveWrite(*std::move(written));
  if (!stored) return stored.error();
  return version;
}

}  // namespace

base::Result<std::string> WriteStatus(const Dependencies& on, const api::Workspace& object,
                                      const WrittenStatus& before,
                                      const api::WorkspaceStatus& after, std::stop_token stop) {
  const api::WorkspaceStatus& last = before.status;
  if (last == after) return std::string();  // Nearly every pass: spares encoding both.
  const auto& finalizers = object.meta.finalizers;
  const bool may_have_namesake =
      std::find(finalizers.begin(), finalizers.end(), api::kFinalizer) == finalizers.end();
  const bool lock = may_have_namesake || last.plugins != after.plugins ||
                    last.pending_restart != after.pending_restart ||
                    last.recovery != after.recovery;
  return PatchWorkspace(
      on,
      {kube::kWorkspaces, object.meta, codec::EncodeWorkspaceStatus(last),
       codec::EncodeWorkspaceStatus(after), lock ? before.version : std::string()},
      stop);
}

base::Result<std::string> WriteIntent(const Dependencies& on, const api::Workspace& object,
                                      const api::WorkspaceStatus& intent, std::stop_token stop) {
  return PatchWorkspace(
      on,
      {kube::kWorkspaces, object.meta, codec::EncodeWorkspaceStatus(object.status),
       codec::EncodeWorkspaceStatus(intent), object.meta.resource_version},
      stop);
}

base::Result<bool> WriteStatus(const Dependencies& on, const api::DeclaredPlugin& object,
                               const api::DeclaredPluginStatus& before,
                               const api::DeclaredPluginStatus& after, std::stop_token stop) {
  if (before == after) return false;
  // It has no finalizer of ours: it may have been made anew under its name.
  const Write write{kube::kDeclaredPlugins, object.meta, codec::EncodeDeclaredPluginStatus(before),
                    codec::EncodeDeclaredPluginStatus(after), object.meta.resource_version};
  const runtime::Informer<api::DeclaredPlugin>::WriteInFlight flight(on.plugins, object.meta.Key());
  auto sent = Patch(on.client, write, stop);
  if (!sent) return std::move(sent).error();
  if (sent->answer.empty()) return false;
  auto written = codec::DecodeDeclaredPlugin(sent->answer);
  if (!written) return std::move(written).error();
  const base::Status stored =
      CheckStored(write, sent->status, codec::EncodeDeclaredPluginStatus(written->status));
  on.plugins.ObserveWrite(*std::move(written));
  if (!stored) return stored.error();
  return true;
}

}  // namespace reconcile
