#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "http/message.hpp"

namespace kube {

/// The reason of what is refused because its namespace is being deleted (the Status says
/// Forbidden).
inline constexpr char kNamespaceTerminating[] = "NamespaceTerminating";

/// What an HTTP answer over 299 means; see kube/client.hpp for the table. `what` says what was
/// attempted on which object.
base::Error ErrorOf(const http::Response& response, const std::string& what);
/// The same for the object of an ERROR event (a metav1.Status).
base::Error ErrorOfStatus(std::string_view status, const std::string& what);

}  // namespace kube
