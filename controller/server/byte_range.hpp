#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// Private to server/: the header arithmetic of the download route.
namespace server {

enum class RangeKind { kWhole, kPart, kUnsatisfiable };

struct ByteRange {
  RangeKind kind = RangeKind::kWhole;
  uint64_t offset = 0;
  uint64_t length = 0;
};

/// RFC 9110 section 14: one range `bytes=a-b`, `bytes=a-` or `bytes=-n`. Malformed ones and several
/// ranges are ignored (whole).
ByteRange ParseRange(std::string_view header, uint64_t size);

/// `sha-256=<base64>` (RFC 3230) of a digest written `sha256:<hex>`; empty if it is not one.
std::string DigestHeader(std::string_view digest);

}  // namespace server
