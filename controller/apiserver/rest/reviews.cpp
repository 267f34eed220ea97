#include "apiserver/rest/reviews.hpp"

#include <string_view>
#include <utility>

namespace apiserver {
namespace {

using codec::Json;

Json UserOf(const Identity& identity) {
  Json user = {{"username", identity.user}, {"groups", identity.groups}};
  if (!identity.uid.empty()) user["uid"] = identity.uid;
  return user;
}

Attributes AttributesOf(const Json& spec) {
  Attributes asked;
  const Json& resource = codec::GetMember(spec, "resourceAttributes");
  const Json& other = codec::GetMember(spec, "nonResourceAttributes");
  if (resource.is_object()) {
    asked.verb = codec::GetString(resource, "verb");
    asked.group = codec::GetString(resource, "group");
    asked.resource = codec::GetString(resource, "resource");
    asked.subresource = codec::GetString(resource, "subresource");
    asked.ns = codec::GetString(resource, "namespace");
    asked.name = codec::GetString(resource, "name");
  } else {
    asked.verb = codec::GetString(other, "verb");
    asked.path = codec::GetString(other, "path");
  }
  return asked;
}

Identity SubjectOf(const Json& spec) {
  Identity identity{codec::GetString(spec, "user"), codec::GetString(spec, "uid"), {}};
  const Json& groups = codec::GetMember(spec, "groups");
  if (groups.is_array()) {
    for (const Json& group : groups) {
      if (group.is_string()) identity.groups.push_back(group.get<std::string>());
    }
  }
  return identity;
}

Json RulesStatus(const std::vector<PolicyRule>& rules, const std::string& ns) {
  Json resources = Json::array();
  Json paths = Json::array();
  for (const PolicyRule& rule : rules) {
    if (!rule.paths.empty())
      paths.push_back({{"verbs", rule.verbs}, {"nonResourceURLs", rule.paths}});
    if (rule.resources.empty()) continue;
    bool here = rule.namespaces.empty();
    for (const std::string& item : rule.namespaces) here = here || item == "*" || item == ns;
    if (!here) continue;
    Json entry = {{"verbs", rule.verbs}, {"apiGroups", rule.groups}, {"resources", rule.resources}};
    if (!rule.names.empty()) entry["resourceNames"] = rule.names;
    resources.push_back(std::move(entry));
  }
  return {{"resourceRules", resources}, {"nonResourceRules", paths}, {"incomplete", false}};
}

Json AccessStatus(bool allowed) {
  Json status = {{"allowed", allowed}};
  if (!allowed) status["reason"] = "no rule of a token allows it";
  return status;
}

}  // namespace

Outcome<Json> AnswerReview(const ReviewKind& review, const TokenTable& tokens,
                           const Identity& caller, Json body, const std::string& ns) {
  if (!body.is_object()) return BadRequest("the body must be an object");
  const std::string_view kind = review.kind;
  const Json spec = codec::GetMember(body, "spec");
  body["apiVersion"] = std::string(review.group) + "/v1";
  body["kind"] = review.kind;
  if (!body.contains("metadata") || !body["metadata"].is_object())
    body["metadata"] = Json::object();
  if (kind == "SelfSubjectReview") {
    body["status"] = {{"userInfo", UserOf(caller)}};
  } else if (kind == "SelfSubjectRulesReview") {
    body["status"] = RulesStatus(tokens.RulesFor(caller), codec::GetString(spec, "namespace"));
  } else if (kind == "TokenReview") {
    const auto identity = tokens.Authenticate(codec::GetString(spec, "token"));
    body["status"] = {{"authenticated", identity.has_value()}};
    if (identity) body["status"]["user"] = UserOf(*identity);
    // The answer does not repeat the token.
    body["spec"] = Json::object();
  } else {
    const bool self = kind == "SelfSubjectAccessReview";
    Attributes asked = AttributesOf(spec);
    if (asked.verb.empty())
      return BadRequest(
          "spec.resourceAttributes or spec.nonResourceAttributes with a verb is required");
    if (review.namespaced && asked.ns != ns)
      return BadRequest(
          "spec.resourceAttributes.namespace must match the namespace of the request");
    if (asked.resource.empty() && asked.path.empty()) asked.path = "/";
    body["status"] = AccessStatus(tokens.Allowed(self ? caller : SubjectOf(spec), asked));
  }
  return body;
}

}  // namespace apiserver
