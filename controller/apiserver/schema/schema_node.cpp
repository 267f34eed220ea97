#include "apiserver/schema/schema_node.hpp"

#include <fmt/format.h>

#include <cmath>

namespace apiserver {
namespace {

using codec::Json;
using Node = std::unique_ptr<SchemaNode>;

constexpr int kMaxDepth = 40;
constexpr int kMaxNodes = 20'000;

struct TypeWord {
  const char* name;
  SchemaType type;
};
constexpr TypeWord kTypes[] = {{"object", SchemaType::kObject}, {"array", SchemaType::kArray},
                               {"string", SchemaType::kString}, {"integer", SchemaType::kInteger},
                               {"number", SchemaType::kNumber}, {"boolean", SchemaType::kBoolean}};

/// Members that carry no meaning for the server, or are read elsewhere.
bool IsIgnored(std::string_view key) {
  constexpr std::string_view kIgnored[] = {
      "description", "title", "example", "externalDocs", "x-kubernetes-map-type", "id", "$schema"};
  for (const std::string_view ignored : kIgnored) {
    if (key == ignored) return true;
  }
  return false;
}

class Compiler {
 public:
  base::Result<Node> Run(const Json& schema) {
    Node node = Compile(schema, "openAPIV3Schema", 0);
    if (!error_.empty()) return base::MakeError(base::Code::kInvalid, error_);
    return node;
  }

 private:
  void Fail(const std::string& path, std::string_view why) {
    if (error_.empty()) error_ = fmt::format("{}: {}", path, why);
  }

  Node Compile(const Json& schema, const std::string& path, int depth) {
    Node node = std::make_unique<SchemaNode>();
    if (!error_.empty()) return node;
    if (!schema.is_object()) Fail(path, "must be an object");
    if (depth > kMaxDepth || ++nodes_ > kMaxNodes)
      Fail(path, "the schema is too deep or too large");
    if (!error_.empty()) return node;
    for (auto it = schema.begin(); it != schema.end() && error_.empty(); ++it) {
      if (IsIgnored(it.key())) continue;
      if (!ReadStructure(*node, it.key(), *it) && !ReadCheck(*node, it.key(), *it, path) &&
          !ReadBelow(*node, it.key(), *it, {path, depth}) &&
          it.key() != "x-kubernetes-validations") {
        Fail(path, fmt::format("`{}` is not supported", it.key()));
      }
    }
    node->atomic_map = codec::GetString(schema, "x-kubernetes-map-type") == "atomic";
    CheckStructure(*node, schema, path);
    // Rules come last: they are checked against the finished node.
    if (error_.empty())
      ReadRules(*node, codec::GetMember(schema, "x-kubernetes-validations"), path);
    return node;
  }

  bool ReadStructure(SchemaNode& node, const std::string& key, const Json& value) {
    if (key == "type" && value.is_string()) {
      for (const TypeWord& word : kTypes) {
        if (value != word.name) continue;
        node.type = word.type;
        return true;
      }
      return false;
    }
    if (key == "nullable")
      node.nullable = value == true;
    else if (key == "x-kubernetes-int-or-string")
      node.int_or_string = value == true;
    else if (key == "x-kubernetes-preserve-unknown-fields")
      node.preserve_unknown = value == true;
    else if (key == "x-object-meta")
      node.object_meta = value == true;
    else if (key == "x-kubernetes-embedded-resource")
      node.embedded_resource = value == true;
    else if (key == "format" && value.is_string())
      node.format = value;
    else if (key == "default") {
      node.default_value = value;
      node.defaults_below = true;
    } else if (key == "x-kubernetes-list-type") {
      node.list_type = value == "map"   ? ListType::kMap
                       : value == "set" ? ListType::kSet
                                        : ListType::kAtomic;
    } else if (key == "x-kubernetes-patch-merge-key" && value.is_string())
      node.patch_merge_key = value;
    else if (key == "x-kubernetes-patch-strategy" && value.is_string())
      node.patch_merge = value.get<std::string>().starts_with("merge");
    else
      return ReadNames(node, key, value);
    return true;
  }

