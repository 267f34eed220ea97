#pragma once

#include <string>

#include "base/result.hpp"
#include "core/source_uri.hpp"
#include "source/source_settings.hpp"

namespace source {

/// Where a repository is reached.
struct GitAddress {
  std::string
      url;  ///< https://host/path, or http:// where the admin allows it. No credentials in it.
  bool plain_http = false;
};

/// Errors: kForbidden with reason HostNotAllowed; kInvalid with SourceSchemeUnavailable (a scheme
/// or base URL this operator has not).
base::Result<GitAddress> MakeGitAddress(const core::SourceUri& uri, const SourceSettings& settings);

}  // namespace source
