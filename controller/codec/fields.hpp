#pragma once

#include <array>
#include <string_view>
#include <tuple>
#include <utility>

#include "api/declared_plugin.hpp"
#include "api/workspace.hpp"

/// The one place that spells the wire names of the resources. Each struct is a tuple of fields;
/// decode, encode, pack and unpack all walk these, so a field is added here and in crds/
/// (test/codec/schema_sync_test holds the two together) and nowhere else in codec/. Private to
/// codec/ and its tests.
namespace codec::wire {

enum Flag : unsigned {
  kPlain = 0,
  kAlways = 1,    ///< Encoded even when it equals the struct's default: required by the schema, or
                  ///< wanted by readers.
  kShared = 2,    ///< The same few texts stand in many objects: packed as a number of the interner.
  kNumber = 4,    ///< A text that usually is a decimal number (resourceVersion): packed as a varint
                  ///< when it is.
  kUid = 8,       ///< A text that usually is a UUID: packed as 16 bytes when it is.
  kTrimmed = 16,  ///< Annotations: decoded without what kubectl keeps there for itself; values are
                  ///< not shared.
  kPerhaps = 32,  ///< A text for people, often the same, often unique: shared from its third
                  ///< appearance on.
  kGeneration = 64,  ///< An observed generation: packed as the distance from the object's own.
};

/// What of a struct is packed as one number of the interner: all its shared texts, enums, bools and
/// numbers marked kShared or kGeneration. The rest (times, UIDs, names) follows.
enum class Grouping {
  kNone,
  kEach,  ///< Each struct is a group.
  kList,  ///< A whole list of them is.
};
template <class S>
inline constexpr Grouping kGrouping = Grouping::kNone;
// The same steady state, the same plugin at the same commit: few among many objects.
template <>
inline constexpr Grouping kGrouping<meta::Condition> = Grouping::kList;
template <>
inline constexpr Grouping kGrouping<api::PluginRow> = Grouping::kEach;
template <>
inline constexpr Grouping kGrouping<api::ResolvedSource> = Grouping::kEach;
template <>
inline constexpr Grouping kGrouping<api::DeclaredPluginSpec> = Grouping::kEach;
template <>
inline constexpr Grouping kGrouping<api::WorkspaceSpec> = Grouping::kEach;

template <class S, class T>
struct Field {
  std::string_view name;
  T S::*member;
  unsigned flags;
  size_t limit;  ///< Status only: bytes of a text or items of a list that are encoded at most; 0:
                 ///< no limit here.
};
/// A status that holds more than the schema allows would be refused whole, for ever: what others
/// told us is cut to `limit` instead.
template <class S, class T>
constexpr Field<S, T> F(std::string_view name, T S::*member, unsigned flags = kPlain,
                        size_t limit = 0) {
  return {name, member, flags, limit};
}

/// Specialised with `kList`, a tuple of Field, for each struct.
template <class S>
struct FieldsOf;
/// Specialised with `kWords`, indexed by the enum's value, for each enum.
template <class E>
struct WordsOf;

template <class S>
concept Described = requires {
  FieldsOf<S>::kList;
};
template <class E>
concept Enumerated = requires {
  WordsOf<E>::kWords;
};

/// The names of the words of an enum for a message: "Agent, Platform".
template <Enumerated E>
std::string AllWords() {
  std::string all;
  for (const std::string_view word : WordsOf<E>::kWords) (all += all.empty() ? "" : ", ") += word;
  return all;
}

#define WO_WORDS(Enum, ...)                                                        \
  template <>                                                                      \
  struct WordsOf<Enum> {                                                           \
    static constexpr auto kWords = std::to_array<std::string_view>({__VA_ARGS__}); \
  }
#define WO_FIELDS(Struct, ...)                                  \
  template <>                                                   \
  struct FieldsOf<Struct> {                                     \
    using S = Struct;                                           \
    static constexpr auto kList = std::make_tuple(__VA_ARGS__); \
  }

WO_WORDS(api::WorkspaceKind, "Agent", "Platform");
WO_WORDS(api::BoxType, "Pod", "Docker", "SSH", "Directory", "External");
WO_WORDS(api::DirectoryRun, "Operator", "External");
WO_WORDS(api::RestartPolicy, "Immediate", "WhenIdle", "Manual");
WO_WORDS(api::RecreatePolicy, "Never", "Allowed");
WO_WORDS(api::DeletionPolicy, "Remove", "Orphan");
WO_WORDS(api::PluginOrigin, "BootInstalled", "Delivered");
WO_WORDS(api::UpdatePolicy, "Track", "Pin", "Manual");
WO_WORDS(meta::ConditionStatus, "True", "False", "Unknown");

// --- meta

WO_FIELDS(meta::OwnerRef, F("apiVersion", &S::api_version, kAlways | kShared),
          F("kind", &S::kind, kAlways | kShared), F("name", &S::name, kAlways),
          F("uid", &S::uid, kAlways | kUid), F("controller", &S::controller),
          F("blockOwnerDeletion", &S::block_owner_deletion));
WO_FIELDS(meta::ObjectMeta, F("namespace", &S::ns, kShared), F("name", &S::name),
          F("uid", &S::uid, kUid), F("resourceVersion", &S::resource_version, kNumber),
          F("generation", &S::generation), F("creationTimestamp", &S::creation_time),
          F("deletionTimestamp", &S::deletion_time), F("labels", &S::labels, kShared),
          F("annotations", &S::annotations, kShared | kTrimmed),
          F("finalizers", &S::finalizers, kShared), F("ownerReferences", &S::owners));
WO_FIELDS(meta::Condition, F("type", &S::type, kAlways | kShared), F("status", &S::status, kAlways),
          F("observedGeneration", &S::observed_generation, kAlways | kGeneration),
          F("lastTransitionTime", &S::last_transition_time, kAlways),
          F("reason", &S::reason, kAlways | kShared),
          F("message", &S::message, kAlways | kPerhaps, 32768));

// --- Workspace spec

WO_FIELDS(api::LocalRef, F("name", &S::name, kAlways));
WO_FIELDS(api::PodStorage, F("size", &S::size, kAlways | kShared),
          F("storageClassName", &S::storage_class_name, kShared));
WO_FIELDS(api::PodBox, F("image", &S::image, kShared), F("templateRef", &S::template_ref),
          F("storage", &S::storage), F("podRef", &S::pod_ref),
          F("container", &S::container, kShared));
WO_FIELDS(api::DockerBox, F("endpoint", &S::endpoint, kAlways | kShared),
          F("container", &S::container, kAlways));
WO_FIELDS(api::SshBox, F("host", &S::host, kAlways), F("port", &S::port),
          F("user", &S::user, kAlways | kShared), F("hostKey", &S::host_key, kAlways),
          F("keySecretRef", &S::key_secret_ref));
WO_FIELDS(api::DirectoryBox, F("path", &S::path, kAlways), F("run", &S::run));
WO_FIELDS(api::BoxSpec, F("type", &S::type, kAlways), F("pod", &S::pod), F("docker", &S::docker),
          F("ssh", &S::ssh), F("directory", &S::directory));
WO_FIELDS(api::InlinePlugin, F("name", &S::name, kAlways | kShared),
          F("source", &S::source, kAlways | kShared));
WO_FIELDS(api::HeartbeatSpec, F("periodSeconds", &S::period_seconds, kShared),
          F("timeoutSeconds", &S::timeout_seconds, kShared));
WO_FIELDS(api::ProvisioningSpec, F("deadlineSeconds", &S::deadline_seconds));
WO_FIELDS(api::RestartSpec, F("policy", &S::policy), F("deadlineSeconds", &S::deadline_seconds),
          F("recreate", &S::recreate));
WO_FIELDS(api::WorkspaceSpec, F("kind", &S::kind), F("runtime", &S::runtime, kShared),
          F("box", &S::box, kAlways), F("plugins", &S::plugins), F("model", &S::model, kShared),
          F("heartbeat", &S::heartbeat), F("provisioning", &S::provisioning),
          F("restart", &S::restart), F("suspend", &S::suspend));

// --- Workspace status

WO_FIELDS(api::BoxStatus, F("identity", &S::identity, kUid, 512),
          F("state", &S::state, kShared, 63), F("cause", &S::cause, kPerhaps, 1024),
          F("observedTime", &S::observed_time));
WO_FIELDS(api::BootInstallStatus, F("state", &S::state, kShared, 63),
          F("error", &S::error, kPerhaps, 1024));
WO_FIELDS(api::AgentStatus, F("bootID", &S::boot_id, kUid, 128),
          F("version", &S::version, kShared, 128), F("currentTask", &S::current_task, kPlain, 512),
          F("activeTasks", &S::active_tasks), F("errorRate", &S::error_rate, kShared, 32),
          F("sampleError", &S::sample_error, kPerhaps, 1024),
          F("monthlySpend", &S::monthly_spend, kPlain, 32),
          F("managementPresent", &S::management_present), F("modelPresent", &S::model_present),
          F("loadedTools", &S::loaded_tools), F("bootInstall", &S::boot_install),
          F("lastTransitionTime", &S::last_transition_time));
WO_FIELDS(api::PluginOwner, F("kind", &S::kind, kAlways | kShared), F("name", &S::name, kAlways),
          F("uid", &S::uid, kUid));
WO_FIELDS(api::PluginRow, F("name", &S::name, kAlways | kShared), F("owner", &S::owner, kAlways),
          F("source", &S::source, kAlways | kShared), F("origin", &S::origin),
          F("revision", &S::revision, kShared, 256), F("digest", &S::digest, kShared),
          F("installedTime", &S::installed_time), F("loaded", &S::loaded, kAlways),
          F("deletionPolicy", &S::deletion_policy, kAlways), F("reason", &S::reason, kShared, 128),
          F("message", &S::message, kPerhaps, 1024), F("attempts", &S::attempts),
          F("nextAttemptTime", &S::next_attempt_time),
          F("approvedRevision", &S::approved_revision, kPerhaps, 256),
          F("approvedDigest", &S::approved_digest, kPerhaps));
WO_FIELDS(api::PendingRestart, F("plugins", &S::plugins, kShared, 256),
          F("bootID", &S::boot_id, kUid, 128), F("since", &S::since), F("deadline", &S::deadline),
          F("epoch", &S::epoch, kAlways));
WO_FIELDS(api::RecoveryStatus, F("lastAttemptTime", &S::last_attempt_time),
          F("attempts", &S::attempts, kAlways), F("restarts", &S::restarts));
WO_FIELDS(api::WorkspaceStatus, F("conditions", &S::conditions, kPlain, 16),
          F("observedGeneration", &S::observed_generation), F("state", &S::state, kShared),
          F("box", &S::box), F("agent", &S::agent), F("plugins", &S::plugins, kPlain, 256),
          F("pendingRestart", &S::pending_restart), F("recovery", &S::recovery),
          F("lastHandledReconcileAt", &S::last_handled_reconcile_at, kPlain, 256));
WO_FIELDS(api::Workspace, F("metadata", &S::meta, kAlways), F("spec", &S::spec, kAlways),
          F("status", &S::status));

// --- DeclaredPlugin

WO_FIELDS(api::LabelRequirement, F("key", &S::key, kAlways | kShared),
          F("operator", &S::op, kAlways | kShared), F("values", &S::values, kShared));
WO_FIELDS(api::LabelSelector, F("matchLabels", &S::match_labels, kShared),
          F("matchExpressions", &S::match_expressions));
WO_FIELDS(api::UpdateSpec, F("policy", &S::policy),
          F("intervalSeconds", &S::interval_seconds, kShared));
WO_FIELDS(api::DeclaredPluginSpec, F("workspaceRef", &S::workspace_ref),
          F("workspaceSelector", &S::workspace_selector), F("pluginName", &S::plugin_name, kShared),
          F("source", &S::source, kAlways | kShared), F("sourceSecretRef", &S::source_secret_ref),
          F("update", &S::update), F("dependsOn", &S::depends_on, kShared),
          F("deletionPolicy", &S::deletion_policy), F("suspend", &S::suspend));
WO_FIELDS(api::ResolvedSource, F("ref", &S::ref, kShared, 512), F("refKind", &S::ref_kind, kShared),
          F("commit", &S::commit, kShared), F("digest", &S::digest, kShared),
          F("sizeBytes", &S::size_bytes, kShared), F("resolvedTime", &S::resolved_time));
WO_FIELDS(api::WorkspaceTrouble, F("name", &S::name, kAlways),
          F("reason", &S::reason, kAlways | kShared, 128),
          F("message", &S::message, kPerhaps, 1024));
WO_FIELDS(api::WorkspaceCounts, F("matched", &S::matched, kAlways), F("ready", &S::ready, kAlways),
          F("pending", &S::pending, kAlways), F("failed", &S::failed, kAlways),
          F("blocked", &S::blocked, kAlways), F("worst", &S::worst, kPlain, 10));
WO_FIELDS(api::DeclaredPluginStatus, F("conditions", &S::conditions, kPlain, 16),
          F("observedGeneration", &S::observed_generation), F("resolved", &S::resolved),
          F("workspaces", &S::workspaces),
          F("lastHandledReconcileAt", &S::last_handled_reconcile_at, kPlain, 256));
WO_FIELDS(api::DeclaredPlugin, F("metadata", &S::meta, kAlways), F("spec", &S::spec, kAlways),
          F("status", &S::status));

#undef WO_WORDS
#undef WO_FIELDS

}  // namespace codec::wire
