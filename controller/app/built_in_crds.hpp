#pragma once

#include <string>
#include <vector>

namespace app {

/// The files of crds/, compiled in (CMakeLists.txt).
std::vector<std::string> BuiltInCrds();

}  // namespace app
