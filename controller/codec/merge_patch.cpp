#include "codec/merge_patch.hpp"

#include <utility>

namespace codec {

Json DiffMergePatch(const Json& before, const Json& after) {
  if (!before.is_object() || !after.is_object()) return before == after ? Json::object() : after;
  Json patch = Json::object();
  for (const auto& [key, wanted] : after.items()) {
    const auto had = before.find(key);
    if (had == before.end()) {
      patch[key] = wanted;
    } else if (*had != wanted) {
      patch[key] = DiffMergePatch(*had, wanted);
    }
  }
  for (const auto& [key, had] : before.items())
    if (!after.contains(key)) patch[key] = nullptr;
  return patch;
}

Json ApplyMergePatch(Json target, const Json& patch) {
  if (!patch.is_object()) return patch;
  if (!target.is_object()) target = Json::object();
  for (const auto& [key, change] : patch.items()) {
    if (change.is_null()) {
      target.erase(key);
    } else {
      target[key] = ApplyMergePatch(target.contains(key) ? std::move(target[key]) : Json(), change);
    }
  }
  return target;
}

}  // namespace codec
