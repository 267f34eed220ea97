#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace codec {

/// A small JSON document that is built, patched or stored. Never used for the controllers' cache
/// (see bench figures in docs/decisions).
using Json = nlohmann::json;

struct ParseLimits {
  size_t bytes = 3 << 20;
  int depth = 64;
  bool reject_duplicate_keys = true;
};

/// Strict JSON. kInvalid on malformed text, invalid UTF-8, trailing bytes, NaN, numbers out of
/// range, or a broken limit; the message has the byte offset.
base::Result<Json> ParseJson(std::string_view text, const ParseLimits& limits = {});

/// YAML 1.2 core schema to JSON, one entry a document: no aliases, no merge keys, no tags but the
/// core ones, duplicate keys refused, at most 1 MiB, 20,000 nodes, depth 64, 500 documents. Plain
/// yes/no/on/off stay strings; only true/false are booleans.
base::Result<std::vector<Json>> ParseYaml(std::string_view text);

/// Compact text; invalid UTF-8 in strings is replaced, never thrown about.
std::string Dump(const Json& json);

/// Tolerant readers for foreign documents: the member's value if it is there with that type, else
/// the fallback.
std::string GetString(const Json& object, std::string_view key, std::string_view fallback = "");
int64_t GetInt(const Json& object, std::string_view key, int64_t fallback = 0);
bool GetBool(const Json& object, std::string_view key, bool fallback = false);
/// The member, or a null document.
const Json& GetMember(const Json& object, std::string_view key);

}  // namespace codec
