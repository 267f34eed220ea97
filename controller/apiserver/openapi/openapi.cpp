#include "apiserver/openapi/openapi.hpp"

#include <fmt/format.h>

#include <map>
#include <set>

#include "apiserver/openapi/swagger_schema.hpp"
#include "apiserver/schema/object_schema.hpp"
#include "base/sha256.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr const char* kMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// The words of the two dialects that differ.
struct Dialect {
  bool v2 = false;
  std::string Ref(const std::string& component) const {
    return (v2 ? "#/definitions/" : "#/components/schemas/") + component;
  }
};

/// "molecule.ai" to "ai.molecule": components are named by the reversed domain.
std::string ComponentName(const ResourceDefinition& definition) {
  if (definition.group.empty())
    return "io.k8s.api.core." + definition.version + "." + definition.kind;
  std::string reversed;
  std::string_view rest = definition.group;
  while (!rest.empty()) {
    const size_t dot = rest.rfind('.');
    reversed += std::string(dot == std::string_view::npos ? rest : rest.substr(dot + 1)) + ".";
    rest = dot == std::string_view::npos ? "" : rest.substr(0, dot);
  }
  return reversed + definition.version + "." + definition.kind;
}

Json Gvk(const ResourceDefinition& definition, const std::string& kind) {
  return {{"group", definition.group}, {"version", definition.version}, {"kind", kind}};
}

Json MetaRef(const Dialect& dialect, const char* kind, const char* description) {
  const std::string reference = dialect.Ref(std::string(kMeta) + kind);
  if (dialect.v2) return {{"$ref", reference}, {"description", description}};
  return {{"allOf", Json::array({{{"$ref", reference}}})},
          {"default", Json::object()},
          {"description", description}};
}

Json KindSchema(const ResourceDefinition& definition, const Dialect& dialect) {
  Json schema = definition.openapi ? *definition.openapi : Json{{"type", "object"}};
  if (dialect.v2) ToSwagger(schema);
  if (!dialect.v2 || schema.contains("properties")) {
    schema["properties"]["metadata"] =
        MetaRef(dialect, "ObjectMeta", "Standard metadata of the object.");
  }
  schema["x-kubernetes-group-version-kind"] = Json::array({Gvk(definition, definition.kind)});
  return schema;
}

Json ListSchema(const ResourceDefinition& definition, const Dialect& dialect) {
  const Json item = {{"$ref", dialect.Ref(ComponentName(definition))}};
  return {
      {"type", "object"},
      {"description", fmt::format("A list of {} objects.", definition.kind)},
      {"required", {"items"}},
      {"properties",
       {{"apiVersion", {{"type", "string"}, {"description", "Group and version of the schema."}}},
        {"kind", {{"type", "string"}, {"description", "Kind of the list."}}},
        {"metadata", MetaRef(dialect, "ListMeta", "Metadata of the list.")},
        {"items", {{"type", "array"}, {"description", "The objects."}, {"items", item}}}}},
      {"x-kubernetes-group-version-kind", Json::array({Gvk(definition, definition.list_kind)})}};
}

Json ListMetaSchema() {
  return {
      {"type", "object"},
      {"description", "What is known about every list."},
      {"properties",
       {{"continue", {{"type", "string"}, {"description", "Opaque token for the next page."}}},
        {"remainingItemCount",
         {{"type", "integer"}, {"format", "int64"}, {"description", "How many more there are."}}},
        {"resourceVersion",
         {{"type", "string"}, {"description", "Version of the list, to begin a watch from."}}},
        {"selfLink", {{"type", "string"}, {"description", "Not used any more."}}}}}};
}

Json Schemas(const std::vector<const ResourceDefinition*>& definitions, const Dialect& dialect) {
  Json schemas = Json::object();
  Json object_meta = ObjectMetaSchema();
  if (dialect.v2) ToSwagger(object_meta);
  schemas[std::string(kMeta) + "ObjectMeta"] = std::move(object_meta);
  schemas[std::string(kMeta) + "ListMeta"] = ListMetaSchema();
  for (const ResourceDefinition* definition : definitions) {
    const std::string name = ComponentName(*definition);
    schemas[name] = KindSchema(*definition, dialect);
    schemas[name + "List"] = ListSchema(*definition, dialect);
  }
  return schemas;
}

