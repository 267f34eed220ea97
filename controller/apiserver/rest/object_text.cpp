#include "apiserver/rest/object_text.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

namespace apiserver {
namespace {

using codec::Json;

constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

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

std::string EncodeBase64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])) << 16;
    if (i + 1 < bytes.size())
      group |= static_cast<uint32_t>(static_cast<uint8_t>(bytes[i + 1])) << 8;
    if (i + 2 < bytes.size()) group |= static_cast<uint8_t>(bytes[i + 2]);
    out.push_back(kDigits[group >> 18]);
    out.push_back(kDigits[(group >> 12) & 63]);
    out.push_back(i + 1 < bytes.size() ? kDigits[(group >> 6) & 63] : '=');
    out.push_back(i + 2 < bytes.size() ? kDigits[group & 63] : '=');
  }
  return out;
}

bool DecodeBase64(std::string_view text, std::string& bytes) {
  bytes.clear();
  if (text.size() % 4 != 0) return false;
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  uint32_t group = 0;
  int bits = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return false;
    group = (group << 6 | static_cast<uint32_t>(digit)) & 0xffffff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<char>(group >> bits & 0xff));
  }
  return true;
}

}  // namespace apiserver
