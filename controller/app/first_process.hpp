#pragma once

namespace app {

/// In a container this program would be process 1, which the kernel protects from the signals of
/// its own timers and which inherits orphans. So process 1 only starts the real one, passes
/// SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 on to it, reaps whatever ends, and exits as it does
/// (128 + n where signal n ended it). Returns in the process that does the work; elsewhere than in
/// process 1 it does nothing. Before any thread exists.
void LeaveFirstProcess();

}  // namespace app
