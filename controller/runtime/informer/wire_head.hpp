#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "meta/object.hpp"

namespace runtime {

/// What a reflector must know of an object that it cannot or need not decode: a bookmark, a
/// metav1.Status, a quarantined object.
struct WireHead {
  meta::ObjectKey key;
  std::string uid;
  std::string resource_version;
  bool initial_events_end = false;  ///< Annotation k8s.io/initial-events-end: "true".
  int64_t code = 0;                 ///< Of a Status, with the next four.
  std::string reason;
  std::string message;
  std::optional<int64_t> retry_after_seconds;
};

/// Reads the head of a JSON object in one pass without building a document; members of other types
/// than expected are skipped. kInvalid (reason BadFrame) when the bytes are no balanced JSON object
/// of at most 128 levels.
base::Result<WireHead> ScanHead(std::string_view json);

/// The Error that a Status in a watch stands for: 410 or reason Expired/Gone kGone; 429
/// kUnavailable; 500 kInternal; 504 and 408 kTimeout; 401, 403, 404, 409, 4xx as everywhere.
base::Error StatusError(const WireHead& status);

}  // namespace runtime
