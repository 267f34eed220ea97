#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "codec/json.hpp"

namespace apiserver {

/// Kinds of field errors of k8s.io/apimachinery field.Error.
enum class FieldErrorType {
  kInvalid,
  kTypeInvalid,
  kRequired,
  kNotSupported,
  kDuplicate,
  kForbidden,
  kTooLong,
  kTooMany,
  kNotFound,
  kInternal,
};

/// One thing wrong with one field, worded as kube-apiserver words it.
struct FieldError {
  FieldErrorType type = FieldErrorType::kInvalid;
  std::string field;  ///< spec.plugins[0].name; "<nil>" for the whole object.
  codec::Json value;  ///< What stood there; printed by Body() for the types that print it. Never of
                      ///< a Secret's data.
  std::string detail;  ///< May be empty.

  /// The cause's reason: FieldValueInvalid, FieldValueRequired, ...
  const char* Reason() const;
  /// `Invalid value: "x": must be ...`: the cause's message.
  std::string Body() const;
  /// `spec.x: Invalid value: "x": must be ...`.
  std::string Text() const;
};

using FieldErrors = std::vector<FieldError>;

/// Which kind an error is about; group is empty for core kinds.
struct KindName {
  std::string group;
  std::string kind;
};

/// `Workspace.molecule.ai "a" is invalid: spec.x: Invalid value: ...`; several errors stand in [a,
/// b] without repetitions.
std::string InvalidMessage(const KindName& kind, std::string_view name, const FieldErrors& errors);
/// The whole metav1.Status document: 422, reason Invalid, details with name, group, kind and
/// causes.
codec::Json InvalidStatus(const KindName& kind, std::string_view name, const FieldErrors& errors);

}  // namespace apiserver
