#include "kube/lease.hpp"

#include <algorithm>

namespace kube {
namespace {

using codec::Json;

base::WallTime TimeOf(const Json& spec, const char* name) {
  return base::ParseTime(codec::GetString(spec, name)).value_or(base::WallTime{});
}

void SetOrErase(Json& object, const char* name, std::string value) {
  if (value.empty())
    object.erase(name);
  else
    object[name] = std::move(value);
}

std::string TimeText(base::WallTime time) {
  return time == base::WallTime{} ? std::string() : base::FormatMicroTime(time);
}

/// The member as an object, whatever was there.
Json& ObjectAt(Json& parent, const char* name) {
  Json& member = parent[name];
  if (!member.is_object()) member = Json::object();
  return member;
}

base::Result<Lease> Parsed(const base::Result<std::string>& answer) {
  if (!answer) return answer.error();
  return ParseLease(*answer);
}

}  // namespace

base::Result<Lease> ParseLease(std::string_view bytes) {
  auto json = codec::ParseJson(bytes);
  if (!json) return std::move(json).error();
  if (!json->is_object())
    return base::MakeError(base::Code::kInvalid, "read a Lease: it is no JSON object", "BadFrame");
  Lease lease;
  lease.document = *std::move(json);
  const Json& metadata = codec::GetMember(lease.document, "metadata");
  const Json& spec = codec::GetMember(lease.document, "spec");
  lease.resource_version = codec::GetString(metadata, "resourceVersion");
  lease.address = codec::GetString(codec::GetMember(metadata, "annotations"), kLeaseAddress);
  lease.holder = codec::GetString(spec, "holderIdentity");
  lease.duration =
      base::Seconds{std::clamp<int64_t>(codec::GetInt(spec, "leaseDurationSeconds"), 0, 1'000'000)};
  lease.transitions = std::max<int64_t>(0, codec::GetInt(spec, "leaseTransitions"));
  lease.acquired = TimeOf(spec, "acquireTime");
  lease.renewed = TimeOf(spec, "renewTime");
  return lease;
}

std::string EncodeLease(const Lease& lease, const ObjectRef& where) {
  Json document = lease.document.is_object() ? lease.document : Json::object();
  document["apiVersion"] = "coordination.k8s.io/v1";
  document["kind"] = "Lease";
  Json& metadata = ObjectAt(document, "metadata");
  metadata["name"] = where.name;
  metadata["namespace"] = where.ns;
  metadata.erase("managedFields");
  SetOrErase(metadata, "resourceVersion", lease.resource_version);
  if (lease.resource_version.empty())
    for (const char* theirs : {"uid", "creationTimestamp", "generation"}) metadata.erase(theirs);
  SetOrErase(ObjectAt(metadata, "annotations"), kLeaseAddress, lease.address);
  Json& spec = ObjectAt(document, "spec");
  SetOrErase(spec, "holderIdentity", lease.holder);
  SetOrErase(spec, "acquireTime", TimeText(lease.acquired));
  SetOrErase(spec, "renewTime", TimeText(lease.renewed));
  spec["leaseDurationSeconds"] = std::max<int64_t>(1, lease.duration.count());
  spec["leaseTransitions"] = lease.transitions;
  return codec::Dump(document);
}

base::Result<Lease> GetLease(Client& client, const ObjectRef& where, const CallOptions& call) {
  return Parsed(client.Get(where, call));
}

base::Result<Lease> CreateLease(Client& client, const ObjectRef& where, const Lease& lease,
                                const CallOptions& call) {
  Lease fresh = lease;
  fresh.resource_version.clear();
  WriteOptions options;
  options.call = call;
  return Parsed(client.Create({where.resource, where.ns}, EncodeLease(fresh, where), options));
}

base::Result<Lease> UpdateLease(Client& client, const ObjectRef& where, const Lease& lease,
                                const CallOptions& call) {
  WriteOptions options;
  options.call = call;
  return Parsed(client.Update(where, EncodeLease(lease, where), options));
}

}  // namespace kube
