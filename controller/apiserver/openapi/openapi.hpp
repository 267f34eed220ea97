#pragma once

#include <span>
#include <string>
#include <string_view>

#include "apiserver/schema/resource_definition.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// The OpenAPI v3 document of one group version (`/openapi/v3/apis/<group>/<version>`, core:
/// `/openapi/v3/api/v1`): paths with their operations, parameters (fieldValidation, fieldManager,
/// dryRun ...) and x-kubernetes-group-version-kind; components with full schemas. Only the
/// definitions of that group and version are taken from `definitions`.
codec::Json OpenApiV3(std::string_view group, std::string_view version,
                      std::span<const ResourceDefinition> definitions);

/// The document at `/openapi/v3`: {"paths": {"apis/molecule.ai/v1alpha1": {"serverRelativeURL":
/// "/openapi/v3/apis/molecule.ai/v1alpha1?hash=..."}}}. The hash is of the document's content, so a
/// client may cache it for ever.
codec::Json OpenApiV3Index(std::span<const ResourceDefinition> definitions);

/// A Swagger 2.0 document of all kinds (`/openapi/v2`). kubectl validates lists by it, on its side.
codec::Json OpenApiV2(std::span<const ResourceDefinition> definitions);

/// That document as the protobuf message openapi.v2.Document of gnostic, the only form in which
/// clients written in Go ask for it. Members without a field in the message are left out.
std::string EncodeOpenApiV2(const codec::Json& document);

}  // namespace apiserver
