#pragma once

#include <chrono>
#include <functional>
#include <thread>

namespace support {

/// True as soon as `holds` is; false after a minute of real time.
inline bool Eventually(const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{60};
  while (std::chrono::steady_clock::now() < end) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return holds();
}

}  // namespace support
