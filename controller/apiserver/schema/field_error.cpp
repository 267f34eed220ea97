#include "apiserver/schema/field_error.hpp"

#include <fmt/format.h>

#include <set>

namespace apiserver {
namespace {

using codec::Json;

const char* TypeText(FieldErrorType type) {
  switch (type) {
    case FieldErrorType::kInvalid:
    case FieldErrorType::kTypeInvalid:
      return "Invalid value";
    case FieldErrorType::kRequired:
      return "Required value";
    case FieldErrorType::kNotSupported:
      return "Unsupported value";
    case FieldErrorType::kDuplicate:
      return "Duplicate value";
    case FieldErrorType::kForbidden:
      return "Forbidden";
    case FieldErrorType::kTooLong:
      return "Too long";
    case FieldErrorType::kTooMany:
      return "Too many";
    case FieldErrorType::kNotFound:
      return "Not found";
    case FieldErrorType::kInternal:
      return "Internal error";
  }
  return "Invalid value";
}

bool PrintsValue(FieldErrorType type) {
  return type != FieldErrorType::kRequired && type != FieldErrorType::kForbidden &&
         type != FieldErrorType::kTooLong && type != FieldErrorType::kInternal;
}

}  // namespace

const char* FieldError::Reason() const {
  switch (type) {
    case FieldErrorType::kInvalid:
      return "FieldValueInvalid";
    case FieldErrorType::kTypeInvalid:
      return "FieldValueTypeInvalid";
    case FieldErrorType::kRequired:
      return "FieldValueRequired";
    case FieldErrorType::kNotSupported:
      return "FieldValueNotSupported";
    case FieldErrorType::kDuplicate:
      return "FieldValueDuplicate";
    case FieldErrorType::kForbidden:
      return "FieldValueForbidden";
    case FieldErrorType::kTooLong:
      return "FieldValueTooLong";
    case FieldErrorType::kTooMany:
      return "FieldValueTooMany";
    case FieldErrorType::kNotFound:
      return "FieldValueNotFound";
    case FieldErrorType::kInternal:
      return "InternalError";
  }
  return "FieldValueInvalid";
}

std::string FieldError::Body() const {
  std::string body = TypeText(type);
  if (PrintsValue(type)) {
    // Long values would drown the message; the reader has the document.
    std::string text = codec::Dump(value);
    if (text.size() > 1024) text = text.substr(0, 1024) + "...";
    body += ": " + text;
  }
  if (!detail.empty()) body += ": " + detail;
  return body;
}

std::string FieldError::Text() const { return field + ": " + Body(); }

std::string InvalidMessage(const KindName& kind, std::string_view name, const FieldErrors& errors) {
  std::string message = fmt::format("{}{}{} \"{}\" is invalid", kind.kind,
                                    kind.group.empty() ? "" : ".", kind.group, name);
  std::vector<std::string> texts;
  std::set<std::string> seen;
  for (const FieldError& error : errors) {
    std::string text = error.Text();
    if (seen.insert(text).second) texts.push_back(std::move(text));
  }
  if (texts.size() == 1) message += ": " + texts[0];
  if (texts.size() > 1) message += fmt::format(": [{}]", fmt::join(texts, ", "));
  return message;
}

Json InvalidStatus(const KindName& kind, std::string_view name, const FieldErrors& errors) {
  Json causes = Json::array();
  for (const FieldError& error : errors) {
    causes.push_back(
        {{"reason", error.Reason()}, {"message", error.Body()}, {"field", error.field}});
  }
  Json details = {{"name", name}, {"kind", kind.kind}, {"causes", std::move(causes)}};
  if (!kind.group.empty()) details["group"] = kind.group;
  return {{"kind", "Status"},
          {"apiVersion", "v1"},
          {"metadata", Json::object()},
          {"status", "Failure"},
          {"message", InvalidMessage(kind, name, errors)},
          {"reason", "Invalid"},
          {"details", std::move(details)},
          {"code", 422}};
}

}  // namespace apiserver
