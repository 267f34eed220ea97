#include "apiserver/wire/object_text.hpp"

#include <algorithm>

namespace apiserver {
namespace {

using codec::Json;

}  // namespace

const Json& MetaOf(const Json& object) {
  static const Json kEmpty = Json::object();
  const Json& metadata = codec::GetMember(object, "metadata");
  return metadata.is_object() ? metadata : kEmpty;
}

Json& MutableMeta(Json& object) {
  Json& metadata = object["metadata"];
  if (!metadata.is_object()) metadata = Json::object();
  return metadata;
}

std::string NameOf(const Json& object) { return codec::GetString(MetaOf(object), "name"); }
std::string UidOf(const Json& object) { return codec::GetString(MetaOf(object), "uid"); }
std::string VersionOf(const Json& object) {
  return codec::GetString(MetaOf(object), "resourceVersion");
}
bool IsDeleting(const Json& object) {
  return codec::GetMember(MetaOf(object), "deletionTimestamp").is_string();
}

std::vector<std::string> FinalizersOf(const Json& object) {
  std::vector<std::string> finalizers;
  const Json& list = codec::GetMember(MetaOf(object), "finalizers");
  if (!list.is_array()) return finalizers;
  for (const Json& item : list) {
    if (item.is_string()) finalizers.push_back(item.get<std::string>());
  }
  return finalizers;
}

std::vector<std::string> OwnerUids(const Json& object) {
  std::vector<std::string> uids;
  const Json& list = codec::GetMember(MetaOf(object), "ownerReferences");
  if (!list.is_array()) return uids;
  for (const Json& item : list) uids.push_back(codec::GetString(item, "uid"));
  return uids;
}

void RemoveFinalizer(Json& object, std::string_view finalizer) {
  std::vector<std::string> finalizers = FinalizersOf(object);
  std::erase(finalizers, finalizer);
  if (finalizers.empty())
    MutableMeta(object).erase("finalizers");
  else
    MutableMeta(object)["finalizers"] = finalizers;
}

void AddFinalizer(Json& object, const std::string& finalizer) {
  std::vector<std::string> finalizers = FinalizersOf(object);
  if (std::find(finalizers.begin(), finalizers.end(), finalizer) != finalizers.end()) return;
  finalizers.push_back(finalizer);
  MutableMeta(object)["finalizers"] = finalizers;
}

std::string TailFrom(Json object) {
  Json metadata = MetaOf(object);
  metadata.erase("resourceVersion");
  object.erase("metadata");
  std::string tail = "\"";
  const std::string meta_text = codec::Dump(metadata);
  if (!metadata.empty()) tail += ',';
  tail.append(meta_text, 1);
  const std::string rest = codec::Dump(object);
  if (!object.empty()) tail += ',';
  tail.append(rest, 1);
  return tail;
}

Json ParseStored(const std::string& text) {
  auto object = codec::ParseJson(text, codec::ParseLimits{16 << 20, 128, false});
  return object ? std::move(*object) : Json::object();
}

}  // namespace apiserver
