#include "base/memory.hpp"

#include <malloc.h>

namespace base {

void GiveBackFreeMemory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace base
