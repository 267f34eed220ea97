#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apiserver/schema/field_error.hpp"
#include "apiserver/schema/json_path.hpp"
#include "apiserver/schema/schema_node.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// A column of `kubectl get`. Built-in kinds compute some cells (`builtin` names which); all others
/// read `path`.
struct PrinterColumn {
  std::string name;
  std::string type;  ///< string, integer, number, boolean, date.
  std::string format;
  std::string description;
  int priority = 0;  ///< 0: always shown; 1: with -o wide.
  JsonPath path;
  std::string builtin;
};

struct SelectableField {
  std::string path;  ///< As field selectors name it: spec.workspaceRef.name.
  JsonPath json_path;
};

/// Everything the server knows about one served kind. Cheap to copy (the schema is shared);
/// immutable; thread safe.
struct ResourceDefinition {
  std::string group;  ///< Empty for core.
  std::string version;
  std::string kind;
  std::string list_kind;
  std::string plural;
  std::string singular;
  std::vector<std::string> short_names;
  std::vector<std::string> categories;
  bool namespaced = true;
  bool has_status_subresource = false;  ///< PUT/PATCH of the main resource keep status; /status
                                        ///< keeps everything else but metadata's managed parts.
  bool custom = false;                  ///< From a CRD: strategic merge patch is 415.
  bool generation_counts_all =
      false;  ///< No status subresource in a CRD: every change but metadata bumps generation.
  std::vector<PrinterColumn> columns;  ///< The first is always Name.
  std::vector<SelectableField>
      selectable_fields;  ///< Without metadata.name and metadata.namespace, which always work.
  std::shared_ptr<const SchemaNode> schema;  ///< Of the whole object; metadata is validated apart.
  std::shared_ptr<const codec::Json>
      openapi;  ///< The same schema as OpenAPI v3, with descriptions, without metadata's members.

  /// "molecule.ai/v1alpha1" or "v1".
  std::string ApiVersion() const { return group.empty() ? version : group + "/" + version; }
  KindName Name() const { return {group, kind}; }
  /// "workspaces.molecule.ai" or "secrets": how messages name the resource.
  std::string QualifiedResource() const { return group.empty() ? plural : plural + "." + group; }
};

/// Reads an apiextensions.k8s.io/v1 CustomResourceDefinition. Exactly one version, served and
/// stored; more are refused by name. kInvalid names the path inside the CRD. Rules that cannot be
/// compiled do not fail the load; they refuse the writes they guard (`BrokenRules` lists them).
base::Result<ResourceDefinition> LoadCrd(const codec::Json& crd);

/// `spec.box: <rule>: <why>` for every CEL rule that this server cannot evaluate; to be logged at
/// start.
std::vector<std::string> BrokenRules(const ResourceDefinition& definition);

/// namespaces, secrets, configmaps, events (core/v1 and events.k8s.io/v1) and leases. Both event
/// kinds describe the same objects: see ConvertEvent.
std::vector<ResourceDefinition> Builtins();

/// The `columnDefinitions` of a metav1.Table.
codec::Json TableColumns(const ResourceDefinition& definition);
/// The `cells` of one row, one a column, ages counted to `now`.
codec::Json TableCells(const ResourceDefinition& definition, const codec::Json& object,
                       base::WallTime now);
/// 5s, 3m20s, 2d4h: how kubectl prints ages.
std::string HumanDuration(base::Seconds age);

/// An event of core/v1 as events.k8s.io/v1 shows it and back, losing nothing: one stored object
/// serves both groups. Stored form: core/v1.
codec::Json EventToNew(const codec::Json& core_event);
codec::Json EventToCore(const codec::Json& new_event);

}  // namespace apiserver
