#include "apiserver/wire/registry.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apiserver/openapi/openapi.hpp"
#include "apiserver/schema/schema_node.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr ReviewKind kReviews[] = {
    {"authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", false},
    {"authentication.k8s.io", "tokenreviews", "TokenReview", false},
    {"authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", true},
    {"authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", false},
    {"authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", false},
    {"authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", false},
};

std::string Singular(const ReviewKind& review) {
  std::string singular(review.plural);
  singular.pop_back();
  return singular;
}

/// The definition of CustomResourceDefinition itself: shown as it was given, whatever is in it.
ResourceDefinition CrdDefinition() {
  ResourceDefinition definition;
  definition.group = "apiextensions.k8s.io";
  definition.version = "v1";
  definition.kind = "CustomResourceDefinition";
  definition.list_kind = "CustomResourceDefinitionList";
  definition.plural = "customresourcedefinitions";
  definition.singular = "customresourcedefinition";
  definition.short_names = {"crd", "crds"};
  definition.categories = {"api-extensions"};
  definition.namespaced = false;
  definition.columns = {{"Name", "string", "name", "Name of the definition.", 0,
                         JsonPath::Compile(".metadata.name").value_or({}), ""},
                        {"Created At", "date", "", "When it was made.", 0,
                         JsonPath::Compile(".metadata.creationTimestamp").value_or({}), ""}};
  const Json schema = {{"type", "object"}, {"x-kubernetes-preserve-unknown-fields", true}};
  if (auto node = CompileSchema(schema))
    definition.schema = std::shared_ptr<const SchemaNode>(std::move(*node));
  definition.openapi = std::make_shared<const Json>(schema);
  return definition;
}

Json ResourceEntry(const Served& served) {
  const ResourceDefinition& definition = served.definition;
  Json entry = {{"name", definition.plural},
                {"singularName", definition.singular},
                {"namespaced", definition.namespaced},
                {"kind", definition.kind},
                {"verbs", VerbsOf(served)}};
  if (!definition.short_names.empty()) entry["shortNames"] = definition.short_names;
  if (!definition.categories.empty()) entry["categories"] = definition.categories;
  return entry;
}

Json AggregatedResource(const Served& served) {
  const ResourceDefinition& definition = served.definition;
  const Json kind = {
      {"group", definition.group}, {"version", definition.version}, {"kind", definition.kind}};
  Json entry = {{"resource", definition.plural},
                {"responseKind", kind},
                {"scope", definition.namespaced ? "Namespaced" : "Cluster"},
                {"singularResource", definition.singular},
                {"verbs", VerbsOf(served)}};
  if (!definition.short_names.empty()) entry["shortNames"] = definition.short_names;
  if (!definition.categories.empty()) entry["categories"] = definition.categories;
  if (definition.has_status_subresource) {
    entry["subresources"] = Json::array({{{"subresource", "status"},
                                          {"responseKind", kind},
                                          {"verbs", {"get", "patch", "update"}}}});
  }
  return entry;
}

Json AggregatedReview(const ReviewKind& review) {
  return {{"resource", review.plural},
          {"responseKind", {{"group", review.group}, {"version", "v1"}, {"kind", review.kind}}},
          {"scope", review.namespaced ? "Namespaced" : "Cluster"},
          {"singularResource", Singular(review)},
          {"verbs", {"create"}}};
}

Json VersionEntry(const std::string& group, const std::string& version) {
  return {{"groupVersion", group + "/" + version}, {"version", version}};
}

Json GroupEntry(const std::string& group, const std::string& version) {
  return {{"name", group},
          {"versions", Json::array({VersionEntry(group, version)})},
          {"preferredVersion", VersionEntry(group, version)}};
}

}  // namespace

