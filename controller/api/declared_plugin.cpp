#include "api/declared_plugin.hpp"

#include <algorithm>

#include "base/utf8.hpp"
#include "meta/names.hpp"

namespace api {
namespace {

bool Holds(const LabelRequirement& r, const std::map<std::string, std::string>& labels) {
  const auto label = labels.find(r.key);
  const bool present = label != labels.end();
  const bool listed =
      present && std::find(r.values.begin(), r.values.end(), label->second) != r.values.end();
  if (r.op == "In") return listed;
  if (r.op == "NotIn") return !listed;
  if (r.op == "Exists") return present;
  if (r.op == "DoesNotExist") return !present;
  return false;
}

/// What people wrote, short enough for a message.
std::string Quoted(const std::string& text) {
  constexpr size_t kShown = 80;
  return "`" + base::ShortenUtf8(text, kShown) + "`";
}

constexpr char kNameRule[] =
    "at most 63 letters, digits, hyphens, underscores and dots, beginning and ending with a letter "
    "or digit";

std::string KeyProblem(const std::string& field, const std::string& key) {
  if (meta::CheckQualifiedName(key).empty()) return "";
  return field + ": no label can have the key " + Quoted(key) + "; set one of " + kNameRule +
         ", if need be after a DNS name and a slash, e.g. example.com/team";
}

std::string ValueProblem(const std::string& field, const std::string& value) {
  if (meta::CheckLabelValue(value).empty()) return "";
  return field + ": no label can have the value " + Quoted(value) + "; set one of " + kNameRule +
         ", or an empty one";
}

std::string RequirementProblem(const LabelRequirement& r, const std::string& field) {
  if (std::string why = KeyProblem(field + ".key", r.key); !why.empty()) return why;
  const bool lists = r.op == "In" || r.op == "NotIn";
  if (!lists && r.op != "Exists" && r.op != "DoesNotExist")
    return field + ".operator: " + Quoted(r.op) + " is none; set In, NotIn, Exists or DoesNotExist";
  if (lists && r.values.empty())
    return field + ".values: operator " + r.op + " needs an element; add one, or use Exists";
  if (!lists && !r.values.empty())
    return field + ".values: operator " + r.op + " takes none; remove them, or use In";
  for (const std::string& value : r.values)
    if (std::string why = ValueProblem(field + ".values", value); !why.empty()) return why;
  return "";
}

}  // namespace

bool Matches(const LabelSelector& selector, const std::map<std::string, std::string>& labels) {
  for (const auto& [key, value] : selector.match_labels) {
    const auto label = labels.find(key);
    if (label == labels.end() || label->second != value) return false;
  }
  return std::all_of(selector.match_expressions.begin(), selector.match_expressions.end(),
                     [&](const LabelRequirement& r) { return Holds(r, labels); });
}

std::string SelectorProblem(const LabelSelector& selector, const std::string& field) {
  for (const auto& [key, value] : selector.match_labels) {
    if (std::string why = KeyProblem(field + ".matchLabels", key); !why.empty()) return why;
    if (std::string why = ValueProblem(field + ".matchLabels[" + key + "]", value); !why.empty())
      return why;
  }
  for (size_t i = 0; i < selector.match_expressions.size(); ++i) {
    const std::string at = field + ".matchExpressions[" + std::to_string(i) + "]";
    if (std::string why = RequirementProblem(selector.match_expressions[i], at); !why.empty())
      return why;
  }
  return "";
}

}  // namespace api
