#include <doctest/doctest.h>
#include <fmt/format.h>

#include <functional>
#include <regex>

#include "base/file.hpp"
#include "codec/crd.hpp"

/// The API rules of the product as a table. Each rule also has a broken schema that it must find: a
/// lint without teeth is green for ever.
namespace {

using codec::GetMember;
using codec::GetString;
using codec::Json;

/// One property (or list element) of the schema.
struct Node {
  std::string path;  ///< .spec.box.type; elements end in [].
  std::string name;  ///< The JSON name; elements: that of the list with [].
  const Json& schema;
  bool Is(const char* type) const { return GetString(schema, "type") == type; }
  bool InStatus() const { return path.starts_with(".status"); }
};

using Check = std::function<std::string(const Node&)>;
struct Rule {
  const char* id;
  const char* says;
  Check check;  ///< Empty text: fine.
  const char*
      broken;  ///< A merge patch of the Workspace schema's properties that the rule must find.
};

bool EndsWith(const std::string& text, std::string_view end) { return text.ends_with(end); }

std::string Messages(const Node& n) {
  static const std::regex field("`[A-Za-z.\\[\\] /0-9-]+`");
  for (const Json& rule : GetMember(n.schema, "x-kubernetes-validations")) {
    const std::string message = GetString(rule, "message");
    if (!std::regex_search(message, field)) return "a message does not name a field in backquotes";
    if (message.find("must") == std::string::npos && message.find("may not") == std::string::npos)
      return "a message does not say must, must not or may not";
    if (message.find('\n') != std::string::npos || message.size() > 300)
      return "a message is not one line of at most 300";
    if (GetString(rule, "rule").size() > 500) return "a rule is too long to read";
  }
  return "";
}

std::string Immutable(const Node& n) {
  for (const Json& rule : GetMember(n.schema, "x-kubernetes-validations"))
    if (GetString(rule, "rule").find("oldSelf") != std::string::npos &&
        GetString(rule, "message").find("delete the") == std::string::npos)
      return "an immutability message does not tell the way out";
  return "";
}

std::string ListRules(const Node& n) {
  if (!n.Is("array")) return "";
  const std::string kind = GetString(n.schema, "x-kubernetes-list-type");
  if (kind != "map" && kind != "set" && kind != "atomic") return "no list type";
  const Json& items = GetMember(n.schema, "items");
  if (kind == "set" && GetString(items, "type") == "object") return "a set of objects";
  if (GetString(items, "type") == "object" && GetMember(items, "required").empty())
    return "elements without a required member";
  if (kind != "map") return "";
  for (const Json& key : GetMember(n.schema, "x-kubernetes-list-map-keys")) {
    const Json& required = GetMember(items, "required");
    if (std::find(required.begin(), required.end(), key) == required.end())
      return "a map key is not required";
  }
  return GetMember(n.schema, "x-kubernetes-list-map-keys").empty() ? "no map keys" : "";
}

std::string Description(const Node& n) {
  const std::string text = GetString(n.schema, "description");
  const std::string start = n.path.empty() ? "Workspace " : n.name + " ";
  if (!n.path.empty() && !text.starts_with(start))
    return "the description does not begin with the JSON name";
  if (!text.ends_with('.') && !text.ends_with(").")) return "the description is no sentence";
  return text.size() > 600 ? "the description is too long" : "";
}

std::string Times(const Node& n) {
  const bool time = GetString(n.schema, "format") == "date-time";
  if (time && !EndsWith(n.name, "Time") && n.name != "since" && n.name != "deadline")
    return "a time's name does not end in Time";
  if (EndsWith(n.name, "Timestamp")) return "called Timestamp";
  if (EndsWith(n.name, "Time") && !time) return "is no date-time";
  return "";
}

std::string Durations(const Node& n) {
  static const std::regex duration("(period|timeout|deadline|interval|duration|delay)$",
                                   std::regex::icase);
  if (std::regex_search(n.name, duration) && GetString(n.schema, "format") != "date-time")
    return "a duration without its unit";
  if (EndsWith(n.name, "Seconds") && !n.Is("integer")) return "a duration that is no integer";
  if (EndsWith(n.name, "Seconds") &&
      GetString(n.schema, "description").find("in seconds") == std::string::npos)
    return "the description lacks the unit";
  return "";
}

std::string Bounds(const Node& n) {
  if (n.Is("string") && !n.schema.contains("maxLength")) return "no maxLength";
  if (n.Is("array") && !n.schema.contains("maxItems")) return "no maxItems";
  if (n.schema.contains("additionalProperties") && !n.schema.contains("maxProperties"))
    return "no maxProperties";
  if (n.Is("integer") && !n.schema.contains("minimum")) return "no minimum";
  if (n.Is("integer") && !n.InStatus() && !n.schema.contains("maximum")) return "no maximum";
  return "";
}

std::string Names(const Node& n) {
  static const std::regex camel("[a-z][A-Za-z0-9]*(\\[\\])?");
  if (!std::regex_match(n.name, camel)) return "no lowerCamelCase";
  if (n.name.find("Reference") != std::string::npos) return "Reference instead of Ref";
  if (n.name == "phase") return "called phase";
  return "";
}

std::string Enums(const Node& n) {
  static const std::regex camel("[A-Z][A-Za-z0-9]*");
  for (const Json& word : GetMember(n.schema, "enum"))
    if (!word.is_string() || !std::regex_match(word.get<std::string>(), camel))
      return "an enum word is not CamelCase text";
  return "";
}

std::string Conditions(const Node& n) {
  if (n.name != "conditions") return "";
  const Json& items = GetMember(n.schema, "items");
  if (GetMember(n.schema, "x-kubernetes-list-map-keys") != Json::array({"type"}))
    return "no list map by type";
  for (const char* name :
       {"type", "status", "observedGeneration", "lastTransitionTime", "reason", "message"})
    if (!GetMember(items, "properties").contains(name)) return fmt::format("lacks {}", name);
  const Json& required = GetMember(items, "required");
  for (const char* name : {"type", "status", "lastTransitionTime", "reason", "message"})
    if (std::find(required.begin(), required.end(), name) == required.end())
      return fmt::format("{} is not required", name);
  return GetMember(GetMember(items, "properties"), "reason").value("minLength", 0) >= 1
             ? ""
             : "reason may be empty";
}

const std::vector<Rule>& Rules() {
  static const std::vector<Rule> rules = {
      {"API-02", "conditions are a list map of whole Conditions", Conditions,
       R"({"status":{"properties":{"conditions":{"items":{"properties":{"observedGeneration":null}}}}}})"},
      {"API-03", "names are lowerCamelCase, say Ref, never phase", Names,
       R"({"status":{"properties":{"phase":{"type":"string","maxLength":9,"description":"phase is x."}}}})"},
      {"API-10", "durations are integers with the unit in the name", Durations,
       R"({"spec":{"properties":{"pollInterval":{"type":"string","maxLength":9,"description":"pollInterval is x."}}}})"},
      {"API-12a", "times are called Time", Times,
       R"({"status":{"properties":{"seenAt":{"type":"string","format":"date-time","maxLength":9}}}})"},
      {"API-12b", "no floats, no nullable, no unsized integers",
       [](const Node& n) -> std::string {
         if (n.Is("number") || n.schema.contains("nullable")) return "a float or a nullable";
         const std::string format = GetString(n.schema, "format");
         return n.Is("integer") && format != "int32" && format != "int64"
                    ? "an integer without int32 or int64"
                    : "";
       },
       R"({"spec":{"properties":{"ratio":{"type":"number"}}}})"},
      {"API-12c", "enum words are CamelCase texts", Enums,
       R"({"spec":{"properties":{"kind":{"enum":["agent"]}}}})"},
      {"API-13", "lists have a type; elements that are objects have a required member", ListRules,
       R"({"spec":{"properties":{"plugins":{"x-kubernetes-list-type":null}}}})"},
      {"API-14", "texts, lists, maps and integers are bounded", Bounds,
       R"({"spec":{"properties":{"model":{"maxLength":null}}}})"},
      {"API-15",
       "nothing is required and defaulted, and nothing is defaulted at all, but the status of what "
       "nobody has looked at yet",
       [](const Node& n) -> std::string {
         if (n.path == ".status") {
           const bool unseen =
               codec::GetMember(n.schema, "default") == Json{{"observedGeneration", -1}};
           return unseen ? "" : "must default to observedGeneration -1 (kstatus)";
         }
         return n.schema.contains("default") ? "has a default" : "";
       },
       R"({"spec":{"properties":{"kind":{"default":"Agent"}}}})"},
      {"API-17", "messages of rules name the field in backquotes and say must", Messages,
       R"({"spec":{"properties":{"model":{"x-kubernetes-validations":[{"rule":"true","message":"bad value"}]}}}})"},
      {"API-18", "immutable fields tell the way out", Immutable,
       R"({"spec":{"properties":{"model":{"x-kubernetes-validations":[{"rule":"self == oldSelf","message":"`spec.model` must not change"}]}}}})"},
      {"API-22", "descriptions begin with the JSON name and are sentences", Description,
       R"({"spec":{"properties":{"model":{"description":"The model."}}}})"},
  };
  return rules;
}

void Walk(const Node& node, const std::function<void(const Node&)>& visit) {
  visit(node);
  for (const auto& [name, property] : GetMember(node.schema, "properties").items())
    if (name != "metadata" || !node.path.empty())
      Walk({node.path + "." + name, name, property}, visit);
  for (const char* inner : {"items", "additionalProperties"})
    if (node.schema.contains(inner))
      Walk({node.path + "[]", node.name + "[]", node.schema[inner]}, visit);
}

/// "path: id: problem" of every breach.
std::vector<std::string> Breaches(const Json& schema, const std::string& only = "") {
  std::vector<std::string> found;
  Walk({"", "workspace", schema}, [&](const Node& node) {
    for (const Rule& rule : Rules()) {
      if (!only.empty() && only != rule.id) continue;
      const std::string problem = rule.check(node);
      if (!problem.empty()) found.push_back(fmt::format("{}: {}: {}", node.path, rule.id, problem));
    }
  });
  return found;
}

TEST_CASE("the schemas keep every API rule") {
  for (const char* plural : {"workspaces", "declaredplugins"}) {
    const Json crd = crd::Load(plural);
    for (const std::string& breach : Breaches(crd::Schema(crd)))
      FAIL_CHECK(std::string(plural), breach);
  }
}

TEST_CASE("every API rule finds the schema that breaks it") {
  const Json crd = crd::Load("workspaces");
  for (const Rule& rule : Rules()) {
    CAPTURE(rule.id);
    Json schema = crd::Schema(crd);
    const Json patch = Json::parse(rule.broken);
    for (const auto& [part, change] : patch.items()) schema["properties"][part].merge_patch(change);
    CHECK(Breaches(schema, rule.id).size() >= 1);
  }
}

TEST_CASE("the CRDs are named, sized and shown as agreed") {
  for (const char* plural : {"workspaces", "declaredplugins"}) {
    CAPTURE(plural);
    const Json crd = crd::Load(plural);
    const Json& spec = crd["spec"];
    const Json& version = crd::Version(crd);
    CHECK(crd["metadata"]["name"] == std::string(plural) + ".molecule.ai");
    CHECK(spec["group"] == "molecule.ai");
    CHECK(spec["scope"] == "Namespaced");
    CHECK(spec["names"]["categories"] == Json::array({"molecule"}));
    for (const Json& name : spec["names"]["shortNames"]) CHECK(name != "ws");  // Taken by others.
    CHECK(version["subresources"] == Json{{"status", Json::object()}});        // API-01, API-24
    CHECK(codec::Dump(crd).size() < 200'000);                                  // API-23
    const Json& columns = version["additionalPrinterColumns"];
    CHECK(columns.front()["name"] == "Ready");
    CHECK(columns.back()["name"] == "Age");
    CHECK(columns.back()["type"] == "date");
    int wide = 0;
    for (const Json& column : columns)
      wide += column["name"] == "Message" && column["priority"] == 1;
    CHECK(wide == 1);
    for (const char* part : {"spec", "status"})
      CHECK(crd::Schema(crd)["properties"].contains(part));
  }
  CHECK(crd::Version(crd::Load("workspaces"))["selectableFields"][0]["jsonPath"] ==
        ".spec.box.type");
  CHECK(crd::Version(crd::Load("declaredplugins"))["selectableFields"][0]["jsonPath"] ==
        ".spec.workspaceRef.name");
}

TEST_CASE("conditions stand first in each status, as the file is read") {
  for (const char* plural : {"workspaces", "declaredplugins"}) {
    const auto text =
        base::ReadFile(fmt::format("{}/crds/{}.yaml", WO_SOURCE_DIR, plural), 1 << 20);
    REQUIRE(text);
    const size_t status = text->find("\n          status:\n");
    REQUIRE(status != std::string::npos);
    const std::string head = "\n            properties:\n";
    const size_t properties = text->find(head, status);
    CHECK(text->substr(properties + head.size()).starts_with("              conditions:\n"));
  }
}

}  // namespace
