#include "kube/lease.hpp"

#include <doctest/doctest.h>

#include "codec/json.hpp"
#include "codec/merge_patch.hpp"

namespace {
const kube::ObjectRef kWhere{kube::kLeases, "ns", "election"};

constexpr char kStored[] = R"({"metadata":{"name":"election","resourceVersion":"7",
      "annotations":{"other":"kept","workspace-operator.molecule.ai/leader-url":"https://p:1"}},
      "spec":{"holderIdentity":"a","leaseDurationSeconds":15,"leaseTransitions":3,
      "acquireTime":"2026-11-21T10:00:00.000000Z","renewTime":"2026-11-21T10:00:02.500000Z",
      "preferredHolder":"b"}})";
}  // namespace

TEST_CASE("a lease is read with its holder, times and address, and unknown members survive") {
  const auto lease = kube::ParseLease(kStored);
  REQUIRE(lease);
  CHECK(lease->resource_version == "7");
  CHECK(lease->holder == "a");
  CHECK(lease->address == "https://p:1");
  CHECK(lease->duration == base::Seconds{15});
  CHECK(lease->transitions == 3);
  CHECK(lease->renewed - lease->acquired == base::Millis{2'500});
  kube::Lease next = *lease;
  next.holder = "b\"\\";
  next.address.clear();
  const codec::Json json = codec::ApplyMergePatch(
      *codec::ParseJson(kStored), *codec::ParseJson(kube::EncodeLease(next, kWhere)));
  CHECK(json["spec"]["preferredHolder"] == "b");
  CHECK(json["spec"]["holderIdentity"] == next.holder);
  CHECK(json["spec"]["renewTime"] == "2026-11-21T10:00:02.500000Z");
  CHECK(json["metadata"]["annotations"]["other"] == "kept");
  CHECK_FALSE(json["metadata"]["annotations"].contains(kube::kLeaseAddress));
  CHECK(json["metadata"]["resourceVersion"] == "7");
  CHECK(json["apiVersion"] == "coordination.k8s.io/v1");
  CHECK(kube::ParseLease(codec::Dump(json))->holder == next.holder);
}

TEST_CASE("a released lease names nobody, and one made by hand has what it can") {
  kube::Lease released;
  released.duration = base::Seconds{1};
  const auto json = *codec::ParseJson(kube::EncodeLease(released, kWhere));
  CHECK(json["spec"]["holderIdentity"].is_null());
  CHECK(json["spec"]["leaseDurationSeconds"] == 1);
  CHECK(json["metadata"]["resourceVersion"].is_null());
  for (const char* odd : {"{}", R"({"spec":null,"metadata":[]})",
                          R"({"spec":{"holderIdentity":5,"leaseDurationSeconds":"x",
                              "renewTime":"yesterday","leaseTransitions":-4}})"}) {
    const auto lease = kube::ParseLease(odd);
    REQUIRE(lease);
    CHECK(lease->holder.empty());
    CHECK(lease->transitions == 0);
    CHECK(kube::EncodeLease(*lease, kWhere).find("\"name\":\"election\"") != std::string::npos);
  }
  CHECK_FALSE(kube::ParseLease("[]"));
  CHECK_FALSE(kube::ParseLease("nonsense"));
}
