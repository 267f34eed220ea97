#pragma once

/// Stable words of the API (reasons of conditions and tracking rows, states). Documented in
/// docs/reference; scripts match on them.
namespace core::reason {

// Workspace states.
inline constexpr char kTerminating[] = "Terminating";
inline constexpr char kSuspended[] = "Suspended";
inline constexpr char kFailed[] = "Failed";
inline constexpr char kAwaitingAgent[] = "AwaitingAgent";
inline constexpr char kProvisioning[] = "Provisioning";
inline constexpr char kOffline[] = "Offline";
inline constexpr char kDegraded[] = "Degraded";
inline constexpr char kOnline[] = "Online";

// Why a workspace is not (or is) well.
inline constexpr char kAwaitingFirstReport[] = "AwaitingFirstReport";
inline constexpr char kProvisioningTimeout[] = "ProvisioningTimeout";
inline constexpr char kBoxRunning[] = "BoxRunning";
inline constexpr char kBoxStopped[] = "BoxStopped";
inline constexpr char kBoxUnknown[] = "BoxUnknown";
inline constexpr char kBoxNotReachable[] = "BoxNotReachable";
inline constexpr char kHeartbeatFresh[] = "HeartbeatFresh";
inline constexpr char kHeartbeatStale[] = "HeartbeatStale";
inline constexpr char kTakeOver[] = "TakeOver";
inline constexpr char kErrorRateHigh[] = "ErrorRateHigh";
inline constexpr char kReady[] = "Ready";
inline constexpr char kPluginsPending[] = "PluginsPending";
inline constexpr char kPluginsStalled[] = "PluginsStalled";
inline constexpr char kPluginsFailed[] = "PluginsFailed";
inline constexpr char kIdle[] = "Idle";

// The gate.
inline constexpr char kGatePassed[] = "GatePassed";
inline constexpr char kManagementMissing[] = "ManagementMissing";
inline constexpr char kManagementToolsNotLoaded[] = "ManagementToolsNotLoaded";
inline constexpr char kModelMissing[] = "ModelMissing";
inline constexpr char kGateEvidenceStale[] = "GateEvidenceStale";
inline constexpr char kManagementNotConfigured[] = "ManagementNotConfigured";

// Declared set.
inline constexpr char kConflict[] = "Conflict";
inline constexpr char kNoConflict[] = "NoConflict";
inline constexpr char kNotEntitled[] = "NotEntitled";
inline constexpr char kInvalidSource[] = "InvalidSource";
inline constexpr char kRefNotPinned[] = "RefNotPinned";
inline constexpr char kInvalidName[] = "InvalidName";
inline constexpr char kInvalidSelector[] = "InvalidSelector";
inline constexpr char kNameMismatch[] = "NameMismatch";
inline constexpr char kTooManyPlugins[] = "TooManyPlugins";
inline constexpr char kMissingDependency[] = "MissingDependency";
inline constexpr char kDependencyCycle[] = "DependencyCycle";
inline constexpr char kDependencyNotReady[] = "DependencyNotReady";

// Tracking rows.
inline constexpr char kLoaded[] = "Loaded";
inline constexpr char kConverged[] = "Converged";
inline constexpr char kResolving[] = "Resolving";
inline constexpr char kFetching[] = "Fetching";
inline constexpr char kDelivering[] = "Delivering";
inline constexpr char kInstalled[] = "Installed";
inline constexpr char kRemoving[] = "Removing";
inline constexpr char kAwaitingRestart[] = "AwaitingRestart";
inline constexpr char kRestarting[] = "Restarting";
inline constexpr char kAwaitingIdle[] = "AwaitingIdle";
inline constexpr char kAwaitingRestartRequest[] = "AwaitingRestartRequest";
inline constexpr char kGatheringChanges[] = "GatheringChanges";
inline constexpr char kAwaitingPull[] = "AwaitingPull";
inline constexpr char kAwaitingBootReport[] = "AwaitingBootReport";
inline constexpr char kBootInstallRunning[] = "BootInstallRunning";
inline constexpr char kBootInstallFailed[] = "BootInstallFailed";
inline constexpr char kProbeUnknown[] = "ProbeUnknown";
inline constexpr char kUpdateAvailable[] = "UpdateAvailable";
inline constexpr char kDrifted[] = "Drifted";
inline constexpr char kReportedNotLoaded[] = "ReportedNotLoaded";
inline constexpr char kPluginsPathNotPersistent[] = "PluginsPathNotPersistent";
inline constexpr char kRestartUnsupported[] = "RestartUnsupported";
inline constexpr char kRecoveryCoolingDown[] = "RecoveryCoolingDown";
inline constexpr char kRecoveryAwaitingManagement[] = "RecoveryAwaitingManagement";
inline constexpr char kRecoveryBlockedByPolicy[] = "RecoveryBlockedByPolicy";
inline constexpr char kSourceUnavailable[] = "SourceUnavailable";
inline constexpr char kPodMissing[] = "PodMissing";
inline constexpr char kContainerNotReady[] = "ContainerNotReady";
inline constexpr char kPodOutdated[] = "PodOutdated";
inline constexpr char kRevisionGone[] = "RevisionGone";
inline constexpr char kStepFailed[] = "StepFailed";
inline constexpr char kRestartFailed[] = "RestartFailed";
inline constexpr char kInventoryUntrusted[] = "InventoryUntrusted";

// DeclaredPlugin.
inline constexpr char kAccepted[] = "Accepted";
inline constexpr char kSourceResolved[] = "SourceResolved";
inline constexpr char kNoWorkspaceMatches[] = "NoWorkspaceMatches";

}  // namespace core::reason