  static bool ReadNames(SchemaNode& node, const std::string& key, const Json& value) {
    std::vector<std::string>* names = key == "required"                     ? &node.required
                                      : key == "x-kubernetes-list-map-keys" ? &node.list_map_keys
                                                                            : nullptr;
    if (!names || !value.is_array()) return false;
    for (const Json& name : value) {
      if (!name.is_string()) return false;
      names->push_back(name);
    }
    return true;
  }

  static ValueChecks& Checks(SchemaNode& node) {
    if (!node.checks) node.checks = std::make_unique<ValueChecks>();
    return *node.checks;
  }

  bool ReadCheck(SchemaNode& node, const std::string& key, const Json& value,
                 const std::string& path) {
    if (ReadNumberCheck(node, key, value) || ReadCountCheck(node, key, value)) return true;
    if (key == "enum" && value.is_array()) {
      Checks(node).enumeration = value.get<std::vector<Json>>();
    } else if (key == "pattern" && value.is_string()) {
      Checks(node).pattern_text = value;
      auto regex = Regex::Compile(Checks(node).pattern_text);
      if (!regex)
        Fail(path, regex.error().message);
      else
        Checks(node).pattern = *regex;
    } else if (key == "uniqueItems") {
      Checks(node).unique_items = value == true;
    } else if (key == "exclusiveMinimum" && value.is_boolean()) {
      Checks(node).exclusive_minimum = value;
    } else if (key == "exclusiveMaximum" && value.is_boolean()) {
      Checks(node).exclusive_maximum = value;
    } else {
      return false;
    }
    return true;
  }

  static bool ReadNumberCheck(SchemaNode& node, const std::string& key, const Json& value) {
    if (!value.is_number()) return false;
    if (key == "minimum")
      Checks(node).minimum = value.get<double>();
    else if (key == "maximum")
      Checks(node).maximum = value.get<double>();
    else if (key == "multipleOf")
      Checks(node).multiple_of = value.get<double>();
    else
      return false;
    return true;
  }

  static bool ReadCountCheck(SchemaNode& node, const std::string& key, const Json& value) {
    struct Count {
      const char* key;
      std::optional<int64_t> ValueChecks::*member;
    };
    constexpr Count kCounts[] = {{"minLength", &ValueChecks::min_length},
                                 {"maxLength", &ValueChecks::max_length},
                                 {"minItems", &ValueChecks::min_items},
                                 {"maxItems", &ValueChecks::max_items},
                                 {"minProperties", &ValueChecks::min_properties},
                                 {"maxProperties", &ValueChecks::max_properties}};
    for (const Count& count : kCounts) {
      if (key != count.key || !value.is_number_integer()) continue;
      Checks(node).*count.member = value.get<int64_t>();
      return true;
    }
    return false;
  }

  struct Place {
    const std::string& path;
    int depth;
  };

  bool ReadBelow(SchemaNode& node, const std::string& key, const Json& value, const Place& at) {
    if (key == "properties" && value.is_object()) {
      for (auto it = value.begin(); it != value.end(); ++it) {
        node.properties[it.key()] =
            Child(node, *it, fmt::format("{}.properties[{}]", at.path, it.key()), at.depth);
      }
    } else if (key == "items") {
      node.items = Child(node, value, at.path + ".items", at.depth);
    } else if (key == "additionalProperties") {
      if (value.is_boolean()) {
        node.preserve_unknown = node.preserve_unknown || value == true;
      } else {
        node.additional = Child(node, value, at.path + ".additionalProperties", at.depth);
      }
    } else if (key == "not") {
      Checks(node).negated = Compile(value, at.path + ".not", at.depth + 1);
    } else {
      std::vector<Node>* list = key == "allOf"   ? &Checks(node).all_of
                                : key == "anyOf" ? &Checks(node).any_of
                                : key == "oneOf" ? &Checks(node).one_of
                                                 : nullptr;
      if (!list || !value.is_array()) return false;
      for (const Json& branch : value)
        list->push_back(Compile(branch, fmt::format("{}.{}", at.path, key), at.depth + 1));
    }
    return true;
  }

  Node Child(SchemaNode& parent, const Json& schema, const std::string& path, int depth) {
    Node child = Compile(schema, path, depth + 1);
    parent.rules_below = parent.rules_below || child->rules_below;
    parent.defaults_below = parent.defaults_below || child->defaults_below;
    return child;
  }

