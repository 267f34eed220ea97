#pragma once

#include <stop_token>
#include <string>

#include "api/declared_plugin.hpp"
#include "api/workspace.hpp"
#include "reconcile/dependencies.hpp"

namespace reconcile {

/// Reason of the error when the server took a write and dropped fields of it (kUnavailable).
inline constexpr char kSchemaOutdated[] = "SchemaOutdated";

/// A status as the API has it, and the object's resourceVersion with it.
struct WrittenStatus {
  api::WorkspaceStatus status;
  std::string version;
};

/// One merge patch on /status with the members that differ, none if the two are equal. `object` is
/// the object as cached; `before` its status as last written. Rows, debt and recovery are whole
/// values that a later pass builds on: where they differ the write is a compare-and-swap on
/// `before.version`. So it is where no finalizer of ours keeps the object: a real API server does
/// not compare the uid in a patch of /status, and another object may have the name by now. The
/// caches see the write at once. Value: the new resourceVersion; empty if nothing had to be
/// written. Errors as kube::Client; kConflict also when the uid is another; kUnavailable with
/// reason SchemaOutdated.
base::Result<std::string> WriteStatus(const Dependencies& on, const api::Workspace& object,
                                      const WrittenStatus& before,
                                      const api::WorkspaceStatus& after, std::stop_token stop);
/// Always a compare-and-swap on `object`'s version. Value: true if something was written.
base::Result<bool> WriteStatus(const Dependencies& on, const api::DeclaredPlugin& object,
                               const api::DeclaredPluginStatus& before,
                               const api::DeclaredPluginStatus& after, std::stop_token stop);

/// As WriteStatus, always as a compare-and-swap: kConflict if anybody has written since `object`
/// was read.
base::Result<std::string> WriteIntent(const Dependencies& on, const api::Workspace& object,
                                      const api::WorkspaceStatus& intent, std::stop_token stop);

}  // namespace reconcile
