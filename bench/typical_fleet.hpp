#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// A text with places to fill in, written as $name$.
class Template {
 public:
  using Values = std::vector<std::pair<std::string, std::string>>;
  explicit Template(const std::string& text);
  std::string Fill(const Values& values) const;

 private:
  std::vector<std::pair<std::string, std::string>> pieces_;  ///< Literal, then the place after it.
};

/// Objects as an API server sends them for a fleet at rest: everything converged, five
/// DeclaredPlugins a Workspace, two managedFields entries, kubectl's last-applied annotation. 2,000
/// plugins with three versions in use; names, UIDs, times and versions of their own for each
/// object. The same numbers always give the same objects.
class TypicalFleet {
 public:
  static constexpr size_t kPluginsEach = 5;
  TypicalFleet();
  std::string Workspace(size_t number) const;
  std::string DeclaredPlugin(size_t number) const;  ///< Of workspace number / kPluginsEach.
  /// Bytes of a watch: {"type":"MODIFIED","object":...}
  static std::string WatchLine(const std::string& object, const char* type = "MODIFIED");

 private:
  Template::Values PluginValues(size_t number) const;
  Template workspace_, row_, plugin_;
};

/// A UUID that depends on `seed` alone.
std::string UidOf(uint64_t seed);
/// `digits` hexadecimal digits that depend on `seed` alone.
std::string HexOf(uint64_t seed, size_t digits);

}  // namespace bench
