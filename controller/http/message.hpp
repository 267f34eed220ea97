#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace http {

using Headers = std::vector<std::pair<std::string, std::string>>;

/// The first header of that name (ASCII case-insensitive), or empty.
std::string_view FindHeader(const Headers& headers, std::string_view name);

/// An address or name as a URL holds it: an IPv6 address in brackets.
std::string UrlHost(const std::string& address);

/// Bodies are bytes: this folder knows no JSON.
struct Request {
  std::string method = "GET";
  std::string target = {};  ///< Path and query, starting with '/'.
  Headers headers = {};
  std::string body = {};
};

struct Response {
  int status = 0;
  Headers headers = {};
  std::string body = {};
};

}  // namespace http
