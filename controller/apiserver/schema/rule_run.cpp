#include <fmt/format.h>

#include "apiserver/schema/value_validation.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr uint64_t kObjectBudget = 10'000'000;

std::string Trimmed(const std::string& text) {
  const size_t from = text.find_first_not_of(" \t\r\n");
  if (from == std::string::npos) return {};
  return text.substr(from, text.find_last_not_of(" \t\r\n") - from + 1);
}

/// What messages call the rule: its message, else its text.
std::string RuleName(const ValidationRule& rule) {
  return Trimmed(rule.message.empty() ? rule.rule : rule.message);
}

FieldError MakeRuleError(const ValidationRule& rule, const std::string& type_name,
                         std::string field, std::string message) {
  FieldErrorType type = FieldErrorType::kInvalid;
  if (rule.reason == "FieldValueRequired") type = FieldErrorType::kRequired;
  if (rule.reason == "FieldValueForbidden") type = FieldErrorType::kForbidden;
  if (rule.reason == "FieldValueDuplicate") type = FieldErrorType::kDuplicate;
  return {type, std::move(field), type_name, std::move(message)};
}

}  // namespace

void RuleRun::Run(const SchemaNode& schema, const Json& json, const Json* before,
                  const FieldPath& path) {
  if (!schema.rules_below || json.is_null() || errors_.size() >= kMaxFieldErrors) return;
  const size_t faults = errors_.size();
  const CelVariables variables{&json, before};
  for (const ValidationRule& rule : schema.rules) Apply(schema, rule, variables, path);
  Below(schema, json, before, path);
  if (errors_.size() > faults && before && *before == json) errors_.resize(faults);
}

void RuleRun::Below(const SchemaNode& schema, const Json& json, const Json* before,
                    const FieldPath& path) {
  if (json.is_object()) {
    for (auto it = json.begin(); it != json.end(); ++it) {
      const SchemaNode* member = schema.Member(it.key());
      if (!member || !member->rules_below) continue;
      const Json* old_member = nullptr;
      if (before && before->is_object()) {
        const auto found = before->find(it.key());
        if (found != before->end()) old_member = &*found;
      }
      Run(*member, *it, old_member, path.Member(it.key()));
    }
  }
  if (!json.is_array() || !schema.items || !schema.items->rules_below) return;
  for (size_t i = 0; i < json.size(); ++i) {
    Run(*schema.items, json[i], CorrelatedItem(schema, before, json[i]), path.Item(i));
  }
}

void RuleRun::Apply(const SchemaNode& schema, const ValidationRule& rule,
                    const CelVariables& variables, const FieldPath& path) {
  std::string field = path.Text();
  const std::string type_name = schema.TypeName();
  if (!rule.broken.empty() || !rule.program) {
    broken_.push_back(
        {FieldErrorType::kInvalid, field.empty() ? "<nil>" : field, type_name,
         fmt::format("rule `{}` cannot be evaluated by this server, so it refuses: {}",
                     Trimmed(rule.rule), rule.broken)});
    return;
  }
  if (rule.program->UsesOldSelf() && !variables.old_self) return;
  if (cost_ > kObjectBudget) {
    broken_.push_back({FieldErrorType::kInvalid, field.empty() ? "<nil>" : field, type_name,
                       "validation failed due to running out of cost budget, no further validation "
                       "rules will be run"});
    return;
  }
  const auto outcome = rule.program->EvaluateBool(variables, {}, &cost_);
  if (!outcome) {
    errors_.push_back(
        {FieldErrorType::kInvalid, field.empty() ? "<nil>" : field, type_name,
         fmt::format("{} evaluating rule: {}", outcome.error().message, RuleName(rule))});
    return;
  }
  if (*outcome) return;
  if (!rule.field_path.empty())
    field += field.empty() ? rule.field_path.substr(rule.field_path.starts_with('.') ? 1 : 0)
                           : rule.field_path;
  if (field.empty()) field = "<nil>";
  errors_.push_back(MakeRuleError(rule, type_name, std::move(field), Message(rule, variables)));
}

std::string RuleRun::Message(const ValidationRule& rule, const CelVariables& variables) {
  if (rule.message_expression) {
    // A message that cannot be made must not hide the failure: fall back to the fixed text.
    auto text = rule.message_expression->EvaluateString(variables, {}, &cost_);
    if (text && !Trimmed(*text).empty() && text->find('\n') == std::string::npos &&
        text->size() <= 5120)
      return Trimmed(*text);
  }
  return rule.message.empty() ? fmt::format("failed rule: {}", Trimmed(rule.rule))
                              : Trimmed(rule.message);
}

void RuleRun::Finish() { errors_.insert(errors_.end(), broken_.begin(), broken_.end()); }

}  // namespace apiserver