Json Parameter(const Dialect& dialect, const char* name, const char* type, const char* description,
               const char* in = "query") {
  Json parameter = {{"name", name}, {"in", in}, {"description", description}};
  if (std::string_view(in) == "path") parameter["required"] = true;
  parameter["uniqueItems"] = true;
  if (dialect.v2) {
    parameter["type"] = type;
  } else {
    parameter.erase("uniqueItems");
    parameter["schema"] = {{"type", type}, {"uniqueItems", true}};
  }
  return parameter;
}

Json WriteParameters(const Dialect& dialect, bool patch) {
  Json list = Json::array({Parameter(dialect, "dryRun", "string", "All: do everything but store."),
                           Parameter(dialect, "fieldManager", "string",
                                     "Name of the writer, for metadata.managedFields."),
                           Parameter(dialect, "fieldValidation", "string",
                                     "Ignore, Warn or Strict: what unknown fields lead to.")});
  if (patch)
    list.push_back(
        Parameter(dialect, "force", "boolean", "Apply only: take fields from other managers."));
  return list;
}

Json ListParameters(const Dialect& dialect) {
  return Json::array(
      {Parameter(dialect, "allowWatchBookmarks", "boolean", "Watch: send bookmarks."),
       Parameter(dialect, "continue", "string", "Token of the next page."),
       Parameter(dialect, "fieldSelector", "string", "Select by fields."),
       Parameter(dialect, "labelSelector", "string", "Select by labels."),
       Parameter(dialect, "limit", "integer", "Objects a page."),
       Parameter(dialect, "resourceVersion", "string", "Version to read or watch from."),
       Parameter(dialect, "resourceVersionMatch", "string", "How resourceVersion is meant."),
       Parameter(dialect, "sendInitialEvents", "boolean", "Watch: begin with what is there."),
       Parameter(dialect, "timeoutSeconds", "integer", "Seconds until the call ends."),
       Parameter(dialect, "watch", "boolean", "Stream changes instead of listing.")});
}

struct OperationKind {
  const char* verb;    ///< HTTP.
  const char* action;  ///< Kubernetes.
  bool body = false;
  bool list = false;
};

Json Operation(const ResourceDefinition& definition, const OperationKind& kind,
               const Dialect& dialect, const std::string& id) {
  const std::string name = ComponentName(definition);
  const Json schema = {{"$ref", dialect.Ref(kind.list ? name + "List" : name)}};
  const Json own = {{"$ref", dialect.Ref(name)}};
  const bool patch = std::string_view(kind.verb) == "patch";
  Json operation = {
      {"operationId", id},
      {"description", fmt::format("{} objects of kind {}", kind.action, definition.kind)},
      {"x-kubernetes-action", kind.action},
      {"x-kubernetes-group-version-kind", Gvk(definition, definition.kind)}};
  Json parameters = Json::array();
  if (kind.body) parameters = WriteParameters(dialect, patch);
  if (kind.list) parameters = ListParameters(dialect);
  const Json body = patch ? Json{{"type", "object"}} : own;
  Json ok = {{"description", "OK"}};
  if (dialect.v2) {
    if (kind.body)
      parameters.push_back(
          {{"name", "body"}, {"in", "body"}, {"required", true}, {"schema", body}});
    ok["schema"] = schema;
  } else {
    if (kind.body) {
      Json content = Json::object();
      if (patch) {
        for (const char* type : {"application/apply-patch+yaml", "application/json-patch+json",
                                 "application/merge-patch+json"})
          content[type]["schema"] = body;
        if (!definition.custom) content["application/strategic-merge-patch+json"]["schema"] = body;
      } else {
        content["*/*"]["schema"] = body;
      }
      operation["requestBody"] = {{"content", std::move(content)}, {"required", true}};
    }
    ok["content"]["application/json"]["schema"] = schema;
  }
  if (!parameters.empty()) operation["parameters"] = std::move(parameters);
  operation["responses"] = {{"200", std::move(ok)}, {"401", {{"description", "Unauthorized"}}}};
  return operation;
}

