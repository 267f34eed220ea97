#pragma once

#include <string_view>

#include "api/declared_plugin.hpp"
#include "api/workspace.hpp"
#include "codec/json.hpp"

/// The resources of the product to and from their wire form. Wire names stand in one place:
/// codec/fields.hpp.
///
/// Decoding reads the bytes of one object (a GET answer, an item of a list, the `object` of a watch
/// event) straight into the struct, with one parser a thread; the input needs no padding and is not
/// kept. Unknown members are skipped, `null` is the same as absent, and an absent member is the
/// struct's default. metadata.managedFields and the annotation
/// kubectl.kubernetes.io/last-applied-configuration (half of the bytes of a typical object) are
/// never materialised. Errors: kInvalid; the message names the field by its path (`spec.box.type`),
/// so a newer enum value fails closed. Thread safe.
namespace codec {

base::Result<api::Workspace> DecodeWorkspace(std::string_view json);
base::Result<api::DeclaredPlugin> DecodeDeclaredPlugin(std::string_view json);
/// The metadata of an object of any kind.
base::Result<meta::ObjectMeta> DecodeObjectMeta(std::string_view json);
/// Only the status of a document that has one (an answer to a status patch).
base::Result<api::WorkspaceStatus> DecodeWorkspaceStatus(const Json& object);
base::Result<api::DeclaredPluginStatus> DecodeDeclaredPluginStatus(const Json& object);

/// The whole object with apiVersion and kind. Members that equal the struct's default are left out,
/// unless the schema requires them or a reader of `kubectl get -o yaml` would miss them (status
/// counters); an empty status is left out.
Json EncodeWorkspace(const api::Workspace& workspace);
Json EncodeDeclaredPlugin(const api::DeclaredPlugin& plugin);
/// The value of the member `status`.
Json EncodeWorkspaceStatus(const api::WorkspaceStatus& status);
Json EncodeDeclaredPluginStatus(const api::DeclaredPluginStatus& status);
/// The value of the member `spec`.
Json EncodeWorkspaceSpec(const api::WorkspaceSpec& spec);
Json EncodeDeclaredPluginSpec(const api::DeclaredPluginSpec& spec);
/// The value of the member `metadata`.
Json EncodeObjectMeta(const meta::ObjectMeta& meta);

/// The CamelCase wire word of an enum, e.g. for a message or a metric label.
std::string_view WireName(api::WorkspaceKind value);
std::string_view WireName(api::BoxType value);
std::string_view WireName(api::DirectoryRun value);
std::string_view WireName(api::RestartPolicy value);
std::string_view WireName(api::RecreatePolicy value);
std::string_view WireName(api::DeletionPolicy value);
std::string_view WireName(api::PluginOrigin value);
std::string_view WireName(api::UpdatePolicy value);

}  // namespace codec
