#pragma once

#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "kube/client.hpp"

namespace kube {

/// A coordination.k8s.io/v1 Lease, as far as an election reads and writes it.
struct Lease {
  std::string resource_version = {};
  std::string holder = {};
  std::string address = {};  ///< Annotation kLeaseAddress.
  base::Seconds duration{0};
  base::WallTime acquired{};
  base::WallTime renewed{};
  int64_t transitions = 0;
};

/// Annotation in which the holder of a lease publishes the URL of its HTTP API.
inline constexpr char kLeaseAddress[] = "workspace-operator.molecule.ai/leader-url";

/// Fields of other types or out of range count as absent. kInvalid: not a JSON object.
base::Result<Lease> ParseLease(std::string_view bytes);
/// A merge patch, so that what others put into the object stays. An empty holder, address, time or
/// version is null, which removes it. With a version it is a compare-and-swap.
std::string EncodeLease(const Lease& lease, const ObjectRef& where);

/// The errors are the client's. Verbs used: get, create, patch (with resourceVersion).
base::Result<Lease> GetLease(Client& client, const ObjectRef& where, const CallOptions& call);
base::Result<Lease> CreateLease(Client& client, const ObjectRef& where, const Lease& lease,
                                const CallOptions& call);
base::Result<Lease> PatchLease(Client& client, const ObjectRef& where, const Lease& lease,
                               const CallOptions& call);

}  // namespace kube
