#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace base {

/// Lets all threads share four of the allocator's arenas. By default there are up to eight for each
/// processor, and each keeps what its threads have freed: how much memory the process takes would
/// depend on the machine. Call it before threads are started.
void ShareArenas();

/// Gives the pages of freed memory back to the system. Takes milliseconds: for the end of something
/// large that does not come again soon.
void GiveBackFreeMemory();

/// Where the kernel says which cgroups the process is in, and what they may take.
struct CgroupFiles {
  std::string own = "/proc/self/cgroup";
  std::string root = "/sys/fs/cgroup";
};

/// Bytes of memory that the process may take at most: the least limit of its cgroup and of those
/// around it, as far as they are to be seen from here (cgroup v2, and v1). Nothing: no limit.
std::optional<uint64_t> MemoryLimit(const CgroupFiles& files = {});

}  // namespace base