std::vector<std::string> VerbsOf(const Served& served) {
  if (served.read_only) return {"get", "list", "watch"};
  return {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"};
}

Registry::Registry(Registry&& other) noexcept
    : served_(std::move(other.served_)),
      crds_(std::move(other.crds_)),
      openapi_(std::move(other.openapi_)),
      openapi_v2_(std::move(other.openapi_v2_)) {}

base::Result<Registry> Registry::Make(const std::vector<std::string>& crd_texts) {
  Registry registry;
  registry.AddBuiltins();
  for (const std::string& text : crd_texts) {
    auto documents = codec::ParseYaml(text);
    if (!documents) return documents.error();
    for (const Json& document : *documents) {
      if (document.is_null()) continue;
      if (auto added = registry.AddCrd(document); !added) return added.error();
    }
  }
  return registry;
}

void Registry::AddBuiltins() {
  for (ResourceDefinition& definition : Builtins()) {
    Served served;
    served.expires = definition.plural == "events";
    served.new_event = definition.group == "events.k8s.io";
    served.store_resource = served.new_event ? "events" : definition.QualifiedResource();
    served.definition = std::move(definition);
    served_.push_back(std::move(served));
  }
  Served crds;
  crds.definition = CrdDefinition();
  crds.store_resource = crds.definition.QualifiedResource();
  crds.read_only = true;
  served_.push_back(std::move(crds));
}

base::Status Registry::AddCrd(const Json& crd) {
  auto definition = LoadCrd(crd);
  const std::string name = codec::GetString(codec::GetMember(crd, "metadata"), "name");
  if (!definition) {
    return base::MakeError(
        definition.error().code,
        fmt::format("CustomResourceDefinition \"{}\": {}", name, definition.error().message),
        "InvalidCrd");
  }
  if (Find(definition->group, definition->version, definition->plural) != nullptr) {
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("CustomResourceDefinition \"{}\" is given twice", name),
                           "InvalidCrd");
  }
  Served served;
  served.definition = std::move(*definition);
  served.store_resource = served.definition.QualifiedResource();
  served_.push_back(std::move(served));
  crds_.push_back(crd);
  return {};
}

const Served* Registry::Find(std::string_view group, std::string_view version,
                             std::string_view plural) const {
  for (const Served& served : served_) {
    const ResourceDefinition& d = served.definition;
    if (d.group == group && d.version == version && d.plural == plural) return &served;
  }
  return nullptr;
}

const Served* Registry::FindKind(std::string_view api_version, std::string_view kind) const {
  const size_t slash = api_version.find('/');
  const std::string_view group =
      slash == std::string_view::npos ? std::string_view() : api_version.substr(0, slash);
  for (const Served& served : served_) {
    if (served.definition.group == group && served.definition.kind == kind) return &served;
  }
  return nullptr;
}

const ReviewKind* Registry::FindReview(std::string_view group, std::string_view version,
                                       std::string_view plural) const {
  if (version != "v1") return nullptr;
  for (const ReviewKind& review : kReviews) {
    if (group == review.group && plural == review.plural) return &review;
  }
  return nullptr;
}

std::vector<std::string> Registry::BrokenRules() const {
  std::vector<std::string> broken;
  for (const Served& served : served_) {
    for (const std::string& rule : apiserver::BrokenRules(served.definition))
      broken.push_back(served.definition.kind + ": " + rule);
  }
  return broken;
}

