#pragma once

#include <string>
#include <string_view>

/// What Kubernetes lets names, label keys and label values be.
namespace meta {

inline constexpr size_t kMaxNameBytes = 253;
inline constexpr size_t kMaxLabelBytes = 63;

extern const char* const kDnsSubdomainRule;  ///< In Kubernetes' wording, as is the next.
extern const char* const kDnsLabelRule;

/// An RFC 1123 label, whatever its length.
bool HasDnsLabelShape(std::string_view text);
/// An RFC 1123 label: the name of a namespace.
bool IsDnsLabel(std::string_view name);
/// An RFC 1123 subdomain: the name of most objects.
bool IsDnsSubdomain(std::string_view name);
/// Empty if good, else Kubernetes' wording. For labels and label selectors.
std::string CheckLabelValue(std::string_view value);
/// The same of keys: a name, if need be after a subdomain and a slash.
std::string CheckQualifiedName(std::string_view name);

}  // namespace meta
