#include "base/memory.hpp"

#include <malloc.h>

namespace base {

void ShareArenas() {
#ifdef __GLIBC__
  ::mallopt(M_ARENA_MAX, 4);
#endif
}

void GiveBackFreeMemory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace base