void AddPaths(const ResourceDefinition& definition, const Dialect& dialect, Json& paths) {
  const std::string root =
      definition.group.empty() ? "/api/v1" : "/apis/" + definition.group + "/" + definition.version;
  const std::string scope = definition.namespaced ? "/namespaces/{namespace}" : "";
  const std::string collection = root + scope + "/" + definition.plural;
  const std::string tag =
      fmt::format("{}{}", definition.namespaced ? "Namespaced" : "", definition.kind);
  const auto with_names = [&](Json path, bool named) {
    Json parameters = Json::array();
    if (named)
      parameters.push_back(Parameter(dialect, "name", "string", "Name of the object.", "path"));
    if (definition.namespaced)
      parameters.push_back(
          Parameter(dialect, "namespace", "string", "Namespace of the object.", "path"));
    if (!parameters.empty()) path["parameters"] = std::move(parameters);
    return path;
  };
  const auto make = [&](const OperationKind& kind, const std::string& suffix) {
    return Operation(definition, kind, dialect,
                     fmt::format("{}{}{}{}", kind.action, definition.group, tag, suffix));
  };
  paths[collection] = with_names({{"get", make({"get", "list", false, true}, "")},
                                  {"post", make({"post", "post", true}, "")},
                                  {"delete", make({"delete", "deletecollection"}, "")}},
                                 false);
  const Json read = make({"get", "get"}, "");
  paths[collection + "/{name}"] = with_names({{"get", read},
                                              {"put", make({"put", "put", true}, "")},
                                              {"patch", make({"patch", "patch", true}, "")},
                                              {"delete", make({"delete", "delete"}, "")}},
                                             true);
  if (definition.has_status_subresource) {
    paths[collection + "/{name}/status"] =
        with_names({{"get", make({"get", "get"}, "Status")},
                    {"put", make({"put", "put", true}, "Status")},
                    {"patch", make({"patch", "patch", true}, "Status")}},
                   true);
  }
  if (definition.namespaced) {
    paths[root + "/" + definition.plural] = {
        {"get", make({"get", "list", false, true}, "ForAllNamespaces")}};
  }
}

std::string PathOf(const ResourceDefinition& definition) {
  return definition.group.empty() ? "api/" + definition.version
                                  : "apis/" + definition.group + "/" + definition.version;
}

}  // namespace

Json OpenApiV3(std::string_view group, std::string_view version,
               std::span<const ResourceDefinition> definitions) {
  const Dialect dialect;
  std::vector<const ResourceDefinition*> chosen;
  Json paths = Json::object();
  for (const ResourceDefinition& definition : definitions) {
    if (definition.group != group || definition.version != version) continue;
    chosen.push_back(&definition);
    AddPaths(definition, dialect, paths);
  }
  return {{"openapi", "3.0.0"},
          {"info", {{"title", "Kubernetes"}, {"version", "unversioned"}}},
          {"paths", std::move(paths)},
          {"components", {{"schemas", Schemas(chosen, dialect)}}}};
}

Json OpenApiV3Index(std::span<const ResourceDefinition> definitions) {
  Json paths = Json::object();
  for (const ResourceDefinition& definition : definitions) {
    const std::string path = PathOf(definition);
    if (paths.contains(path)) continue;
    const std::string text =
        codec::Dump(OpenApiV3(definition.group, definition.version, definitions));
    const std::string hash = base::Hex(base::Sha256Of(text));
    paths[path] = {{"serverRelativeURL", fmt::format("/openapi/v3/{}?hash={}", path, hash)}};
  }
  return {{"paths", std::move(paths)}};
}

Json OpenApiV2(std::span<const ResourceDefinition> definitions) {
  const Dialect dialect{true};
  std::vector<const ResourceDefinition*> all;
  Json paths = Json::object();
  for (const ResourceDefinition& definition : definitions) {
    all.push_back(&definition);
    AddPaths(definition, dialect, paths);
  }
  return {{"swagger", "2.0"},
          {"info", {{"title", "Kubernetes"}, {"version", "unversioned"}}},
          {"paths", std::move(paths)},
          {"definitions", Schemas(all, dialect)}};
}

}  // namespace apiserver
