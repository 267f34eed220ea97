#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

/// The wrappers around objects, split without decoding what they wrap. All views point into the
/// given text.
namespace codec {

/// One line of a watch.
struct WatchEnvelope {
  std::string_view type;    ///< ADDED, MODIFIED, DELETED, BOOKMARK, ERROR.
  std::string_view object;  ///< The exact bytes of the object.
};
/// kInvalid when it is not a JSON object with a text `type` and an object `object`. The object is
/// checked when it is decoded.
base::Result<WatchEnvelope> SplitWatchEvent(std::string_view line);

/// One page of a list.
struct ListEnvelope {
  std::string resource_version;
  std::string continue_token;  ///< Empty: the last page.
  std::vector<std::string_view> items;
};
base::Result<ListEnvelope> SplitList(std::string_view body);

}  // namespace codec
