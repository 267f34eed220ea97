#include "kube/status_error.hpp"

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "codec/json.hpp"
#include "http/retry_after.hpp"

namespace kube {
namespace {

constexpr size_t kMessageLimit = 1'000;
constexpr size_t kCausesShown = 5;

base::Code CodeOf(int status, std::string_view reason) {
  using base::Code;
  if (status == 410 || reason == "Expired" || reason == "Gone") return Code::kGone;
  switch (status) {
    case 401:
      return Code::kUnauthorized;
    case 403:
      return Code::kForbidden;
    case 404:
      return Code::kNotFound;
    case 408:
    case 504:
      return Code::kTimeout;
    case 409:
      return reason == "AlreadyExists" ? Code::kAlreadyExists : Code::kConflict;
    case 429:
      return Code::kUnavailable;
    default:
      break;
  }
  if (status >= 500) return Code::kUnavailable;
  return status >= 400 ? Code::kInvalid : Code::kInternal;
}

std::string Causes(const codec::Json& details) {
  const codec::Json& causes = codec::GetMember(details, "causes");
  if (!causes.is_array()) return {};
  std::string text;
  size_t shown = 0;
  for (const auto& cause : causes) {
    if (++shown > kCausesShown)
      return text + fmt::format("; and {} more", causes.size() - kCausesShown);
    text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", codec::GetString(cause, "field"),
                        codec::GetString(cause, "message"));
  }
  return text;
}

/// Of a refusal whose reason says nothing: the word by which the API server's own admission gives
/// its cause.
bool HasCause(const codec::Json& details, std::string_view reason) {
  const codec::Json& causes = codec::GetMember(details, "causes");
  if (!causes.is_array()) return false;
  for (const auto& cause : causes)
    if (codec::GetString(cause, "reason") == reason) return true;
  return false;
}

std::string Short(std::string text) { return base::ShortenUtf8(std::move(text), kMessageLimit); }

base::Error FromStatus(int http_status, const codec::Json& status, const std::string& what) {
  const int code =
      http_status != 0 ? http_status : static_cast<int>(codec::GetInt(status, "code", 500));
  std::string reason = codec::GetString(status, "reason");
  std::string message = codec::GetString(status, "message");
  const codec::Json& details = codec::GetMember(status, "details");
  const std::string causes = Causes(details);
  // The API server puts the causes into the message itself, most of the time.
  if (!causes.empty() &&
      message.find(codec::GetString(details["causes"].front(), "message")) == std::string::npos)
    message += " (" + causes + ")";
  if (message.empty()) message = fmt::format("HTTP {}", code);
  const base::Code kind = CodeOf(code, reason);
  if (kind == base::Code::kForbidden && HasCause(details, kNamespaceTerminating))
    reason = kNamespaceTerminating;
  base::Error error = base::MakeError(kind, Short(what + ": " + message), std::move(reason));
  if (const int64_t seconds = codec::GetInt(details, "retryAfterSeconds");
      seconds > 0 && seconds < 3600)
    error.retry_after = base::Seconds(seconds);
  return error;
}

/// An API server gives its refusals as a Status. What is overloaded or away between us need not.
const char* NotAnApiServer(int status) {
  return status >= 300 && status < 500 && status != 429
             ? "; is this the address of a Kubernetes API server, with https and its port?"
             : "";
}

}  // namespace

base::Error ErrorOf(const http::Response& response, const std::string& what) {
  const auto json =
      codec::ParseJson(response.body, {.bytes = 256 << 10, .reject_duplicate_keys = false});
  base::Error error;
  if (json && json->is_object() && codec::GetString(*json, "kind") == "Status") {
    error = FromStatus(response.status, *json, what);
  } else if (response.status == 404) {
    // How an API server answers for a group that it does not have.
    error = base::MakeError(base::Code::kNotFound,
                            what + ": the API server does not serve this kind; install its CRD");
  } else {
    // A proxy's page or nothing at all: its text is not ours to repeat.
    error = base::MakeError(
        CodeOf(response.status, ""),
        fmt::format("{}: HTTP {} without a Status ({} bytes of {}){}", what, response.status,
                    response.body.size(),
                    http::FindHeader(response.headers, "Content-Type").empty() ? "unknown type"
                                                                               : "another type",
                    NotAnApiServer(response.status)));
  }
  if (const auto wait = http::RetryAfter(response.headers)) error.retry_after = wait;
  return error;
}

base::Error ErrorOfStatus(std::string_view status, const std::string& what) {
  const auto json = codec::ParseJson(status, {.bytes = 256 << 10, .reject_duplicate_keys = false});
  if (!json || !json->is_object())
    return base::MakeError(base::Code::kInvalid, what + ": a malformed Status", "BadFrame");
  return FromStatus(0, *json, what);
}

}  // namespace kube
