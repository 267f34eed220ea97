#include "http/client/direct_request.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace http {
namespace {

bool IsPlain(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

std::string CallText(const DirectServer& server, const Request& request) {
  return fmt::format("{} {}{}", request.method, server.route.place.Authority(),
                     request.target.substr(0, request.target.find('?')));
}

base::Result<std::string> ComposeRequest(const DirectServer& server, const Request& request) {
  const std::string host = server.name.empty() ? server.route.place.Authority() : server.name;
  bool plain = IsPlain(request.target) && request.target.find(' ') == std::string::npos;
  std::string out =
      fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, request.target, host);
  for (const auto& [name, value] : request.headers) {
    plain = plain && IsPlain(name) && IsPlain(value);
    out += fmt::format("{}: {}\r\n", name, value);
  }
  if (!plain)
    return base::MakeError(base::Code::kInvalid,
                           CallText(server, request) + ": malformed request target or header");
  if (!request.body.empty() || request.method == "POST" || request.method == "PUT" ||
      request.method == "PATCH")
    out += fmt::format("Content-Length: {}\r\n", request.body.size());
  (out += "\r\n") += request.body;
  return out;
}

base::Error ConnectionBroke(const std::string& what) {
  return base::MakeError(base::Code::kUnavailable, what + ": the connection broke",
                         "ConnectionLost");
}

}  // namespace http
