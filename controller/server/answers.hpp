#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "http/message.hpp"

/// Private to server/: the shapes that all answers share.
namespace server {

http::Response JsonResponse(int status, std::string body);
/// {error, message, hint} with `error` a stable snake_case code.
http::Response ErrorResponse(int status, std::string_view code, std::string_view message,
                             std::string_view hint = "");
/// The status of an Error's code, its reason (or else code) in snake_case, and Retry-After if it
/// carries a wait.
http::Response ErrorResponse(const base::Error& error, std::string_view hint = "");
/// 401 with WWW-Authenticate.
http::Response Unauthorized(std::string_view message);
/// 503: this operator was started without what the route needs.
http::Response NotWired();

/// The token of `Authorization: Bearer ...`, or empty.
std::string_view BearerToken(const http::Headers& headers);
/// BoxStopped to box_stopped.
std::string SnakeCase(std::string_view camel);

}  // namespace server
