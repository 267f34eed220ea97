#include <fmt/format.h>

#include "apiserver/schema/object_schema.hpp"
#include "apiserver/schema/resource_definition.hpp"
#include "base/log.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr std::string_view kNamespace =
    R"json({"type":"object","description":"A scope for names.","properties":{
"spec":{"type":"object","description":"How the namespace behaves.","properties":{
 "finalizers":{"type":"array","x-kubernetes-list-type":"atomic","items":{"type":"string"},"description":"Who must agree before the namespace is removed."}}},
"status":{"type":"object","description":"What the namespace is doing.","properties":{
 "phase":{"type":"string","description":"Active or Terminating."},
 "conditions":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["type"],"x-kubernetes-patch-merge-key":"type","x-kubernetes-patch-strategy":"merge",
  "description":"Observations of the namespace's state.","items":{"type":"object","required":["type","status"],"description":"One observation.","properties":{
   "type":{"type":"string","description":"What is observed."},"status":{"type":"string","description":"True, False or Unknown."},
   "reason":{"type":"string","description":"Why, as one word."},"message":{"type":"string","description":"Why, for people."},
   "lastTransitionTime":{"type":"string","format":"date-time","nullable":true,"description":"When the status last flipped."}}}}}}}})json";

constexpr std::string_view kSecret =
    R"json({"type":"object","description":"Bytes that only some may read.","properties":{
"type":{"type":"string","default":"Opaque","description":"What the secret is for, for programs."},
"data":{"type":"object","description":"Values in base64 by key.","additionalProperties":{"type":"string","format":"byte"}},
"stringData":{"type":"object","description":"Values as text, write only: they are put into data.","additionalProperties":{"type":"string"}},
"immutable":{"type":"boolean","description":"True forbids every later change of the data."}}})json";

constexpr std::string_view kConfigMap =
    R"json({"type":"object","description":"Settings for programs to read.","properties":{
"data":{"type":"object","description":"Texts by key.","additionalProperties":{"type":"string"}},
"binaryData":{"type":"object","description":"Values in base64 by key.","additionalProperties":{"type":"string","format":"byte"}},
"immutable":{"type":"boolean","description":"True forbids every later change of the data."}}})json";

constexpr std::string_view kReference =
    R"json({"type":"object","x-kubernetes-map-type":"atomic","description":"An object.","properties":{
"kind":{"type":"string","description":"Its kind."},"namespace":{"type":"string","description":"Its namespace."},
"name":{"type":"string","description":"Its name."},"uid":{"type":"string","description":"Its UID."},
"apiVersion":{"type":"string","description":"Its API version."},"resourceVersion":{"type":"string","description":"Its version."},
"fieldPath":{"type":"string","description":"The part that is meant."}}})json";

constexpr std::string_view kCoreEvent =
    R"json({"type":"object","description":"Something that happened to an object.","required":["involvedObject"],"properties":{
"reason":{"type":"string","description":"Why, as one word in CamelCase."},
"message":{"type":"string","description":"What happened, for people."},
"type":{"type":"string","description":"Normal or Warning."},
"action":{"type":"string","description":"What was done or failed."},
"count":{"type":"integer","format":"int32","description":"How often it happened."},
"firstTimestamp":{"type":"string","format":"date-time","nullable":true,"description":"When it happened first."},
"lastTimestamp":{"type":"string","format":"date-time","nullable":true,"description":"When it happened last."},
"eventTime":{"type":"string","format":"date-time","nullable":true,"description":"When it was first seen."},
"reportingComponent":{"type":"string","description":"Name of the controller that reports it."},
"reportingInstance":{"type":"string","description":"Which instance of the controller reports it."},
"source":{"type":"object","description":"Who reports it.","properties":{"component":{"type":"string","description":"Component."},"host":{"type":"string","description":"Node."}}},
"series":{"type":"object","description":"Repetitions of the event.","properties":{"count":{"type":"integer","format":"int32","description":"How often."},
 "lastObservedTime":{"type":"string","format":"date-time","nullable":true,"description":"When last."}}}}})json";

constexpr std::string_view kNewEvent =
    R"json({"type":"object","description":"Something that happened to an object.","properties":{
"reason":{"type":"string","description":"Why, as one word in CamelCase."},
"note":{"type":"string","description":"What happened, for people."},
"type":{"type":"string","description":"Normal or Warning."},
"action":{"type":"string","description":"What was done or failed."},
"eventTime":{"type":"string","format":"date-time","nullable":true,"description":"When it was first seen."},
"reportingController":{"type":"string","description":"Name of the controller that reports it."},
"reportingInstance":{"type":"string","description":"Which instance of the controller reports it."},
"deprecatedCount":{"type":"integer","format":"int32","description":"How often it happened."},
"deprecatedFirstTimestamp":{"type":"string","format":"date-time","nullable":true,"description":"When it happened first."},
"deprecatedLastTimestamp":{"type":"string","format":"date-time","nullable":true,"description":"When it happened last."},
"deprecatedSource":{"type":"object","description":"Who reports it.","properties":{"component":{"type":"string","description":"Component."},"host":{"type":"string","description":"Node."}}},
"series":{"type":"object","description":"Repetitions of the event.","required":["count","lastObservedTime"],"properties":{"count":{"type":"integer","format":"int32","description":"How often."},
 "lastObservedTime":{"type":"string","format":"date-time","nullable":true,"description":"When last."}}}}})json";

