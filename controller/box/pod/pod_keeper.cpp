#include "box/pod/pod_keeper.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/failpoint.hpp"
#include "base/log.hpp"
#include "box/pod/pod_state.hpp"
#include "codec/resources.hpp"

namespace box {
namespace {

using codec::Json;

constexpr base::Millis kCall{30'000};
constexpr base::Millis kFirstWait{10'000};
constexpr base::Millis kLongestWait{300'000};
constexpr base::Millis kLasted{60'000};  ///< A Pod that failed later did not fail at once.
constexpr size_t kPodsRemembered = 200'000;

const kube::Resource kPodTemplates{"", "v1", "podtemplates"};
const kube::Resource kClaims{"", "v1", "persistentvolumeclaims"};

bool Owns(const api::Workspace& workspace, const meta::ObjectMeta& object) {
  return std::any_of(object.owners.begin(), object.owners.end(),
                     [&](const auto& owner) { return owner.uid == workspace.meta.uid; });
}

base::Error Foreign(std::string message, const char* reason) {
  return base::MakeError(base::Code::kInvalid, std::move(message), reason);
}

base::Error Later(std::string message, const std::string& reason, base::Millis wait) {
  auto error = base::MakeError(base::Code::kUnavailable, std::move(message), reason);
  error.retry_after = wait;
  return error;
}

/// Trying again does not mend it: the template or the settings are to be changed.
bool IsWrong(const base::Error& error) { return error.code == base::Code::kInvalid; }

bool HasEnded(const kube::Pod& pod) {
  return pod.phase == "Failed" || pod.phase == "Succeeded" || pod.meta.deletion_time.has_value();
}

bool HasInputs(const kube::Pod& pod, const ManagedPod& wanted) {
  const auto made_from = pod.meta.annotations.find(kPodInputsAnnotation);
  return made_from != pod.meta.annotations.end() && made_from->second == wanted.inputs;
}

bool HasOtherAgent(const kube::Pod& pod, const ManagedPod& wanted) {
  const auto made_from = pod.meta.annotations.find(kMadeFromAnnotation);
  return made_from != pod.meta.annotations.end() &&
         !AgentDifferenceOf(made_from->second, wanted.made_from).empty();
}

std::string WhatDiffers(const kube::Pod& pod, const ManagedPod& wanted) {
  const auto made_from = pod.meta.annotations.find(kMadeFromAnnotation);
  const std::string text = made_from == pod.meta.annotations.end() ? "" : made_from->second;
  if (HasInputs(pod, wanted))
    return fmt::format("Pod {} was made by other settings of the operator: {}", pod.meta.name,
                       AgentDifferenceOf(text, wanted.made_from));
  const std::string difference = DifferenceOf(text, wanted.made_from);
  return fmt::format("Pod {} was made from an earlier spec{}{}", pod.meta.name,
                     difference.empty() ? "" : ": ", difference);
}

}  // namespace

base::Millis PodRemakes::Ask(const std::string& pod, base::MonoTime now) {
  const std::lock_guard lock(mutex_);
  if (remade_.size() >= kPodsRemembered) remade_.clear();
  const auto [found, first] = remade_.try_emplace(pod, Remade{now, 1});
  if (first) return base::Millis{0};
  Remade& last = found->second;
  const auto since = std::chrono::duration_cast<base::Millis>(now - last.when);
  const base::Millis wait =
      std::min(kLongestWait, kFirstWait * (1 << std::clamp(last.streak - 1, 0, 10)));
  if (since < wait) return wait - since;
  last = {now, since < wait + kLasted ? last.streak + 1 : 1};
  return base::Millis{0};
}

void PodRemakes::Forget(const std::string& pod) {
  const std::lock_guard lock(mutex_);
  remade_.erase(pod);
}

base::Result<std::shared_ptr<const kube::Pod>> PodKeeper::Provide(const kube::Pod* pod,
                                                                  const MayEnd& may_end,
                                                                  std::stop_token stop) {
  auto wanted = Wanted(stop);
  if (!wanted && pod != nullptr && IsWrong(wanted.error()) && Owns(workspace_, pod->meta) &&
      !HasEnded(*pod)) {
    if (auto kept = KeepAsItIs(*pod, std::move(wanted).error(), stop); !kept) return kept.error();
    return std::shared_ptr<const kube::Pod>();
  }
  if (!wanted) return std::move(wanted).error();
  if (pod == nullptr) return Create(*wanted, stop);
  if (auto kept = Keep(*pod, *wanted, may_end, stop); !kept) return kept.error();
  return std::shared_ptr<const kube::Pod>();
}

base::Result<ManagedPod> PodKeeper::Wanted(std::stop_token stop) {
  const auto& from = workspace_.spec.box.pod->template_ref;
  if (!from) return MakeManagedPod(workspace_, nullptr, on_.managed);
  auto bytes = on_.client.Get({kPodTemplates, key_.ns, from->name}, {kCall, stop});
  if (!bytes && bytes.error().code == base::Code::kNotFound)
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("PodTemplate {}/{} does not exist; create it or correct "
                                       "spec.box.pod.templateRef",
                                       key_.ns, from->name),
                           "PodTemplateMissing");
  if (!bytes) return std::move(bytes).error();
  const auto document = codec::ParseJson(*bytes, {.reject_duplicate_keys = false});
  if (!document) return document.error();
  return MakeManagedPod(workspace_, &*document, on_.managed);
}

kube::WriteOptions PodKeeper::Writing(std::stop_token stop) const {
  kube::WriteOptions options;
  options.call = {kCall, stop};
  return options;
}

base::Result<std::shared_ptr<const kube::Pod>> PodKeeper::Create(const ManagedPod& wanted,
                                                                 std::stop_token stop) {
  if (auto claim = EnsureClaim(wanted, stop); !claim) return claim.error();
  const base::FailpointScope point("api.pod.create");
  auto made = on_.client.Create({kube::kPods, key_.ns}, codec::Dump(wanted.pod), Writing(stop));
  // Already there: the cache is behind, and the Pod's own event brings the next pass.
  if (!made && made.error().code == base::Code::kAlreadyExists)
    return std::shared_ptr<const kube::Pod>();
  if (!made) return std::move(made).error();
  base::LogInfo("made a Pod", {{"pod", key_.Text()}});
  auto pod = kube::DecodePod(*made);
  if (!pod) return std::move(pod).error();
  return std::make_shared<const kube::Pod>(*std::move(pod));
}

/// Whatever it was made from, it is no reason to end what runs.
base::Status PodKeeper::KeepAsItIs(const kube::Pod& pod, base::Error why, std::stop_token stop) {
  said_ = {why.reason, fmt::format("{}; Pod {} is kept as it is, and cannot be made again before",
                                   why.message, pod.meta.name)};
  return HandCa(pod, stop);
}

/// A Pod that is there: is it ours, alive, and as wanted?
base::Status PodKeeper::Keep(const kube::Pod& pod, const ManagedPod& wanted, const MayEnd& may_end,
                             std::stop_token stop) {
  if (!Owns(workspace_, pod.meta))
    return Foreign(fmt::format("Pod {} exists and is not this Workspace's; delete or rename it, or "
                               "adopt it with spec.box.pod.podRef",
                               key_.Text()),
                   "PodForeign");
  if (pod.meta.deletion_time) return {};
  if (HasEnded(pod)) return MakeAgain(pod, stop);
  // A claim in use is held by the API; one that went away before the Pod had a node keeps it from
  // ever getting one.
  if (!pod.scheduled && pod.node.empty())
    if (auto claim = EnsureClaim(wanted, stop); !claim) return claim;
  // An upgrade of the operator is no reason to make a box anew whose agent has ever reported.
  const bool agentless = HasNeverRun(pod) || !workspace_.status.agent;
  if (!HasInputs(pod, wanted) || (agentless && HasOtherAgent(pod, wanted))) {
    const auto replaced = Replace(pod, wanted, may_end, stop);
    if (!replaced) return replaced.error();
    if (*replaced) return {};
  }
  return HandCa(pod, stop);
}

/// Of a Pod that is not what is wanted: whether it is deleted to be made anew.
base::Result<bool> PodKeeper::Replace(const kube::Pod& pod, const ManagedPod& wanted,
                                      const MayEnd& may_end, std::stop_token stop) {
  const std::string what = WhatDiffers(pod, wanted);
  if (HasNeverRun(pod)) {
    if (auto gone = Renew(pod, what, stop); !gone) return gone.error();
    return true;
  }
  if (workspace_.spec.restart.recreate != api::RecreatePolicy::kAllowed) {
    said_ = {kPodOutdated,
             fmt::format("{}; delete the Pod, or set spec.restart.recreate to Allowed", what)};
    return false;
  }
  const auto permit = Permit(pod, wanted, may_end, stop);
  if (!permit) return permit.error();
  if (!permit->granted) {
    said_ = {kPodOutdated, fmt::format("{}; before it is made anew: {}", what, permit->message)};
    wait_ = permit->wait;
    return false;
  }
  if (auto gone = Delete(pod, stop); !gone) return gone.error();
  notes_.push_back({"PodRecreated", what + "; it is made anew, as spec.restart allows"});
  return true;
}

/// By spec.restart.policy, which speaks of what runs. A request or a deadline counts from when the
/// change was noticed: that is remembered on the Pod.
base::Result<EndPermit> PodKeeper::Permit(const kube::Pod& pod, const ManagedPod& wanted,
                                          const MayEnd& may_end, std::stop_token stop) {
  const bool stopped =
      DecidePodState(&pod, workspace_.spec.box.pod->container).state == BoxState::kStopped;
  if (!may_end || stopped || workspace_.spec.restart.policy == api::RestartPolicy::kImmediate)
    return EndPermit{};
  const std::string head = wanted.inputs + " ";
  const auto said = pod.meta.annotations.find(kOutdatedAnnotation);
  if (said != pod.meta.annotations.end() && said->second.starts_with(head))
    if (const auto since = base::ParseTime(said->second.substr(head.size())))
      return may_end(*since);
  const base::WallTime now =
      std::chrono::floor<base::Seconds>(base::SystemClock::Get().Read().wall);
  auto noted = Annotate(pod, kOutdatedAnnotation, head + base::FormatTime(now), stop);
  if (!noted) return std::move(noted).error();
  return may_end(now);
}

/// Nothing is lost with a Pod in which nothing has ever run, whatever spec.restart says. Of this
/// version: a container may be starting just now, which the API then knows before we do. Never in
/// a hurry twice: another operator, with other settings, may do the same.
base::Status PodKeeper::Renew(const kube::Pod& pod, const std::string& what, std::stop_token stop) {
  const base::Millis wait = on_.remakes.Ask(key_.Text(), base::SystemClock::Get().Read().mono);
  if (wait > base::Millis{0})
    return Later(what + "; no container of it has ever run: it is made anew", kPodOutdated, wait);
  const auto gone = Delete(pod, pod.meta.resource_version, stop);
  if (!gone || !deleted_) on_.remakes.Forget(key_.Text());
  if (!gone) return gone;
  if (deleted_)
    notes_.push_back({"PodRecreated", what + "; no container of it has ever run: it is made anew"});
  return {};
}

base::Status PodKeeper::MakeAgain(const kube::Pod& pod, std::stop_token stop) {
  const StateReport report = DecidePodState(&pod, workspace_.spec.box.pod->container);
  const std::string message = report.cause + "; it is made again";
  const base::Millis wait = on_.remakes.Ask(key_.Text(), base::SystemClock::Get().Read().mono);
  if (wait > base::Millis{0}) return Later(message, report.reason, wait);
  if (auto gone = Delete(pod, stop); !gone) return gone;
  notes_.push_back({"PodRecreated", message});
  return Later(message, report.reason, kFirstWait);
}

base::Status PodKeeper::EnsureClaim(const ManagedPod& wanted, std::stop_token stop) {
  if (!wanted.claim) return {};
  auto there = on_.client.Get({kClaims, key_.ns, key_.name}, {kCall, stop});
  if (!there && there.error().code == base::Code::kNotFound) {
    const base::FailpointScope point("api.claim.create");
    auto made = on_.client.Create({kClaims, key_.ns}, codec::Dump(*wanted.claim), Writing(stop));
    return made ? base::Status{} : base::Status(std::move(made).error());
  }
  if (!there) return std::move(there).error();
  const auto claim = codec::DecodeObjectMeta(*there);
  if (!claim) return claim.error();
  return CheckClaim(*claim);
}

/// Never somebody else's, and none that goes away: a Pod would wait for it for ever.
base::Status PodKeeper::CheckClaim(const meta::ObjectMeta& claim) const {
  const bool ours = Owns(workspace_, claim);
  const bool earlier =
      std::any_of(claim.owners.begin(), claim.owners.end(), [&](const auto& owner) {
        return owner.kind == "Workspace" && owner.name == workspace_.meta.name;
      });
  if (ours && !claim.deletion_time) return {};
  if (ours || earlier)
    return Later(
        fmt::format("PersistentVolumeClaim {} {}; it is made again when it is gone", key_.Text(),
                    ours ? "is being deleted" : "is of an earlier Workspace of this name"),
        "ClaimTerminating", kFirstWait);
  return Foreign(fmt::format("PersistentVolumeClaim {} exists and is not this Workspace's; delete "
                             "it, or mount it at /configs by a PodTemplate "
                             "(spec.box.pod.templateRef) instead of spec.box.pod.storage",
                             key_.Text()),
                 "ClaimForeign");
}

/// The kubelet hands a changed annotation on into the running Pod: so a rotated authority gets
/// there. Another operator has one of its own, and gives that.
base::Status PodKeeper::HandCa(const kube::Pod& pod, std::stop_token stop) {
  const std::string& pem = on_.managed.agent_ca_pem;
  const auto has = pod.meta.annotations.find(kCaAnnotation);
  if (pem.empty()) return {};
  const bool there = has != pod.meta.annotations.end() && has->second == pem;
  const base::MonoTime now = base::SystemClock::Get().Read().mono;
  const bool give = !there && on_.cas.Ask(pod.meta.uid, pem, now) == CaHandings::Answer::kGive;
  contested_ = on_.cas.IsContested(pod.meta.uid, now);
  if (!give) return {};
  if (contested_)
    base::LogWarning("another operator serves the Workspace of this Pod, too",
                     {{"pod", key_.Text()}});
  const auto done = Annotate(pod, kCaAnnotation, pem, stop);
  if (!done || !*done) on_.cas.Forget(pod.meta.uid);
  if (!done) return done.error();
  if (*done) base::LogInfo("gave a Pod the operator's changed authority", {{"pod", key_.Text()}});
  return {};
}

/// False: another Pod has the name by now.
base::Result<bool> PodKeeper::Annotate(const kube::Pod& pod, const char* name,
                                       const std::string& value, std::stop_token stop) {
  const Json patch{{"metadata", {{"uid", pod.meta.uid}, {"annotations", {{name, value}}}}}};
  const base::FailpointScope point("api.pod.patch");
  auto done = on_.client.Patch({kube::kPods, key_.ns, key_.name},
                               {kube::PatchType::kMerge, codec::Dump(patch)}, Writing(stop));
  if (done) return true;
  using base::Code;
  const Code code = done.error().code;
  // A uid that differs is Invalid. The other one's event brings a pass.
  if (code == Code::kNotFound || code == Code::kConflict || code == Code::kInvalid) return false;
  return std::move(done).error();
}

base::Status PodKeeper::RemoveFormer(const kube::Pod& former, std::stop_token stop) {
  if (!Owns(workspace_, former.meta) || former.meta.deletion_time) return {};
  auto gone = DeleteOnly(former, "", stop);
  if (!gone) return std::move(gone).error();
  notes_.push_back(
      {"PodRemoved", fmt::format("Pod {} was this Workspace's box before spec.box.pod.podRef named "
                                 "Pod {}: it is deleted",
                                 former.meta.name, key_.name)});
  return {};
}

base::Status PodKeeper::Delete(const kube::Pod& pod, const std::string& version,
                               std::stop_token stop) {
  auto gone = DeleteOnly(pod, version, stop);
  if (!gone) return std::move(gone).error();
  deleted_ = *gone;
  return {};
}

/// False: it has another version by now, whose event brings a pass.
base::Result<bool> PodKeeper::DeleteOnly(const kube::Pod& pod, const std::string& version,
                                         std::stop_token stop) {
  const base::FailpointScope point("api.pod.delete");
  const meta::ObjectKey key{key_.ns, pod.meta.name};
  base::LogInfo("deleting a Pod", {{"pod", key.Text()}, {"uid", pod.meta.uid}});
  kube::DeleteOptions options;
  options.uid = pod.meta.uid;
  options.resource_version = version;
  options.call = {kCall, stop};
  auto gone = on_.client.Delete({kube::kPods, key.ns, key.name}, options);
  if (!gone && gone.error().code != base::Code::kNotFound &&
      gone.error().code != base::Code::kConflict)
    return std::move(gone).error();
  return gone || gone.error().code == base::Code::kNotFound || version.empty();
}

}  // namespace box
