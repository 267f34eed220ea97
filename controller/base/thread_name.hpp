#pragma once

#include <pthread.h>

#include <string>

namespace base {

/// Names the calling thread as `top -H` and debuggers show it; the system keeps 15 bytes.
/// The names are listed in docs/architecture.md.
inline void NameThread(const std::string& name) {
  ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
}

}  // namespace base