constexpr std::string_view kLease =
    R"json({"type":"object","description":"A claim that is held for a time.","properties":{
"spec":{"type":"object","description":"Who holds the claim.","properties":{
 "holderIdentity":{"type":"string","description":"Who holds it."},
 "leaseDurationSeconds":{"type":"integer","format":"int32","description":"Seconds that a claim lasts after renewTime."},
 "acquireTime":{"type":"string","format":"date-time","nullable":true,"description":"When the holder got it."},
 "renewTime":{"type":"string","format":"date-time","nullable":true,"description":"When the holder last renewed it."},
 "leaseTransitions":{"type":"integer","format":"int32","description":"How often it changed hands."},
 "preferredHolder":{"type":"string","description":"Who should get it next."},
 "strategy":{"type":"string","description":"How the holder is chosen."}}}}})json";

PrinterColumn Column(const char* name, const char* path, int priority = 0) {
  return {name,     "string",
          "",       fmt::format("{} of the object.", name),
          priority, JsonPath::Compile(path).value_or({}),
          ""};
}

PrinterColumn Computed(const char* name, const char* builtin, int priority = 0) {
  return {name, "string", "", fmt::format("{} of the object.", name), priority, {}, builtin};
}

PrinterColumn DataColumn() { return {"Data", "integer", "", "Number of keys.", 0, {}, "data"}; }

SelectableField Selectable(const char* path) {
  return {path, JsonPath::Compile(std::string(".") + path).value_or({})};
}

ResourceDefinition Define(const char* group, const char* kind, const char* plural, Json schema) {
  ResourceDefinition definition;
  definition.group = group;
  definition.version = "v1";
  definition.kind = kind;
  definition.list_kind = std::string(kind) + "List";
  definition.plural = plural;
  definition.singular = std::string(plural).substr(0, std::string_view(plural).size() - 1);
  definition.columns = {NameColumn()};
  // The texts above are part of the program: a test compiles them all.
  if (auto set = SetSchema(definition, std::move(schema)); !set)
    base::LogError("built-in schema", {{"error", set.error().message}});
  return definition;
}

void Add(ResourceDefinition& definition, std::vector<PrinterColumn> columns) {
  for (PrinterColumn& column : columns) definition.columns.push_back(std::move(column));
}

ResourceDefinition DefineEvent(const char* group, std::string_view text, const char* reference) {
  Json schema = Json::parse(text);
  schema["properties"][reference] = Json::parse(kReference);
  if (std::string_view(group).empty())
    schema["properties"]["related"] = Json::parse(kReference);
  else
    schema["properties"]["related"] = Json::parse(kReference);
  ResourceDefinition definition = Define(group, "Event", "events", std::move(schema));
  definition.short_names = {"ev"};
  // Kubernetes shows events without their generated names, except with -o wide.
  definition.columns = {
      {"Last Seen", "string", "", "Time since it was last seen.", 0, {}, "event-last"}};
  Add(definition,
      {Column("Type", ".type"), Column("Reason", ".reason"), Computed("Object", "event-object"),
       Column("Subobject", (std::string(".") + reference + ".fieldPath").c_str(), 1),
       Computed("Source", "event-source", 1),
       Column("Message", std::string_view(group).empty() ? ".message" : ".note"),
       Computed("First Seen", "event-first", 1), Computed("Count", "event-count", 1),
       Column("Name", ".metadata.name", 1)});
  definition.columns[8].type = "integer";
  definition.columns.back().format = "name";
  return definition;
}

}  // namespace

std::vector<ResourceDefinition> Builtins() {
  std::vector<ResourceDefinition> all;
  ResourceDefinition names = Define("", "Namespace", "namespaces", Json::parse(kNamespace));
  names.namespaced = false;
  names.short_names = {"ns"};
  names.has_status_subresource = true;
  Add(names, {Column("Status", ".status.phase"), AgeColumn()});
  names.selectable_fields = {Selectable("status.phase")};
  all.push_back(std::move(names));

  ResourceDefinition secrets = Define("", "Secret", "secrets", Json::parse(kSecret));
  Add(secrets, {Column("Type", ".type"), DataColumn(), AgeColumn()});
  secrets.selectable_fields = {Selectable("type")};
  all.push_back(std::move(secrets));

  ResourceDefinition maps = Define("", "ConfigMap", "configmaps", Json::parse(kConfigMap));
  maps.short_names = {"cm"};
  Add(maps, {DataColumn(), AgeColumn()});
  all.push_back(std::move(maps));

  ResourceDefinition events = DefineEvent("", kCoreEvent, "involvedObject");
  for (const char* path :
       {"involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
        "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion",
        "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"}) {
    events.selectable_fields.push_back(
        Selectable(std::string_view(path) == "source" ? "source.component" : path));
    events.selectable_fields.back().path = path;
  }
  all.push_back(std::move(events));

  ResourceDefinition new_events = DefineEvent("events.k8s.io", kNewEvent, "regarding");
  for (const char* path :
       {"regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid",
        "regarding.apiVersion", "reason", "reportingController", "type"}) {
    new_events.selectable_fields.push_back(Selectable(path));
  }
  all.push_back(std::move(new_events));

  ResourceDefinition leases = Define("coordination.k8s.io", "Lease", "leases", Json::parse(kLease));
  Add(leases, {Column("Holder", ".spec.holderIdentity"), AgeColumn()});
  all.push_back(std::move(leases));
  return all;
}

}  // namespace apiserver
