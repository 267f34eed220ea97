#include "apiserver/rest/builtin_rules.hpp"

#include "apiserver/wire/object_text.hpp"
#include "base/base64.hpp"

namespace apiserver {
namespace {

using codec::Json;

bool IsCore(const Served& served, const char* kind) {
  return served.definition.group.empty() && served.definition.kind == kind;
}

void PrepareSecret(Json& object) {
  if (const auto texts = object.find("stringData"); texts != object.end()) {
    if (texts->is_object()) {
      for (const auto& [key, value] : texts->items()) {
        if (value.is_string())
          object["data"][key] = base::EncodeBase64(value.get_ref<const std::string&>());
      }
    }
    object.erase("stringData");
  }
  if (codec::GetString(object, "type").empty()) object["type"] = "Opaque";
}

void PrepareNamespace(const Json* old_object, Json& object) {
  MutableMeta(object)["labels"]["kubernetes.io/metadata.name"] = NameOf(object);
  if (old_object == nullptr) {
    object["spec"]["finalizers"] = Json::array({"kubernetes"});
    object["status"] = {{"phase", "Active"}};
    return;
  }
  object["spec"] = codec::GetMember(*old_object, "spec");
  object["status"] = codec::GetMember(*old_object, "status");
}

}  // namespace

void ApplyBuiltinRules(const Served& served, const Json* old_object, Json& object) {
  if (IsCore(served, "Secret")) PrepareSecret(object);
  if (IsCore(served, "Namespace")) PrepareNamespace(old_object, object);
}

bool MayGo(const Served& served, const Json& object) {
  if (!FinalizersOf(object).empty()) return false;
  if (!IsCore(served, "Namespace")) return true;
  const Json& finalizers = codec::GetMember(codec::GetMember(object, "spec"), "finalizers");
  return !finalizers.is_array() || finalizers.empty();
}

}  // namespace apiserver
