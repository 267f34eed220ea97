#pragma once

#include <string>

#include "codec/json.hpp"

/// The CRDs of the product for the tests of codec/.
namespace crd {

/// crds/<plural>.yaml as JSON. Ends the test if it cannot be read.
codec::Json Load(const std::string& plural);
/// Its only version.
const codec::Json& Version(const codec::Json& crd);
/// The schema of the whole object.
const codec::Json& Schema(const codec::Json& crd);

/// An object with a value for every property of the schema (metadata excepted). Values of different
/// leaves differ; `variant` chooses among enum values and makes other numbers and texts.
codec::Json Full(const codec::Json& schema, int variant, const std::string& path = "");

/// Why the object does not fit the structural part of the schema (types, unknown members, required,
/// enum, bounds); empty: it fits.
std::string Misfit(const codec::Json& object, const codec::Json& schema,
                   const std::string& path = "");

}  // namespace crd