std::vector<std::pair<std::string, std::string>> Registry::GroupVersions() const {
  std::vector<std::pair<std::string, std::string>> found;
  for (const Served& served : served_) {
    if (!served.definition.group.empty())
      found.emplace_back(served.definition.group, served.definition.version);
  }
  for (const ReviewKind& review : kReviews) found.emplace_back(review.group, "v1");
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

Json Registry::Aggregated(bool core, std::string_view version) const {
  Json items = Json::array();
  auto groups = GroupVersions();
  if (core) groups = {{"", "v1"}};
  for (const auto& [group, group_version] : groups) {
    Json resources = Json::array();
    for (const Served& served : served_) {
      if (served.definition.group == group && served.definition.version == group_version)
        resources.push_back(AggregatedResource(served));
    }
    for (const ReviewKind& review : kReviews) {
      if (review.group == group) resources.push_back(AggregatedReview(review));
    }
    Json metadata = {{"creationTimestamp", nullptr}};
    if (!group.empty()) metadata["name"] = group;
    items.push_back({{"metadata", metadata},
                     {"versions", Json::array({{{"version", group_version},
                                                {"resources", resources},
                                                {"freshness", "Current"}}})}});
  }
  return {{"kind", "APIGroupDiscoveryList"},
          {"apiVersion", fmt::format("apidiscovery.k8s.io/{}", version)},
          {"metadata", Json::object()},
          {"items", items}};
}

Json Registry::Versions() const {
  return {
      {"kind", "APIVersions"}, {"versions", {"v1"}}, {"serverAddressByClientCIDRs", Json::array()}};
}

Json Registry::Groups() const {
  Json groups = Json::array();
  for (const auto& [group, version] : GroupVersions()) groups.push_back(GroupEntry(group, version));
  return {{"kind", "APIGroupList"}, {"apiVersion", "v1"}, {"groups", groups}};
}

std::optional<Json> Registry::Group(std::string_view wanted) const {
  for (const auto& [group, version] : GroupVersions()) {
    if (group != wanted) continue;
    Json entry = GroupEntry(group, version);
    entry["kind"] = "APIGroup";
    entry["apiVersion"] = "v1";
    return entry;
  }
  return std::nullopt;
}

std::optional<Json> Registry::Resources(std::string_view group, std::string_view version) const {
  Json resources = Json::array();
  for (const Served& served : served_) {
    const ResourceDefinition& definition = served.definition;
    if (definition.group != group || definition.version != version) continue;
    resources.push_back(ResourceEntry(served));
    if (!definition.has_status_subresource) continue;
    resources.push_back({{"name", definition.plural + "/status"},
                         {"singularName", ""},
                         {"namespaced", definition.namespaced},
                         {"kind", definition.kind},
                         {"verbs", {"get", "patch", "update"}}});
  }
  for (const ReviewKind& review : kReviews) {
    if (review.group != group || version != "v1") continue;
    resources.push_back({{"name", review.plural},
                         {"singularName", Singular(review)},
                         {"namespaced", review.namespaced},
                         {"kind", review.kind},
                         {"verbs", {"create"}}});
  }
  if (resources.empty()) return std::nullopt;
  const std::string group_version =
      group.empty() ? std::string(version) : fmt::format("{}/{}", group, version);
  return Json{{"kind", "APIResourceList"},
              {"apiVersion", "v1"},
              {"groupVersion", group_version},
              {"resources", resources}};
}

std::vector<ResourceDefinition> Registry::Definitions() const {
  std::vector<ResourceDefinition> definitions;
  definitions.reserve(served_.size());
  for (const Served& served : served_) definitions.push_back(served.definition);
  return definitions;
}

std::optional<std::string> Registry::OpenApi(const std::string& path) const {
  std::lock_guard lock(mutex_);
  if (const auto found = openapi_.find(path); found != openapi_.end()) return found->second;
  const std::vector<ResourceDefinition> definitions = Definitions();
  if (path.empty()) return openapi_[path] = codec::Dump(OpenApiV3Index(definitions));
  for (const ResourceDefinition& definition : definitions) {
    const std::string own = (definition.group.empty() ? "api/" : "apis/") + definition.ApiVersion();
    if (own != path) continue;
    return openapi_[path] =
               codec::Dump(OpenApiV3(definition.group, definition.version, definitions));
  }
  return std::nullopt;
}

std::string Registry::OpenApiV2Text(bool protobuf) const {
  std::lock_guard lock(mutex_);
  if (const auto found = openapi_v2_.find(protobuf); found != openapi_v2_.end())
    return found->second;
  const Json document = OpenApiV2(Definitions());
  return openapi_v2_[protobuf] = protobuf ? EncodeOpenApiV2(document) : codec::Dump(document);
}

}  // namespace apiserver
