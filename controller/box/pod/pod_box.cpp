#include "box/pod/pod_box.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/failpoint.hpp"
#include "box/pod/pod_state.hpp"

namespace box {
namespace {

constexpr base::Millis kCall{30'000};
constexpr base::Millis kNodeAgain{60'000};  ///< Nodes are not watched.
constexpr base::Millis kTemplateFirst{1'000};
constexpr base::Millis kTemplateLongest{60'000};
constexpr char kBoxBoot[] = "box:";  ///< A container as one start, where no agent reports any.

base::Error Unsupported(std::string message) {
  return base::MakeError(base::Code::kInvalid, std::move(message), "RestartUnsupported");
}

/// A refusal of pods/exec is about the operator's own credentials or rights, not about this box:
/// it ends when they are put right, so it is tried again as what is away for a while.
base::Error Refused(base::Error error) {
  if (error.code != base::Code::kUnauthorized && error.code != base::Code::kForbidden) return error;
  return base::MakeError(base::Code::kUnavailable,
                         fmt::format("`create pods/exec` (`get` before Kubernetes 1.35) is refused "
                                     "to the operator: {}",
                                     error.message),
                         "ExecRefused");
}

class PodChannel final : public ExecChannel {
 public:
  PodChannel(kube::PodExec& exec, meta::ObjectKey pod) : exec_(exec), pod_(std::move(pod)) {}
  void SetContainer(std::string container) { container_ = std::move(container); }

  base::Result<ExecOutcome> Run(const ExecCall& call) override {
    kube::ExecRequest request;
    request.ns = pod_.ns;
    request.pod = pod_.name;
    request.container = container_;
    request.argv = call.argv;
    request.input = call.input;
    request.output_limit = call.output_limit;
    request.deadline = call.deadline;
    request.effect = call.effect;
    request.stop = call.stop;
    auto result = exec_.Run(request);
    if (!result) return Refused(std::move(result).error());
    return ExecOutcome{result->exit_code, std::move(result->output), std::move(result->error)};
  }

 private:
  kube::PodExec& exec_;
  const meta::ObjectKey pod_;
  std::string container_;
};

class PodBox final : public ExecBox {
 public:
  struct Parts {
    const api::Workspace& workspace;
    const PodDependencies& on;
    meta::ObjectKey pod;
    std::string container;
    RequestRestart restart;
  };
  /// Takes the channel over.
  PodBox(const Parts& parts, ExecBoxOptions options, std::unique_ptr<PodChannel> channel)
      : PodBox(parts, std::move(options), *channel.release()) {}

  base::Status Provide(const MayEnd& may_end, std::stop_token stop) override {
    if (spec_.pod_ref) return RemoveFormer(stop);
    auto pod = Look(stop);
    if (!pod) return std::move(pod).error();
    auto made = keeper_.Provide(pod->get(), may_end, stop);
    const std::string& said = keeper_.Said().reason;
    if (spec_.template_ref && (!made || (!said.empty() && said != kPodOutdated)))
      template_wait_ = TemplateWait();
    if (!made) return std::move(made).error();
    if (*made) pod_ = *std::move(made);
    if (keeper_.Deleted()) MarkDeleted();
    return {};
  }

  StateReport State(std::stop_token stop) override {
    const base::FailpointScope point("box.state");
    auto pod = Look(stop);
    if (!pod) {
      StateReport unknown{BoxState::kUnknown, pod.error().message, ""};
      unknown.reason = pod.error().reason;
      return unknown;
    }
    const std::optional<kube::Node> node = NodeOf(pod->get(), stop);
    StateReport report = DecidePodState(pod->get(), container_, node ? &*node : nullptr);
    report.notes = keeper_.Notes();
    if (node) report.look_again = kNodeAgain;
    if (!spec_.pod_ref && on_.tokens_refused)
      report.reports_refused = on_.tokens_refused().value_or("");
    for (const auto& wait : {keeper_.Wait(), template_wait_})
      if (wait) report.look_again = std::min(*wait, report.look_again.value_or(*wait));
    if (const std::string whose = spec_.pod_ref && *pod ? ForeignOwner(**pod) : "";
        !whose.empty()) {
      report = {BoxState::kStopped, whose, ""};
      report.reason = "PodForeign";
      report.notes = keeper_.Notes();
      return report;
    }
    if (*pod == nullptr) report.cause = fmt::format("Pod {} does not exist", key_.Text());
    report.plugins_path_persistent = *pod == nullptr || ConfigsOnVolume(**pod, container_);
    // Where no agent has ever reported, each container is one start of what loads the plugins.
    const auto& agent = workspace_.status.agent;
    if (spec_.pod_ref && report.state == BoxState::kRunning && (!agent || agent->boot_id.empty()))
      report.boot_id = kBoxBoot + report.identity;
    if (report.state == BoxState::kRunning && keeper_.Contested()) {
      report.reason = "AnotherOperator";
      report.cause = fmt::format(
          "another workspace-operator serves this Workspace, too: each gives Pod {} its own "
          "authority; let only one operator watch its namespace",
          key_.Text());
    } else if (const PodKeeper::Remark& said = keeper_.Said(); !said.reason.empty()) {
      if (report.state == BoxState::kRunning) report.reason = said.reason;
      report.cause += (report.cause.empty() ? "" : "; ") + said.message;
    }
    return report;
  }

  base::Result<ProbeReport> Probe(const std::vector<std::string>& names,
                                  const std::vector<Delivery>& record,
                                  std::stop_token stop) override {
    auto report = ExecBox::Probe(names, record, std::move(stop));
    if (!report) return report;
    for (PluginProbe& plugin : report->plugins)
      plugin.activated_boot_id = StartAt(plugin.activated_boot_id, plugin.activated_time);
    CorrectRemovals(report->removals);
    return report;
  }

  base::Status Restart(const std::string& expected_boot_id, std::stop_token stop) override {
    const base::FailpointScope point("box.restart");
    if (!restart_) return Unsupported("nobody can ask the agent of this Pod for a restart");
    if (!spec_.pod_ref) return restart_(expected_boot_id);
    auto agent = AgentRuns(stop);
    if (!agent) return std::move(agent).error();
    if (*agent) return restart_(expected_boot_id);
    return Recreate(expected_boot_id, stop);
  }

  /// A managed Pod's agent has a token of its own: its projected service account's.
  base::Status WriteToken(const std::string& token, std::stop_token stop) override {
    return spec_.pod_ref ? ExecBox::WriteToken(token, stop) : base::Status{};
  }

 private:
  using PodPointer = std::shared_ptr<const kube::Pod>;

  PodBox(const Parts& parts, ExecBoxOptions options, PodChannel& channel)
      : ExecBox(std::unique_ptr<ExecChannel>(&channel), std::move(options)),
        channel_(channel),
        workspace_(parts.workspace),
        spec_(*parts.workspace.spec.box.pod),
        on_(parts.on),
        key_(parts.pod),
        container_(parts.container),
        restart_(parts.restart),
        keeper_(workspace_, key_,
                {*on_.client, on_.managed, on_.memory->remakes, on_.memory->cas}) {}

  /// The Pod as of this pass: the informer's, else read from the API once. Null: there is none.
  base::Result<PodPointer> Look(std::stop_token stop) {
    if (pod_) return *pod_;
    PodPointer found = on_.find_pod ? on_.find_pod(key_) : nullptr;
    if (!found) {
      auto bytes = on_.client->Get({kube::kPods, key_.ns, key_.name}, {kCall, stop});
      if (!bytes && bytes.error().code != base::Code::kNotFound) return std::move(bytes).error();
      if (bytes) {
        auto pod = kube::DecodePod(*bytes);
        if (!pod) return std::move(pod).error();
        found = std::make_shared<const kube::Pod>(*std::move(pod));
      }
    }
    pod_ = found;
    return found;
  }

  /// PodTemplates are not watched. As long again as it has lasted: a template that is applied just
  /// behind its Workspace is found at once, and one that is forgotten is not asked for in a hurry.
  base::Millis TemplateWait() const {
    const auto* said = meta::FindCondition(workspace_.status.conditions, "BoxRunning");
    if (said == nullptr) return kTemplateFirst;
    const auto lasted = std::chrono::duration_cast<base::Millis>(
        base::SystemClock::Get().Read().wall - said->last_transition_time);
    return std::clamp(lasted, kTemplateFirst, kTemplateLongest);
  }

  /// The informer has all managed Pods: nobody is asked in vain for one that never was.
  base::Status RemoveFormer(std::stop_token stop) {
    const meta::ObjectKey former{key_.ns, ManagedPodName(workspace_.meta.name)};
    const PodPointer pod = on_.find_pod && former != key_ ? on_.find_pod(former) : nullptr;
    return pod ? keeper_.RemoveFormer(*pod, stop) : base::Status{};
  }

  /// Not empty: why this Pod may not be adopted, since it is the box of another Workspace.
  std::string ForeignOwner(const kube::Pod& pod) const {
    for (const meta::OwnerRef& owner : pod.meta.owners)
      if (owner.controller && owner.kind == "Workspace" && owner.uid != workspace_.meta.uid &&
          owner.api_version.starts_with("molecule.ai/"))
        return fmt::format(
            "Pod {} is the managed box of Workspace {}; name another one in "
            "spec.box.pod.podRef",
            key_.Text(), owner.name);
    return "";
  }

  /// Its node, where the Pod alone does not say whether that reports.
  std::optional<kube::Node> NodeOf(const kube::Pod* pod, std::stop_token stop) {
    if (pod == nullptr || !NeedsNode(*pod)) return std::nullopt;
    return on_.memory->nodes.Ask(*on_.client, pod->node, base::SystemClock::Get().Read().mono,
                                 stop);
  }

  /// Nothing is delivered to a Pod that this pass has deleted.
  void MarkDeleted() {
    auto gone = std::make_shared<kube::Pod>(**pod_);
    gone->meta.deletion_time = base::SystemClock::Get().Read().wall;
    pod_ = std::move(gone);
  }

  base::Status MayRun(std::stop_token stop) override {
    const StateReport report = State(stop);
    if (report.state != BoxState::kRunning)
      return base::MakeError(base::Code::kUnavailable,
                             fmt::format("Pod {} does not run: {}", key_.Text(), report.cause),
                             "BoxNotRunning");
    const std::string container = ContainerOf(**pod_, container_);
    // Before anything is run there: helper and token would go into the container's own layer.
    if (!report.plugins_path_persistent)
      return base::MakeError(
          base::Code::kInvalid,
          fmt::format(
              "/configs of container {} in Pod {} is on no volume that can be written: what "
              "is put there dies with the container; mount one at /configs",
              container, key_.Text()),
          "PluginsPathNotPersistent");
    channel_.SetContainer(container);
    return {};
  }

  /// Whether the start that is to be ended belongs to a box that was here before this one.
  bool HasRestarted(const std::string& boot_id) const {
    const std::string now = PodBoxIdentity(**pod_, container_);
    if (boot_id.starts_with(kBoxBoot)) return boot_id != kBoxBoot + now;
    const auto& status = workspace_.status;
    return status.agent && status.agent->boot_id == boot_id && status.box &&
           status.box->identity.starts_with(PodIdentity("")) && status.box->identity != now;
  }

  /// The kubelet tells some seconds late that a container has been started again. What was
  /// activated or removed meanwhile bears the start before: it is the present one that has not
  /// heard of it. In one Pod, whose node has one clock; to the second, in doubt not heard of.
  std::string StartAt(const std::string& boot_id, const std::optional<base::WallTime>& time) const {
    const std::string in_this_pod = kBoxBoot + PodIdentity((*pod_)->meta.uid) + "/";
    const auto started = StartOf(**pod_, container_);
    if (!boot_id.starts_with(in_this_pod) || !time || !started || *time < *started) return boot_id;
    return kBoxBoot + PodBoxIdentity(**pod_, container_);
  }

  /// Tombstones are forgotten all at once, by the start that they bear. So that one that is
  /// corrected stays until the restart it is owed, the settled ones beside it are not told.
  void CorrectRemovals(std::vector<UnloadedRemoval>& removals) const {
    std::vector<UnloadedRemoval> corrected;
    for (const UnloadedRemoval& removal : removals)
      if (std::string start = StartAt(removal.removed_boot_id, removal.removed_time);
          start != removal.removed_boot_id)
        corrected.push_back({removal.name, std::move(start), removal.removed_time});
    if (corrected.empty()) return;
    const std::string now = kBoxBoot + PodBoxIdentity(**pod_, container_);
    for (UnloadedRemoval& removal : removals)
      if (removal.removed_boot_id == now) corrected.push_back(std::move(removal));
    removals = std::move(corrected);
  }

  /// The last means for an adopted Pod without an agent.
  base::Status Recreate(const std::string& expected_boot_id, std::stop_token stop) {
    if (HasRestarted(expected_boot_id)) return {};
    if (workspace_.spec.restart.recreate != api::RecreatePolicy::kAllowed)
      return Unsupported(
          fmt::format("no agent runs in Pod {}, and a Pod cannot be restarted from inside: run "
                      "`workspace-operator agent` in it, or set spec.restart.recreate to Allowed",
                      key_.Text()));
    const kube::Pod& pod = **pod_;
    // What was delivered would be missing again, and the next delivery owe the next restart.
    if (ConfigsDieWithPod(pod, container_))
      return Unsupported(
          fmt::format("no agent runs in Pod {}, and its volume at /configs dies with it: made "
                      "anew, it would lack its plugins again; run `workspace-operator agent` in "
                      "it, or mount a PersistentVolumeClaim at /configs",
                      key_.Text()));
    for (const meta::OwnerRef& owner : pod.meta.owners)
      if (owner.controller) return keeper_.Delete(pod, stop);
    return Unsupported(
        fmt::format("Pod {} has no controller: deleted, nobody would make it again", key_.Text()));
  }

  PodChannel& channel_;  ///< The base owns it.
  const api::Workspace workspace_;
  const api::PodBox spec_;
  const PodDependencies on_;
  const meta::ObjectKey key_;
  const std::string container_;
  const RequestRestart restart_;
  PodKeeper keeper_;
  std::optional<PodPointer> pod_;
  std::optional<base::Millis> template_wait_;
};

}  // namespace

std::unique_ptr<Box> MakePodBox(const api::Workspace& workspace,
                                const PodDependencies& dependencies, std::string settings_file,
                                RequestRestart restart) {
  const api::PodBox& spec = *workspace.spec.box.pod;
  PodBox::Parts parts{
      workspace, dependencies, {workspace.meta.ns, ""}, spec.container, std::move(restart)};
  parts.pod.name = spec.pod_ref ? spec.pod_ref->name : ManagedPodName(workspace.meta.name);
  if (spec.container.empty() && !spec.image.empty()) parts.container = "agent";
  ExecBoxOptions options;
  options.settings_file = std::move(settings_file);
  options.bring_helper = spec.pod_ref.has_value();
  options.helpers = {spec.pod_ref ? std::vector<std::string>{"workspace-operator"}
                                  : ManagedHelperArgv()};
  options.memory_key = parts.pod.Text();
  options.memory = dependencies.memory->helpers;
  auto channel = std::make_unique<PodChannel>(*dependencies.exec, parts.pod);
  return std::make_unique<PodBox>(parts, std::move(options), std::move(channel));
}

PodMaker PodBoxMaker(PodDependencies dependencies) {
  return [on = std::move(dependencies)](const api::Workspace& workspace, std::string settings_file,
                                        RequestRestart restart) {
    return MakePodBox(workspace, on, std::move(settings_file), std::move(restart));
  };
}

}  // namespace box
