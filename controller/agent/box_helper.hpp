#pragma once

#include <string>

#include "base/clock.hpp"

namespace agent {

struct BoxHelperOptions {
  std::string root;  ///< The box; "/" inside a container.
  int input = 0;     ///< File descriptors of the frames (protocol/box_frames.hpp).
  int output = 1;
  base::Seconds deadline{600};  ///< Then SIGALRM ends the process: nobody may be there any more.
};

/// Does one request of the operator to the plugins of this box and ends: the in-box half of the
/// boxes that are reached by running a program in them. Returns the exit code: 0 the reply was
/// written (it may hold errors), 2 bad options or a broken request, 4 the reply could not be
/// written.
int RunBoxHelper(const BoxHelperOptions& options);

}  // namespace agent
