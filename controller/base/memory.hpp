#pragma once

namespace base {

/// Lets all threads share four of the allocator's arenas. By default there are up to eight for each
/// processor, and each keeps what its threads have freed: how much memory the process takes would
/// depend on the machine. Call it before threads are started.
void ShareArenas();

/// Gives the pages of freed memory back to the system. Takes milliseconds: for the end of something
/// large that does not come again soon.
void GiveBackFreeMemory();

}  // namespace base
