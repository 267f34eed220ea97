#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apiserver/schema/resource_definition.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"
#include "http/message.hpp"

namespace apiserver {

/// A request that failed: the HTTP status and the metav1.Status document.
struct Failure {
  int code = 500;
  codec::Json status;
};

/// A value or a Failure.
template <typename T>
class [[nodiscard]] Outcome {
 public:
  Outcome(T value) : value_(std::move(value)) {}              // NOLINT: implicit by design
  Outcome(Failure failure) : failure_(std::move(failure)) {}  // NOLINT: implicit by design
  explicit operator bool() const { return value_.has_value(); }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  const Failure& failure() const { return failure_; }

 private:
  std::optional<T> value_;
  Failure failure_;
};

/// What a Status is about. `name` and the rest may be empty.
struct StatusSubject {
  std::string group;
  std::string kind;  ///< Kubernetes writes the plural resource here, except for Invalid.
  std::string name;
};

Failure Fail(int code, std::string reason, std::string message, const StatusSubject& subject = {});
/// A ready-made Status document (Invalid, apply conflicts).
Failure FailWith(codec::Json status);
Failure NotFoundFailure(const ResourceDefinition& definition, const std::string& name);
Failure BadRequest(std::string message);
/// An error of the store or of a patch, as clients know it.
Failure FailureOf(const base::Error& error, const ResourceDefinition& definition,
                  const std::string& name);

http::Response JsonResponse(int status, std::string body);
http::Response ResponseOf(const Failure& failure);

}  // namespace apiserver
