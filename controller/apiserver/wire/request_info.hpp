#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/message.hpp"

namespace apiserver {

/// The decoded query of a request.
class Query {
 public:
  /// Nothing when an escape is malformed or there are more than 64 parameters.
  static std::optional<Query> Parse(std::string_view text);
  /// The first value of that name, or empty.
  const std::string& Get(std::string_view name) const;
  bool Has(std::string_view name) const;
  /// "true" and "1" are true.
  bool Flag(std::string_view name) const;

 private:
  std::vector<std::pair<std::string, std::string>> items_;
};

/// What a request's target says. For a resource request `resource` is set; otherwise `path` is all
/// there is.
struct RequestInfo {
  std::string path;
  std::vector<std::string> segments;  ///< Decoded.
  Query query;
  std::string group;
  std::string version;
  std::string ns;
  std::string resource;
  std::string name;
  std::string subresource;
  std::string verb;  ///< get, list, watch, create, update, patch, delete, deletecollection;
                     ///< non-resource: the method in lower case.
};

/// Nothing when the target is malformed (escapes, NUL, more than 2,048 bytes of path).
std::optional<RequestInfo> ParseRequest(const http::Request& request);
/// Percent-decoding, '+' untouched; nothing if malformed.
std::optional<std::string> DecodePercent(std::string_view text);

}  // namespace apiserver
