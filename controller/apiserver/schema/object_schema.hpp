#pragma once

#include <memory>
#include <string_view>

#include "apiserver/schema/resource_definition.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// The OpenAPI v3 schema of metav1.ObjectMeta, with list types and descriptions.
const codec::Json& ObjectMetaSchema();

/// Completes `definition` from the schema of its kind: apiVersion, kind and metadata are put in,
/// `schema` is compiled, `openapi` set.
base::Status SetSchema(ResourceDefinition& definition, codec::Json schema);

/// The Name column that begins every table.
PrinterColumn NameColumn();
/// The Age column.
PrinterColumn AgeColumn();

}  // namespace apiserver
