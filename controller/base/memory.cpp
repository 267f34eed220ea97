#include "base/memory.hpp"

#include <malloc.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/file.hpp"

namespace base {
namespace {

/// What v1 says for no limit is this or a page less.
constexpr uint64_t kNone = uint64_t{1} << 62;

std::optional<uint64_t> ReadLimit(const std::string& path) {
  const auto text = ReadFile(path, 64);
  uint64_t limit = 0;
  if (!text) return std::nullopt;
  const auto parsed = std::from_chars(text->data(), text->data() + text->size(), limit);
  // v2 writes `max`.
  if (parsed.ec != std::errc() || limit >= kNone) return std::nullopt;
  return limit;
}

/// The least of a cgroup and those around it. A container without a cgroup namespace sees its own
/// cgroup as the root, and the path of the host leads nowhere: those files are just not there.
std::optional<uint64_t> LeastLimit(const std::string& mount, std::string path, const char* file) {
  std::optional<uint64_t> least;
  while (true) {
    if (path.ends_with('/')) path.pop_back();
    if (const auto limit = ReadLimit(mount + path + "/" + file))
      least = std::min(limit.value(), least.value_or(*limit));
    if (path.empty()) return least;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

}  // namespace

void ShareArenas() {
#ifdef __GLIBC__
  ::mallopt(M_ARENA_MAX, 4);
#endif
}

void GiveBackFreeMemory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

std::optional<uint64_t> MemoryLimit(const CgroupFiles& files) {
  const std::string text = ReadFile(files.own, 64 << 10).value_or("");
  std::optional<uint64_t> least;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    // ID:controllers:path; v2 is the line that names no controller.
    const size_t first = line.find(':');
    const size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers =
        "," + std::string(line.substr(first + 1, second - first - 1)) + ",";
    const std::string path(line.substr(second + 1));
    std::optional<uint64_t> limit;
    if (controllers == ",,") limit = LeastLimit(files.root, path, "memory.max");
    if (controllers.find(",memory,") != std::string::npos)
      limit = LeastLimit(files.root + "/memory", path, "memory.limit_in_bytes");
    if (limit) least = std::min(*limit, least.value_or(*limit));
  }
  return least;
}

}  // namespace base
