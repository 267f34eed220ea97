#include "apiserver/schema/object_schema.hpp"

#include <utility>

namespace apiserver {
namespace {

using codec::Json;

constexpr std::string_view kObjectMeta = R"json({
"type":"object","description":"Who the object is, and what is known about every object of any kind.","properties":{
"name":{"type":"string","description":"Name of the object: unique among its kind in its namespace. It cannot be changed."},
"generateName":{"type":"string","description":"Prefix from which the server makes a unique name when name is not given."},
"namespace":{"type":"string","description":"Namespace in which the name must be unique. Empty for cluster-scoped kinds. It cannot be changed."},
"selfLink":{"type":"string","description":"Not used any more."},
"uid":{"type":"string","description":"Identifier of this one object, set by the server: an object made again under the same name has another one."},
"resourceVersion":{"type":"string","description":"Opaque version of the stored object, for optimistic locking and watches."},
"generation":{"type":"integer","format":"int64","description":"Counts the changes of the wanted state."},
"creationTimestamp":{"type":"string","format":"date-time","nullable":true,"description":"When the server made the object."},
"deletionTimestamp":{"type":"string","format":"date-time","nullable":true,"description":"When deletion was asked for; the object goes once its finalizers are gone."},
"deletionGracePeriodSeconds":{"type":"integer","format":"int64","description":"Seconds given for a graceful end."},
"labels":{"type":"object","additionalProperties":{"type":"string","default":""},"description":"Keys and values by which objects are selected."},
"annotations":{"type":"object","additionalProperties":{"type":"string","default":""},"description":"Keys and values that tools keep with the object; not selectable, at most 256 KiB in all."},
"ownerReferences":{"type":"array","description":"Objects that this one depends on: it is deleted when all of them are gone.",
 "x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["uid"],"x-kubernetes-patch-merge-key":"uid","x-kubernetes-patch-strategy":"merge",
 "items":{"type":"object","x-kubernetes-map-type":"atomic","required":["apiVersion","kind","name","uid"],"description":"One owner in the same namespace.","properties":{
  "apiVersion":{"type":"string","description":"API version of the owner."},
  "kind":{"type":"string","description":"Kind of the owner."},
  "name":{"type":"string","description":"Name of the owner."},
  "uid":{"type":"string","description":"UID of the owner."},
  "controller":{"type":"boolean","description":"True if the owner is the managing controller."},
  "blockOwnerDeletion":{"type":"boolean","description":"True if a foreground deletion of the owner waits for this object."}}}},
"finalizers":{"type":"array","x-kubernetes-list-type":"set","x-kubernetes-patch-strategy":"merge","items":{"type":"string"},"description":"Names of those who must agree before the object is removed."},
"managedFields":{"type":"array","x-kubernetes-list-type":"atomic","description":"Which writer set which field.",
 "items":{"type":"object","description":"The fields of one writer.","properties":{
  "manager":{"type":"string","description":"Name of the writer."},
  "operation":{"type":"string","description":"Apply or Update."},
  "apiVersion":{"type":"string","description":"API version in which the fields are named."},
  "time":{"type":"string","format":"date-time","nullable":true,"description":"When the set of fields last changed."},
  "fieldsType":{"type":"string","description":"FieldsV1."},
  "fieldsV1":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"description":"The fields as a tree of f:, k:, v: and i: members."},
  "subresource":{"type":"string","description":"The subresource that was written; empty for the object itself."}}}}}})json";

constexpr const char* kApiVersionText =
    "Group and version of the schema in which this object is written. The server may refuse "
    "versions that it does not know.";
constexpr const char* kKindText = "Kind of the object, in CamelCase. It cannot be changed.";

}  // namespace

const Json& ObjectMetaSchema() {
  static const Json schema = Json::parse(kObjectMeta);
  return schema;
}

base::Status SetSchema(ResourceDefinition& definition, Json schema) {
  if (!schema.is_object())
    return base::MakeError(base::Code::kInvalid, "openAPIV3Schema: must be an object");
  schema["type"] = "object";
  Json& properties = schema["properties"];
  if (!properties.is_object()) properties = Json::object();
  const Json own_metadata = std::as_const(schema)["properties"].value("metadata", Json::object());
  properties["apiVersion"] = {{"type", "string"}, {"description", kApiVersionText}};
  properties["kind"] = {{"type", "string"}, {"description", kKindText}};
  properties["metadata"] = {{"type", "object"},
                            {"description", "Standard metadata of the object."}};
  definition.openapi = std::make_shared<const Json>(schema);
  // For the server's own use metadata is complete; a CRD may narrow the name further.
  Json metadata = ObjectMetaSchema();
  const Json& narrowed = codec::GetMember(own_metadata, "properties");
  for (const char* member : {"name", "generateName"}) {
    if (narrowed.is_object() && narrowed.contains(member))
      metadata["properties"][member].update(narrowed[member]);
  }
  metadata["x-object-meta"] = true;
  properties["metadata"] = std::move(metadata);
  auto node = CompileSchema(schema);
  if (!node) return node.error();
  definition.schema = std::shared_ptr<const SchemaNode>(std::move(*node));
  return {};
}

PrinterColumn NameColumn() {
  return {"Name", "string",
          "name", "Name of the object, unique in its namespace.",
          0,      JsonPath::Compile(".metadata.name").value_or({}),
          ""};
}

PrinterColumn AgeColumn() {
  return {"Age", "date",
          "",    "Time since the object was made.",
          0,     JsonPath::Compile(".metadata.creationTimestamp").value_or({}),
          ""};
}

}  // namespace apiserver
