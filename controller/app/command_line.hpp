#pragma once

namespace app {

/// Parses the command line and runs the subcommand. Exit codes: 0 stopped in order, 1 failed (said
/// on stderr), 2 bad usage, 3 locked by another instance or port in use, 4 the data cannot be used
/// (corrupt, newer, read-only).
int Main(int argc, char** argv);

}  // namespace app
