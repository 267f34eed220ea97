#pragma once

#include "codec/json.hpp"

namespace apiserver {

/// Turns an OpenAPI v3 schema into one of Swagger 2.0, in place, so that kubectl's client-side
/// validation accepts all that the schema accepts: what Swagger cannot say (anyOf, nullable, rules,
/// unknown members that are kept) becomes "anything" and is left to the server.
void ToSwagger(codec::Json& schema);

}  // namespace apiserver
