#include "kube/node.hpp"

#include <algorithm>

#include "base/utf8.hpp"
#include "codec/json.hpp"

namespace kube {
namespace {

constexpr size_t kTextBytes = 512;
constexpr size_t kConditions = 64;

}  // namespace

base::Result<Node> DecodeNode(std::string_view json) {
  const auto document = codec::ParseJson(json, {.reject_duplicate_keys = false});
  if (!document || !document->is_object())
    return base::MakeError(base::Code::kInvalid, "a Node is no JSON object", "BadNode");
  Node out;
  const codec::Json& conditions =
      codec::GetMember(codec::GetMember(*document, "status"), "conditions");
  for (size_t i = 0; conditions.is_array() && i < std::min(conditions.size(), kConditions); ++i) {
    const codec::Json& condition = conditions[i];
    if (codec::GetString(condition, "type") != "Ready") continue;
    const std::string status = codec::GetString(condition, "status");
    out.ready = status == "True";
    out.silent = status == "Unknown";
    out.message = base::CutUtf8(codec::GetString(condition, "message"), kTextBytes);
  }
  return out;
}

}  // namespace kube
