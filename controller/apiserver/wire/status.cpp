#include "apiserver/wire/status.hpp"

#include <fmt/format.h>

namespace apiserver {

Failure Fail(int code, std::string reason, std::string message, const StatusSubject& subject) {
  codec::Json status = {{"kind", "Status"},
                        {"apiVersion", "v1"},
                        {"metadata", codec::Json::object()},
                        {"status", "Failure"},
                        {"message", std::move(message)},
                        {"reason", std::move(reason)},
                        {"code", code}};
  codec::Json details = codec::Json::object();
  if (!subject.name.empty()) details["name"] = subject.name;
  if (!subject.group.empty()) details["group"] = subject.group;
  if (!subject.kind.empty()) details["kind"] = subject.kind;
  if (!details.empty()) status["details"] = std::move(details);
  return {code, std::move(status)};
}

Failure FailWith(codec::Json status) {
  const int code = static_cast<int>(codec::GetInt(status, "code", 500));
  return {code, std::move(status)};
}

Failure NotFoundFailure(const ResourceDefinition& definition, const std::string& name) {
  return Fail(404, "NotFound",
              fmt::format("{} \"{}\" not found", definition.QualifiedResource(), name),
              {definition.group, definition.plural, name});
}

Failure BadRequest(std::string message) { return Fail(400, "BadRequest", std::move(message)); }

Failure FailureOf(const base::Error& error, const ResourceDefinition& definition,
                  const std::string& name) {
  const StatusSubject subject{definition.group, definition.plural, name};
  const std::string resource = definition.QualifiedResource();
  switch (error.code) {
    case base::Code::kNotFound:
      return NotFoundFailure(definition, name);
    case base::Code::kAlreadyExists:
      return Fail(409, "AlreadyExists", fmt::format("{} \"{}\" already exists", resource, name),
                  subject);
    case base::Code::kConflict:
      return Fail(409, "Conflict",
                  fmt::format("Operation cannot be fulfilled on {} \"{}\": the object has been "
                              "modified; please apply your changes "
                              "to the latest version and try again",
                              resource, name),
                  subject);
    case base::Code::kGone:
      return Fail(410, "Expired", error.message);
    case base::Code::kInvalid:
      if (error.reason == "TooLarge")
        return Fail(413, "RequestEntityTooLarge", error.message, subject);
      if (error.reason == "UnsupportedMediaType")
        return Fail(415, "UnsupportedMediaType", error.message);
      return Fail(422, "Invalid", error.message, subject);
    case base::Code::kForbidden:
      return Fail(403, "Forbidden", error.message, subject);
    case base::Code::kUnavailable:
      if (error.reason == "NoSpace" || error.reason == "ReadOnly")
        return Fail(507, "InsufficientStorage", error.message, subject);
      return Fail(503, "ServiceUnavailable", error.message, subject);
    default:
      return Fail(500, "InternalError", error.message, subject);
  }
}

http::Response JsonResponse(int status, std::string body) {
  http::Response response;
  response.status = status;
  response.headers = {{"Content-Type", "application/json"}, {"Cache-Control", "no-cache, private"}};
  response.body = std::move(body);
  return response;
}

http::Response ResponseOf(const Failure& failure) {
  http::Response response = JsonResponse(failure.code, codec::Dump(failure.status));
  if (failure.code == 503 || failure.code == 507) response.headers.emplace_back("Retry-After", "1");
  return response;
}

}  // namespace apiserver
