#pragma once

#include <string_view>

namespace apiserver {

/// True if `text` fits the OpenAPI string format; unknown formats fit everything, as in Kubernetes.
bool FitsFormat(std::string_view format, std::string_view text);

}  // namespace apiserver