  void CheckStructure(SchemaNode& node, const Json& schema, const std::string& path) {
    if (node.list_type == ListType::kMap) {
      if (node.list_map_keys.empty())
        Fail(path, "x-kubernetes-list-map-keys is required for a map list");
      for (const std::string& key : node.list_map_keys) {
        if (node.items && !node.items->properties.contains(key))
          Fail(path, fmt::format("list map key `{}` is no property of the items", key));
      }
    }
    if (node.type == SchemaType::kArray && !node.items && !schema.contains("items"))
      node.preserve_unknown = true;
  }

  void ReadRules(SchemaNode& node, const Json& rules, const std::string& path) {
    if (rules.is_null()) return;
    if (!rules.is_array()) return Fail(path, "x-kubernetes-validations must be a list");
    for (const Json& entry : rules) {
      if (!entry.is_object())
        return Fail(path, "x-kubernetes-validations must be a list of objects");
      ValidationRule rule;
      rule.rule = codec::GetString(entry, "rule");
      rule.message = codec::GetString(entry, "message");
      rule.field_path = codec::GetString(entry, "fieldPath");
      rule.reason = codec::GetString(entry, "reason");
      if (codec::GetBool(entry, "optionalOldSelf"))
        rule.broken = "optionalOldSelf is not supported";
      CompileRule(rule, node, codec::GetString(entry, "messageExpression"));
      node.rules.push_back(std::move(rule));
      node.rules_below = true;
    }
  }

  static void CompileRule(ValidationRule& rule, const SchemaNode& node,
                          const std::string& message_expression) {
    auto program = CelProgram::Compile(rule.rule, &node);
    if (!program) {
      if (rule.broken.empty()) rule.broken = program.error().message;
    } else {
      rule.program = *program;
    }
    if (message_expression.empty()) return;
    auto message = CelProgram::Compile(message_expression, &node);
    if (message)
      rule.message_expression = *message;
    else if (rule.broken.empty())
      rule.broken = "messageExpression: " + message.error().message;
  }

  int nodes_ = 0;
  std::string error_;
};

}  // namespace

const SchemaNode* SchemaNode::Member(std::string_view name) const {
  const auto it = properties.find(name);
  return it != properties.end() ? it->second.get() : additional.get();
}

const char* SchemaNode::TypeName() const {
  for (const TypeWord& word : kTypes) {
    if (word.type == type) return word.name;
  }
  return "";
}

CelShape::Kind SchemaNode::CelKind() const {
  if (int_or_string) return Kind::kDynamic;
  switch (type) {
    case SchemaType::kAny:
      return Kind::kDynamic;
    case SchemaType::kObject:
      if (additional) return Kind::kMap;
      return properties.empty() ? Kind::kDynamic : Kind::kObject;
    case SchemaType::kArray:
      return Kind::kList;
    case SchemaType::kString:
      return format == "date-time" || format == "date" ? Kind::kTimestamp
             : format == "duration"                    ? Kind::kDuration
                                                       : Kind::kString;
    case SchemaType::kInteger:
      return Kind::kInt;
    case SchemaType::kNumber:
      return Kind::kDouble;
    case SchemaType::kBoolean:
      return Kind::kBool;
  }
  return Kind::kDynamic;
}

const CelShape* SchemaNode::CelField(std::string_view name) const {
  // Kubernetes shows rules nothing of the metadata but these two.
  if (object_meta && name != "name" && name != "generateName") return nullptr;
  const auto it = properties.find(name);
  return it == properties.end() ? nullptr : it->second.get();
}

const CelShape* SchemaNode::CelElement() const {
  return type == SchemaType::kArray ? items.get() : additional.get();
}

base::Result<std::unique_ptr<SchemaNode>> CompileSchema(const codec::Json& schema) {
  try {
    return Compiler().Run(schema);
  } catch (
      const std::exception& e) {  // nlohmann's type errors: the one place where they are caught.
    return base::MakeError(base::Code::kInvalid, fmt::format("schema: {}", e.what()));
  }
}

}  // namespace apiserver
