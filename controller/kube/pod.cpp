#include "kube/pod.hpp"

#include <algorithm>
#include <set>

#include "base/utf8.hpp"
#include "codec/json.hpp"
#include "codec/resources.hpp"

namespace kube {
namespace {

using codec::Json;

constexpr size_t kTextBytes = 512;
constexpr size_t kMessageBytes = 256;
constexpr size_t kContainers = 64;
constexpr char kEphemeral[] = "ephemeral";  ///< In what EncodePod makes.

/// Calls `read` for each of at most 64 items.
template <typename Read>
void ForEach(const Json& list, const Read& read) {
  for (size_t i = 0; list.is_array() && i < std::min(list.size(), kContainers); ++i) read(list[i]);
}

std::string Text(const Json& object, const char* name) {
  return base::CutUtf8(codec::GetString(object, name), kTextBytes);
}

/// Which Secret or ConfigMap is missing. Of other reasons it changes with every attempt.
std::string MessageOf(const Json& waiting) {
  if (codec::GetString(waiting, "reason") != "CreateContainerConfigError") return "";
  return base::CutUtf8(codec::GetString(waiting, "message"), kMessageBytes);
}

PodContainer ReadStatus(const Json& item) {
  PodContainer out;
  out.name = Text(item, "name");
  out.id = Text(item, "containerID");
  out.image = Text(item, "image");
  out.ready = codec::GetBool(item, "ready");
  const Json& state = codec::GetMember(item, "state");
  for (const char* name : {"running", "waiting", "terminated"}) {
    const Json& member = codec::GetMember(state, name);
    if (!member.is_object()) continue;
    out.state = name;
    out.reason = Text(member, "reason");
    out.exit_code = codec::GetInt(member, "exitCode");
    if (out.id.empty()) out.id = Text(member, "containerID");
    if (out.state == "running") out.started = base::ParseTime(Text(member, "startedAt"));
  }
  const Json& last = codec::GetMember(codec::GetMember(item, "lastState"), "terminated");
  if (out.id.empty()) out.id = Text(last, "containerID");
  out.message = MessageOf(codec::GetMember(state, "waiting"));
  out.ran_before = !last.empty() || codec::GetInt(item, "restartCount") > 0;
  if (out.state == "waiting" && last.is_object()) {
    out.exit_code = codec::GetInt(last, "exitCode");
    out.last_reason = Text(last, "reason");
  }
  return out;
}

Json StatusJson(const PodContainer& container) {
  Json state = {{"reason", container.reason}};
  if (container.state != "waiting") state["exitCode"] = container.exit_code;
  if (!container.message.empty()) state["message"] = container.message;
  if (container.started) state["startedAt"] = base::FormatTime(*container.started);
  Json out{{"name", container.name},
           {"containerID", container.id},
           {"image", container.image},
           {"ready", container.ready},
           {"restartCount", container.ran_before ? 1 : 0}};
  if (!container.state.empty()) out["state"][container.state] = std::move(state);
  if (container.state == "waiting" && (container.exit_code != 0 || !container.last_reason.empty()))
    out["lastState"]["terminated"] = {{"exitCode", container.exit_code},
                                      {"reason", container.last_reason}};
  return out;
}

/// The volumes that are made and removed together with the Pod.
std::set<std::string> EphemeralVolumes(const Json& spec) {
  std::set<std::string> names;
  ForEach(codec::GetMember(spec, "volumes"), [&](const Json& volume) {
    if (codec::GetMember(volume, "emptyDir").is_object() ||
        codec::GetMember(volume, "ephemeral").is_object())
      names.insert(Text(volume, "name"));
  });
  return names;
}

PodContainerSpec ReadSpec(const Json& item, const std::set<std::string>& ephemeral) {
  PodContainerSpec out;
  out.name = Text(item, "name");
  ForEach(codec::GetMember(item, "volumeMounts"), [&](const Json& mount) {
    if (codec::GetBool(mount, "readOnly")) return;
    out.mounts.push_back(Text(mount, "mountPath"));
    if (ephemeral.contains(Text(mount, "name"))) out.ephemeral.push_back(out.mounts.back());
  });
  return out;
}

Json SpecJson(const PodContainerSpec& container) {
  Json out{{"name", container.name}};
  for (const std::string& path : container.mounts) {
    const bool dies = std::find(container.ephemeral.begin(), container.ephemeral.end(), path) !=
                      container.ephemeral.end();
    out["volumeMounts"].push_back({{"mountPath", path}, {"name", dies ? kEphemeral : ""}});
  }
  return out;
}

void ReadCondition(const Json& condition, Pod& out) {
  const std::string type = codec::GetString(condition, "type");
  const bool is_true = codec::GetString(condition, "status") == "True";
  if (type == "PodScheduled") {
    out.scheduled = is_true;
    if (!is_true) {
      out.scheduling_reason = Text(condition, "reason");
      out.scheduling_message = Text(condition, "message");
    }
  } else if (type == "Ready") {
    out.ready = is_true;
    if (!is_true) out.ready_reason = Text(condition, "reason");
  }
}

Json ConditionJson(const char* type, bool is_true, const std::string& reason,
                   const std::string& message) {
  return {{"type", type},
          {"status", is_true ? "True" : "False"},
          {"reason", reason},
          {"message", message}};
}

}  // namespace

base::Result<Pod> DecodePod(std::string_view json) {
  auto meta = codec::DecodeObjectMeta(json);
  if (!meta) return std::move(meta).error();
  const auto document = codec::ParseJson(json, {.reject_duplicate_keys = false});
  if (!document || !document->is_object())
    return base::MakeError(base::Code::kInvalid, "a Pod is no JSON object", "BadPod");
  Pod out;
  out.meta = *std::move(meta);
  out.meta.annotations.erase("kubectl.kubernetes.io/last-applied-configuration");
  const Json& spec = codec::GetMember(*document, "spec");
  const Json& status = codec::GetMember(*document, "status");
  out.node = Text(spec, "nodeName");
  out.phase = Text(status, "phase");
  out.reason = Text(status, "reason");
  out.message = Text(status, "message");
  ForEach(codec::GetMember(status, "conditions"), [&](const Json& c) { ReadCondition(c, out); });
  const std::set<std::string> ephemeral = EphemeralVolumes(spec);
  ForEach(codec::GetMember(spec, "containers"),
          [&](const Json& c) { out.containers.push_back(ReadSpec(c, ephemeral)); });
  ForEach(codec::GetMember(status, "containerStatuses"),
          [&](const Json& c) { out.statuses.push_back(ReadStatus(c)); });
  ForEach(codec::GetMember(status, "initContainerStatuses"),
          [&](const Json& c) { out.init_statuses.push_back(ReadStatus(c)); });
  return out;
}

std::string EncodePod(const Pod& pod) {
  Json metadata{{"namespace", pod.meta.ns},
                {"name", pod.meta.name},
                {"uid", pod.meta.uid},
                {"resourceVersion", pod.meta.resource_version},
                {"generation", pod.meta.generation},
                {"labels", pod.meta.labels},
                {"annotations", pod.meta.annotations},
                {"finalizers", pod.meta.finalizers}};
  if (pod.meta.creation_time)
    metadata["creationTimestamp"] = base::FormatTime(*pod.meta.creation_time);
  if (pod.meta.deletion_time)
    metadata["deletionTimestamp"] = base::FormatTime(*pod.meta.deletion_time);
  for (const meta::OwnerRef& owner : pod.meta.owners)
    metadata["ownerReferences"].push_back({{"apiVersion", owner.api_version},
                                           {"kind", owner.kind},
                                           {"name", owner.name},
                                           {"uid", owner.uid},
                                           {"controller", owner.controller},
                                           {"blockOwnerDeletion", owner.block_owner_deletion}});
  Json spec{{"nodeName", pod.node}};
  spec["volumes"].push_back({{"name", kEphemeral}, {"emptyDir", Json::object()}});
  for (const PodContainerSpec& container : pod.containers)
    spec["containers"].push_back(SpecJson(container));
  Json status{{"phase", pod.phase}, {"reason", pod.reason}, {"message", pod.message}};
  status["conditions"] = {
      ConditionJson("PodScheduled", pod.scheduled, pod.scheduling_reason, pod.scheduling_message),
      ConditionJson("Ready", pod.ready, pod.ready_reason, "")};
  for (const PodContainer& c : pod.statuses) status["containerStatuses"].push_back(StatusJson(c));
  for (const PodContainer& c : pod.init_statuses)
    status["initContainerStatuses"].push_back(StatusJson(c));
  return codec::Dump({{"metadata", metadata}, {"spec", spec}, {"status", status}});
}

}  // namespace kube
