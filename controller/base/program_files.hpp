#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace base {

/// A file that this program needs in order to run somewhere else.
struct ProgramFile {
  std::string name;  ///< Relative: "workspace-operator", "lib/ld.so", "lib/libssl.so.3".
  std::string path;  ///< Where it is here.
  uint64_t size = 0;
};

/// The file of this program; empty if the kernel does not say.
std::string OwnProgramPath();
/// This program, its loader and the shared libraries it runs with, sorted by name: in a folder
/// anywhere, whatever C library is there, RunProgramArgv starts it. Same architecture and kernel
/// only.
Result<std::vector<ProgramFile>> OwnProgramFiles();
/// Copies them into `folder` (made if missing); a copy that is cut off is never taken for whole.
Status CopyOwnProgram(const std::string& folder);
/// The argument vector (without the program's own arguments) that runs what OwnProgramFiles named
/// from `folder`.
std::vector<std::string> RunProgramArgv(const std::string& folder);
/// 16 hex digits that differ when the program does. Computed once.
std::string OwnProgramId();

}  // namespace base
