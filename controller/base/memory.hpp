#pragma once

namespace base {

/// Gives the pages of freed memory back to the system. Takes milliseconds: for the end of something
/// large that does not come again soon.
void GiveBackFreeMemory();

}  // namespace base
