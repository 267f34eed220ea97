#include "server/answers.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "protocol/answer.hpp"

namespace server {
namespace {

int StatusOf(const base::Error& error) {
  if (error.reason == "TooManyRequests") return 429;
  if (error.reason == "TooLarge") return 413;
  switch (error.code) {
    case base::Code::kInvalid:
      return 400;
    case base::Code::kNotFound:
      return 404;
    case base::Code::kAlreadyExists:
    case base::Code::kConflict:
      return 409;
    case base::Code::kGone:
      return 410;
    case base::Code::kForbidden:
      return 403;
    case base::Code::kUnauthorized:
      return 401;
    case base::Code::kUnavailable:
    case base::Code::kTimeout:
    case base::Code::kCancelled:
      return 503;
    case base::Code::kInternal:
      return 500;
  }
  return 500;
}

/// For whoever sent the token: they cannot mend it, and have to say to whom it belongs.
constexpr std::string_view kReviewsHint =
    "tell a cluster admin: manifests/namespaced/cluster/auth_delegator.yaml, with the operator's "
    "namespace in it, gives the right";

/// What whoever asked can do about it, where the caller knows nothing better.
std::string_view HintFor(int status, const base::Error& error) {
  if (error.reason == "ReviewsForbidden") return kReviewsHint;
  switch (status) {
    case 400:
      return "correct the request as the message says";
    case 401:
      return "send `Authorization: Bearer <token>` with a token that is valid";
    case 403:
      return "ask who administers that namespace for the right that the message names";
    case 404:
      return "check the namespace and the names in the path";
    case 409:
      return "look at what is there (GET), then change the request or what is there";
    case 413:
      return "send less";
    case 429:
    case 503:
      return error.retry_after ? "repeat the request after Retry-After"
                               : "repeat the request in a while";
    default:
      return "the operator's log says more; tell who runs it";
  }
}

bool IsSpace(char c) { return c == ' ' || c == '\t'; }

}  // namespace

std::string SnakeCase(std::string_view camel) {
  std::string out;
  for (const char c : camel) {
    if (c >= 'A' && c <= 'Z') {
      if (!out.empty()) out += '_';
      out += static_cast<char>(c - 'A' + 'a');
    } else {
      out += c;
    }
  }
  return out;
}

http::Response JsonResponse(int status, std::string body) {
  http::Response response;
  response.status = status;
  response.headers = {{"Content-Type", "application/json"}};
  response.body = std::move(body);
  return response;
}

http::Response ErrorResponse(int status, std::string_view code, std::string_view message,
                             std::string_view hint) {
  auto response = JsonResponse(
      status, protocol::EncodeError({std::string(code), std::string(message), std::string(hint)}));
  response.headers.emplace_back("Cache-Control", "no-store");
  return response;
}

http::Response ErrorResponse(const base::Error& error, std::string_view hint) {
  const int status = StatusOf(error);
  const std::string code =
      error.reason.empty() ? base::CodeName(error.code) : SnakeCase(error.reason);
  // The reason as it stands in conditions, so that both can be searched for.
  const std::string message =
      error.reason.empty() ? error.message : fmt::format("{}: {}", error.reason, error.message);
  if (hint.empty()) hint = HintFor(status, error);
  auto response = ErrorResponse(status, code, message, hint);
  if (status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.retry_after) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(*error.retry_after).count();
    response.headers.emplace_back("Retry-After", fmt::format("{}", std::max<int64_t>(seconds, 1)));
  }
  return response;
}

http::Response Unauthorized(std::string_view message) {
  auto response =
      ErrorResponse(401, "unauthorized", message, "send `Authorization: Bearer <token>`");
  response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

http::Response NotWired() {
  return ErrorResponse(503, "not_wired", "this operator does not serve that route",
                       "ask an operator that runs the controllers");
}

std::string_view BearerToken(const http::Headers& headers) {
  std::string_view value = http::FindHeader(headers, "Authorization");
  constexpr std::string_view kScheme = "bearer";
  if (value.size() <= kScheme.size() || !IsSpace(value[kScheme.size()])) return {};
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if ((value[i] | 0x20) != kScheme[i]) return {};
  }
  value.remove_prefix(kScheme.size());
  while (!value.empty() && IsSpace(value.front())) value.remove_prefix(1);
  while (!value.empty() && IsSpace(value.back())) value.remove_suffix(1);
  return value;
}

}  // namespace server
