#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "meta/object.hpp"

/// Workspace (workspaces.molecule.ai/v1alpha1) as plain structs. The schema of record is
/// crds/workspaces.yaml; a test holds the two together. Wire names are the lowerCamelCase of the
/// members unless a comment says otherwise (codec/ is the only place that spells them).
namespace api {

inline constexpr char kGroup[] = "molecule.ai";
inline constexpr char kVersion[] = "v1alpha1";
inline constexpr char kApiVersion[] = "molecule.ai/v1alpha1";
inline constexpr char kReconcileRequestedAnnotation[] = "molecule.ai/reconcile-requested-at";
inline constexpr char kRestartRequestedAnnotation[] = "molecule.ai/restart-requested-at";
inline constexpr char kFinalizer[] = "molecule.ai/box-cleanup";
inline constexpr size_t kMaxPluginNameBytes = 100;  ///< maxLength of a tracking row's name.
inline constexpr size_t kMaxPlugins = 128;          ///< A workspace; more are TooManyPlugins.

enum class WorkspaceKind { kAgent, kPlatform };
enum class BoxType { kPod, kDocker, kSSH, kDirectory, kExternal };
enum class DirectoryRun { kOperator, kExternal };
enum class RestartPolicy { kImmediate, kWhenIdle, kManual };
enum class RecreatePolicy { kNever, kAllowed };
enum class DeletionPolicy { kRemove, kOrphan };
enum class PluginOrigin { kBootInstalled, kDelivered };

struct LocalRef {  ///< `{name}`: an object of the same namespace.
  std::string name;
  bool operator==(const LocalRef&) const = default;
};
struct PodStorage {
  std::string size;                ///< A Kubernetes quantity, e.g. 1Gi.
  std::string storage_class_name;  ///< Empty: the cluster's default.
  bool operator==(const PodStorage&) const = default;
};
/// Managed (image or templateRef) or adopted (podRef).
struct PodBox {
  std::string image;
  std::optional<LocalRef> template_ref;
  std::optional<PodStorage> storage;
  std::optional<LocalRef> pod_ref;
  std::string container;
  bool operator==(const PodBox&) const = default;
};
struct DockerBox {
  std::string endpoint;
  std::string container;
  bool operator==(const DockerBox&) const = default;
};
struct SshBox {  ///< Wire member `ssh`.
  std::string host;
  int32_t port = 22;
  std::string user;
  std::string host_key;
  std::optional<LocalRef> key_secret_ref;
  bool operator==(const SshBox&) const = default;
};
struct DirectoryBox {
  std::string path;
  DirectoryRun run = DirectoryRun::kExternal;
  bool operator==(const DirectoryBox&) const = default;
};
/// A union discriminated by `type`; External has no member.
struct BoxSpec {
  BoxType type = BoxType::kExternal;
  std::optional<PodBox> pod;
  std::optional<DockerBox> docker;
  std::optional<SshBox> ssh;
  std::optional<DirectoryBox> directory;
  bool operator==(const BoxSpec&) const = default;
};
struct InlinePlugin {
  std::string name;
  std::string source;
  bool operator==(const InlinePlugin&) const = default;
};
struct HeartbeatSpec {
  int32_t period_seconds = 30;
  int32_t timeout_seconds = 180;
  bool operator==(const HeartbeatSpec&) const = default;
};
struct ProvisioningSpec {
  int32_t deadline_seconds = 900;
  bool operator==(const ProvisioningSpec&) const = default;
};
struct RestartSpec {
  RestartPolicy policy = RestartPolicy::kImmediate;
  int32_t deadline_seconds = 3600;
  RecreatePolicy recreate = RecreatePolicy::kNever;
  bool operator==(const RestartSpec&) const = default;
};
struct WorkspaceSpec {
  WorkspaceKind kind = WorkspaceKind::kAgent;
  std::string runtime;
  BoxSpec box;
  std::vector<InlinePlugin> plugins;
  std::string model;
  HeartbeatSpec heartbeat;
  ProvisioningSpec provisioning;
  RestartSpec restart;
  bool suspend = false;
  bool operator==(const WorkspaceSpec&) const = default;
};

struct BoxStatus {
  std::string identity;
  std::string state;  ///< Running, Stopped, Unknown.
  std::string cause;
  std::optional<base::WallTime> observed_time;
  bool operator==(const BoxStatus&) const = default;
};
struct BootInstallStatus {
  std::string state;  ///< Running, Done, Failed; empty: not reported.
  std::string error;
  bool operator==(const BootInstallStatus&) const = default;
};
/// What the agent said last, as of the last transition that was worth a write.
struct AgentStatus {
  std::string boot_id;  ///< Wire name bootID.
  std::string version;
  std::string current_task;
  std::optional<int32_t> active_tasks;
  std::string error_rate;  ///< Decimal text 0..1 (no floats in the API).
  std::string sample_error;
  std::string monthly_spend;  ///< Decimal text.
  std::optional<bool> management_present;
  std::optional<bool> model_present;
  std::optional<int32_t> loaded_tools;  ///< Count.
  std::optional<BootInstallStatus> boot_install;
  std::optional<base::WallTime> last_transition_time;
  bool operator==(const AgentStatus&) const = default;
};
/// Who declared a plugin: this Workspace itself (inline) or a DeclaredPlugin.
struct PluginOwner {
  std::string kind;
  std::string name;
  std::string uid;
  bool operator==(const PluginOwner&) const = default;
};
/// A tracking row.
struct PluginRow {
  std::string name;
  PluginOwner owner;
  std::string source;
  std::optional<PluginOrigin> origin;  ///< Absent: not on the box as far as we know.
  std::string revision;                ///< Commit (or content id) of what is on the box.
  std::string digest;                  ///< sha256:... of the canonical tar on the box.
  std::optional<base::WallTime> installed_time;
  bool loaded = false;
  DeletionPolicy deletion_policy = DeletionPolicy::kRemove;
  std::string reason;  ///< Stable CamelCase word: why it is not (or is) as wanted.
  std::string message;
  int32_t attempts = 0;
  std::optional<base::WallTime> next_attempt_time;
  /// What somebody has asked for (Manual, or a revision that is gone) and is not on the box yet.
  std::string approved_revision = {};
  std::string approved_digest = {};
  bool operator==(const PluginRow&) const = default;
};
/// The shown debt. The debt itself is a fact in the box (receipts); this is written before the
/// first byte moves.
struct PendingRestart {
  std::vector<std::string> plugins;
  std::string boot_id;  ///< Wire name bootID: the boot that must end.
  std::optional<base::WallTime> since;
  std::optional<base::WallTime> deadline;
  int64_t epoch = 0;
  bool operator==(const PendingRestart&) const = default;
};
struct RecoveryStatus {
  std::optional<base::WallTime> last_attempt_time;
  int32_t attempts = 0;
  int32_t restarts = 0;  ///< The last ones of these that were restarts for want of tools.
  bool operator==(const RecoveryStatus&) const = default;
};
struct WorkspaceStatus {
  std::vector<meta::Condition> conditions;
  int64_t observed_generation = 0;
  std::string state;  ///< Provisioning, AwaitingAgent, Online, Degraded, Offline, Failed,
                      ///< Suspended, Terminating.
  std::optional<BoxStatus> box;
  std::optional<AgentStatus> agent;
  std::vector<PluginRow> plugins;
  std::optional<PendingRestart> pending_restart;
  std::optional<RecoveryStatus> recovery;
  std::string last_handled_reconcile_at;
  bool operator==(const WorkspaceStatus&) const = default;
};
struct Workspace {
  meta::ObjectMeta meta;
  WorkspaceSpec spec;
  WorkspaceStatus status;
  bool operator==(const Workspace&) const = default;
};

}  // namespace api
