#pragma once

#include <cstddef>
#include <cstdint>

namespace bundle {

/// Bounds of one plugin tree. Source, store, box and agent use the same ones, so that what one
/// accepts the next one accepts too.
struct Limits {
  uint64_t total_bytes = 64ull << 20;  ///< Sum of the files' sizes.
  uint64_t file_bytes = 32ull << 20;   ///< One file.
  size_t entries = 20'000;             ///< Files.
  size_t depth = 32;                   ///< Path segments.
  size_t path_bytes = 1024;            ///< A whole path.
  size_t name_bytes = 255;             ///< One path segment.
  size_t manifest_bytes = 256 << 10;   ///< plugin.yaml or SKILL.md.
};

}  // namespace bundle
