#pragma once

#include <string_view>

#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// Decodes a Kubernetes protobuf request (`k8s\0` + runtime.Unknown) of the few kinds that kubectl
/// sends so: Secret, ConfigMap, Namespace, Lease, the review kinds and DeleteOptions. Fields that
/// are not in the tables are dropped (managedFields among them: no client may choose them on a
/// create). kInvalid for a malformed message; kInvalid with reason UnsupportedMediaType for another
/// kind.
base::Result<codec::Json> DecodeProtobuf(std::string_view body);

}  // namespace apiserver
