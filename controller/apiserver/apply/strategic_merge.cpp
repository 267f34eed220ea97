#include <fmt/format.h>

#include <algorithm>

#include "apiserver/apply/patch.hpp"

namespace apiserver {
namespace {

using codec::GetString;
using codec::Json;

constexpr int kMaxDepth = 64;
constexpr std::string_view kDeleteFrom = "$deleteFromPrimitiveList/";
constexpr std::string_view kElementOrder = "$setElementOrder/";

class Merger {
 public:
  const std::string& Error() const { return error_; }

  Json Merge(const SchemaNode* schema, const Json& target, const Json& patch, int depth) {
    if (depth > kMaxDepth) error_ = "nested too deeply";
    if (!error_.empty()) return target;
    const std::string directive = GetString(patch, "$patch");
    if (directive == "replace") return WithoutDirectives(patch);
    if (directive == "delete") return Json::object();
    if (!directive.empty() && directive != "merge")
      error_ = fmt::format("unknown $patch directive `{}`", directive.substr(0, 32));
    Json result = target.is_object() ? target : Json::object();
    for (auto it = patch.begin(); it != patch.end() && error_.empty(); ++it)
      MergeMember(schema, result, it.key(), *it, depth);
    const auto retained = patch.find("$retainKeys");
    if (retained != patch.end() && retained->is_array()) RetainKeys(result, *retained);
    return result;
  }

 private:
  static Json WithoutDirectives(const Json& patch) {
    Json copy = Json::object();
    for (auto it = patch.begin(); it != patch.end(); ++it) {
      if (!it.key().starts_with("$") && !it->is_null()) copy[it.key()] = *it;
    }
    return copy;
  }

  static void RetainKeys(Json& object, const Json& keys) {
    for (auto it = object.begin(); it != object.end();) {
      it = std::find(keys.begin(), keys.end(), it.key()) == keys.end() ? object.erase(it)
                                                                       : std::next(it);
    }
  }

  void MergeMember(const SchemaNode* schema, Json& result, const std::string& name,
                   const Json& value, int depth) {
    if (name.starts_with(kDeleteFrom))
      return DeleteFrom(result, name.substr(kDeleteFrom.size()), value);
    if (name.starts_with(kElementOrder) || name == "$patch" || name == "$retainKeys") return;
    if (name.starts_with("$")) {
      error_ = fmt::format("unknown directive `{}`", name.substr(0, 64));
      return;
    }
    const SchemaNode* member = schema ? schema->Member(name) : nullptr;
    if (value.is_null()) {
      result.erase(name);
    } else if (value.is_object()) {
      const bool removed = GetString(value, "$patch") == "delete";
      if (removed)
        result.erase(name);
      else
        result[name] =
            Merge(member, result.contains(name) ? result[name] : Json(), value, depth + 1);
    } else if (value.is_array() && member && member->patch_merge) {
      result[name] =
          MergeList(*member, result.contains(name) ? result[name] : Json(), value, depth + 1);
    } else {
      result[name] = value;
    }
  }

  static void DeleteFrom(Json& result, const std::string& name, const Json& values) {
    const auto list = result.find(name);
    if (list == result.end() || !list->is_array() || !values.is_array()) return;
    Json rest = Json::array();
    for (const Json& item : *list) {
      if (std::find(values.begin(), values.end(), item) == values.end()) rest.push_back(item);
    }
    *list = std::move(rest);
  }

  Json MergeList(const SchemaNode& schema, const Json& target, const Json& patch, int depth) {
    Json result = target.is_array() ? target : Json::array();
    for (const Json& item : patch) {
      if (item.is_object() && GetString(item, "$patch") == "replace") return ReplacedList(patch);
    }
    for (const Json& item : patch) {
      if (!error_.empty()) return result;
      if (schema.patch_merge_key.empty()) {
        if (std::find(result.begin(), result.end(), item) == result.end()) result.push_back(item);
      } else {
        MergeItem(schema, result, item, depth);
      }
    }
    return result;
  }

  static Json ReplacedList(const Json& patch) {
    Json list = Json::array();
    for (const Json& item : patch) {
      if (!(item.is_object() && item.contains("$patch"))) list.push_back(item);
    }
    return list;
  }

  void MergeItem(const SchemaNode& schema, Json& list, const Json& item, int depth) {
    const std::string& key = schema.patch_merge_key;
    if (!item.is_object() || !item.contains(key)) {
      error_ = fmt::format("map: does not contain declared merge key: {}", key);
      return;
    }
    const auto found = std::find_if(list.begin(), list.end(), [&](const Json& known) {
      return known.is_object() && known.contains(key) && known[key] == item[key];
    });
    if (GetString(item, "$patch") == "delete") {
      if (found != list.end()) list.erase(found);
    } else if (found == list.end()) {
      list.push_back(WithoutDirectives(item));
    } else {
      *found = Merge(schema.items.get(), *found, item, depth);
    }
  }

  std::string error_;
};

}  // namespace

base::Result<Json> StrategicMergePatch(const ResourceDefinition& definition, const Json& target,
                                       const Json& patch) {
  if (definition.custom) {
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format("strategic merge patch is not supported for {}: use a merge patch",
                    definition.QualifiedResource()),
        "UnsupportedMediaType");
  }
  if (!patch.is_object())
    return base::MakeError(base::Code::kInvalid, "strategic merge patch: must be an object",
                           "Invalid");
  Merger merger;
  Json result = merger.Merge(definition.schema.get(), target, patch, 0);
  if (!merger.Error().empty())
    return base::MakeError(base::Code::kInvalid, "strategic merge patch: " + merger.Error(),
                           "Invalid");
  return result;
}

}  // namespace apiserver
