#pragma once

#include <string>
#include <string_view>

#include "api/workspace.hpp"
#include "base/result.hpp"
#include "core/policy.hpp"

namespace core {

/// The one choke point (SC-7): used when a declared set is built, and again by the plan (with the
/// digest) before anything is delivered. A plugin is privileged if its name, its source's origin
/// (what is fetched, whatever the spelling, the scheme and the ref), or its digest is one of
/// policy.privileged; it is then accepted only on a Platform workspace, under exactly the listed
/// name and source and, once `digest` is known, with a listed digest. Everything that is not
/// privileged is accepted. Errors: kForbidden with reason NotEntitled; the message says which rule
/// and the remedy.
base::Status CheckEntitlement(api::WorkspaceKind kind, std::string_view plugin_name,
                              std::string_view source, std::string_view digest,
                              const Policy& policy);

/// The entry of policy.privileged that the plugin falls under, or null.
const PrivilegedPlugin* FindPrivileged(std::string_view plugin_name, std::string_view source,
                                       std::string_view digest, const Policy& policy);

}  // namespace core
