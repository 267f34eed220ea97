#include "kube/lease.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/log.hpp"
#include "codec/json.hpp"
#include "codec/merge_patch.hpp"
#include "kube/json_span.hpp"

namespace kube {
namespace {

// A renewal comes every two seconds and finds every cache cold: texts are cut and put together
// where they stand, no document is built.

using Sink = std::function<void(std::string_view key, std::string_view value)>;

/// Each member of an object; of anything else: none.
void Members(std::string_view object, const Sink& sink) {
  if (object.empty() || object.front() != '{') return;
  (void)EachMember(object, [&](std::string_view key, std::string_view value) {
    sink(key, value);
    return true;
  });
}

std::string TextOf(std::string_view value) {
  if (const std::string_view plain = PlainString(value); !plain.empty()) return std::string(plain);
  if (value.empty() || value.front() != '"') return {};
  const auto json = codec::ParseJson(value);
  return json && json->is_string() ? json->get<std::string>() : std::string();
}

int64_t NumberOf(std::string_view value) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  return error == std::errc{} && end == value.data() + value.size() ? number : 0;
}

base::WallTime TimeOf(std::string_view value) {
  return base::ParseTime(PlainString(value)).value_or(base::WallTime{});
}

/// A merge patch removes what is null.
std::string Text(const std::string& text) {
  return text.empty() ? "null" : fmt::format("\"{}\"", base::EscapeJson(text));
}

std::string Text(base::WallTime time) {
  return time == base::WallTime{} ? "null" : fmt::format("\"{}\"", base::FormatMicroTime(time));
}

base::Result<Lease> Parsed(const base::Result<std::string>& answer) {
  if (!answer) return answer.error();
  return ParseLease(*answer);
}

}  // namespace

base::Result<Lease> ParseLease(std::string_view bytes) {
  std::string_view metadata, spec;
  const auto scanned = EachMember(bytes, [&](std::string_view key, std::string_view value) {
    if (key == "metadata") metadata = value;
    if (key == "spec") spec = value;
    return true;
  });
  if (!scanned) return scanned.error();
  Lease lease;
  Members(metadata, [&](std::string_view key, std::string_view value) {
    if (key == "resourceVersion") lease.resource_version = TextOf(value);
    if (key != "annotations") return;
    Members(value, [&](std::string_view name, std::string_view text) {
      if (name == kLeaseAddress) lease.address = TextOf(text);
    });
  });
  Members(spec, [&](std::string_view key, std::string_view value) {
    if (key == "holderIdentity") lease.holder = TextOf(value);
    if (key == "leaseDurationSeconds")
      lease.duration = base::Seconds{std::clamp<int64_t>(NumberOf(value), 0, 1'000'000)};
    if (key == "leaseTransitions") lease.transitions = std::max<int64_t>(0, NumberOf(value));
    if (key == "acquireTime") lease.acquired = TimeOf(value);
    if (key == "renewTime") lease.renewed = TimeOf(value);
  });
  return lease;
}

std::string EncodeLease(const Lease& lease, const ObjectRef& where) {
  return fmt::format(
      R"({{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{{"name":{},"namespace":{},)"
      R"("resourceVersion":{},"annotations":{{"{}":{}}}}},"spec":{{"holderIdentity":{},)"
      R"("leaseDurationSeconds":{},"acquireTime":{},"renewTime":{},"leaseTransitions":{}}}}})",
      Text(where.name), Text(where.ns), Text(lease.resource_version), kLeaseAddress,
      Text(lease.address), Text(lease.holder), std::max<int64_t>(1, lease.duration.count()),
      Text(lease.acquired), Text(lease.renewed), lease.transitions);
}

base::Result<Lease> GetLease(Client& client, const ObjectRef& where, const CallOptions& call) {
  return Parsed(client.Get(where, call));
}

base::Result<Lease> CreateLease(Client& client, const ObjectRef& where, const Lease& lease,
                                const CallOptions& call) {
  Lease fresh = lease;
  fresh.resource_version.clear();
  // As a patch of nothing: without what is null.
  const auto patch = codec::ParseJson(EncodeLease(fresh, where));
  if (!patch) return patch.error();
  WriteOptions options;
  options.call = call;
  return Parsed(client.Create({where.resource, where.ns},
                              codec::Dump(codec::ApplyMergePatch(codec::Json::object(), *patch)),
                              options));
}

base::Result<Lease> PatchLease(Client& client, const ObjectRef& where, const Lease& lease,
                               const CallOptions& call) {
  WriteOptions options;
  options.call = call;
  return Parsed(client.Patch(where, {PatchType::kMerge, EncodeLease(lease, where)}, options));
}

}  // namespace kube
