#include "apiserver/apply/patch.hpp"

#include <fmt/format.h>

#include "codec/merge_patch.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr size_t kMaxOperations = 10'000;
constexpr size_t kMaxPatchedNodes = 200'000;
constexpr int kMaxDepth = 64;

base::Error Invalid(std::string why) {
  return base::MakeError(base::Code::kInvalid, std::move(why), "Invalid");
}

/// Counts values, and fails (kMaxPatchedNodes + 1) on trees that are too deep to be walked by
/// recursion elsewhere.
size_t CountNodes(const Json& json, int depth = 0) {
  if (depth > kMaxDepth) return kMaxPatchedNodes + 1;
  size_t count = 1;
  if (!json.is_structured()) return count;
  for (const Json& item : json) {
    count += CountNodes(item, depth + 1);
    if (count > kMaxPatchedNodes) return count;
  }
  return count;
}

/// Kubernetes takes the replacement of a member that an object does not have, although RFC 6902
/// (4.3) does not.
bool ReplacesNothing(const Json& document, const Json& operation) {
  if (!operation.is_object() || codec::GetString(operation, "op") != "replace") return false;
  const Json::json_pointer path(codec::GetString(operation, "path"));
  if (path.empty() || document.contains(path) || !document.contains(path.parent_pointer()))
    return false;
  return document.at(path.parent_pointer()).is_object();
}

/// One operation; nlohmann's exceptions end here.
std::string ApplyOperation(Json& document, Json operation) {
  try {
    if (ReplacesNothing(document, operation)) operation["op"] = "add";
    document.patch_inplace(Json::array({std::move(operation)}));
    return "";
  } catch (const Json::other_error&) {
    return "the value tested for is not there";
  } catch (const std::exception&) {
    return "the operation does not fit the document (no such path, or malformed)";
  }
}

}  // namespace

base::Result<Json> MergePatch(const Json& target, const Json& patch) {
  if (!patch.is_object()) return Invalid("merge patch: must be an object");
  if (CountNodes(patch) > kMaxPatchedNodes)
    return Invalid("merge patch: too large or nested too deeply");
  return codec::ApplyMergePatch(target, patch);
}

base::Result<Json> JsonPatch(const Json& target, const Json& operations) {
  if (!operations.is_array()) return Invalid("JSON patch: must be a list of operations");
  if (operations.size() > kMaxOperations)
    return Invalid(fmt::format("JSON patch: more than {} operations", kMaxOperations));
  Json document = target;
  for (size_t i = 0; i < operations.size(); ++i) {
    const Json& operation = operations[i];
    const std::string op = codec::GetString(operation, "op");
    if (std::string why = ApplyOperation(document, operation); !why.empty()) {
      return Invalid(fmt::format("JSON patch: operation {} ({} {}): {}", i, op.substr(0, 16),
                                 codec::GetString(operation, "path").substr(0, 256), why));
    }
    // Copies double a document in few steps; each other operation adds at most what it carries.
    if ((op == "copy" || op == "move" || i + 1 == operations.size()) &&
        CountNodes(document) > kMaxPatchedNodes) {
      return Invalid(
          fmt::format("JSON patch: the result has more than {} values or is nested too deeply",
                      kMaxPatchedNodes));
    }
  }
  return document;
}

}  // namespace apiserver
