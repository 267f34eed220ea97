#pragma once

#include "apiserver/schema/field_error.hpp"
#include "apiserver/schema/resource_definition.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// Secret and ConfigMap: keys, base64, total size, `immutable`, the type of a Secret. Values of a
/// Secret are never in an error.
void ValidateBuiltinData(const ResourceDefinition& definition, const codec::Json& object,
                         const codec::Json* old_object, FieldErrors& errors);

}  // namespace apiserver
