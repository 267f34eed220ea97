#pragma once

#include <stop_token>

#include "api/declared_plugin.hpp"
#include "api/workspace.hpp"
#include "reconcile/dependencies.hpp"

namespace reconcile {

/// Reason of the error when the server took a write and dropped fields of it (kUnavailable).
inline constexpr char kSchemaOutdated[] = "SchemaOutdated";

/// One merge patch on /status with the members that differ, none if the two are equal. `object` is
/// the object as cached (its uid guards against writing to a namesake); `before` its status as last
/// written. The caches see the write at once. Value: true if something was written. Errors as
/// kube::Client; kConflict also when the uid is another; kUnavailable with reason SchemaOutdated.
base::Result<bool> WriteStatus(const Dependencies& on, const api::Workspace& object,
                               const api::WorkspaceStatus& before,
                               const api::WorkspaceStatus& after, std::stop_token stop);
base::Result<bool> WriteStatus(const Dependencies& on, const api::DeclaredPlugin& object,
                               const api::DeclaredPluginStatus& before,
                               const api::DeclaredPluginStatus& after, std::stop_token stop);

/// Compare-and-swap: written only if nobody has written since `object` was read. kConflict
/// otherwise.
base::Result<bool> WriteIntent(const Dependencies& on, const api::Workspace& object,
                               const api::WorkspaceStatus& intent, std::stop_token stop);

}  // namespace reconcile
