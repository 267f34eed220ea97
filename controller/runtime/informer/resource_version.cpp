#include "runtime/informer/resource_version.hpp"

namespace runtime {
namespace {

bool WellFormed(std::string_view text) {
  if (text.empty() || text[0] == '0') return false;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
  }
  return true;
}

}  // namespace

std::optional<std::strong_ordering> CompareVersions(std::string_view a, std::string_view b) {
  if (!WellFormed(a) || !WellFormed(b)) return std::nullopt;
  if (a.size() != b.size()) return a.size() <=> b.size();
  return a.compare(b) <=> 0;
}

bool AtLeast(std::string_view a, std::string_view b) {
  if (a == b) return true;
  const auto order = CompareVersions(a, b);
  return order.has_value() && *order >= 0;
}

}  // namespace runtime
