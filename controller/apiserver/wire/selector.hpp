#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apiserver/schema/resource_definition.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// labelSelector and fieldSelector of a list or a watch. Immutable, thread safe.
class Selector {
 public:
  /// kInvalid with Kubernetes' wording for what cannot be read; `definition` says which fields may
  /// be selected by.
  static base::Result<Selector> Parse(const ResourceDefinition& definition, std::string_view labels,
                                      std::string_view fields);
  /// True if every object matches.
  bool Empty() const { return labels_.empty() && fields_.empty(); }
  bool Matches(const codec::Json& object) const;
  /// The name that metadata.name must equal, or empty: lets a list become a read.
  std::string OnlyName() const;

 private:
  enum class Operator { kIn, kNotIn, kExists, kAbsent, kGreater, kLess };
  struct LabelTerm {
    std::string key;
    Operator op = Operator::kIn;
    std::vector<std::string> values;
  };
  struct FieldTerm {
    std::string path;
    JsonPath json_path;
    bool equal = true;
    std::string value;
  };
  static base::Status ParseLabelTerm(std::string_view text, std::vector<LabelTerm>& terms);
  static base::Status ParseFieldTerm(const ResourceDefinition& definition, std::string_view text,
                                     std::vector<FieldTerm>& terms);
  static bool LabelMatches(const LabelTerm& term, const codec::Json& labels);

  std::vector<LabelTerm> labels_;
  std::vector<FieldTerm> fields_;
};

}  // namespace apiserver
