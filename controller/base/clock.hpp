#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace base {

using Millis = std::chrono::milliseconds;
using Seconds = std::chrono::seconds;
using WallTime =
    std::chrono::sys_time<Millis>;  ///< For people and for stamps that outlive a process.
using MonoTime =
    std::chrono::time_point<std::chrono::steady_clock,
                            std::chrono::nanoseconds>;  ///< For every timeout in a process.

/// Both clocks read at one moment: what pure functions get as `now`.
struct Now {
  WallTime wall;
  MonoTime mono;
};

/// Source of time. Thread safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Now Read() const = 0;
};

/// The real clock: system_clock and CLOCK_MONOTONIC.
class SystemClock final : public Clock {
 public:
  Now Read() const override;
  /// A process-wide instance.
  static const SystemClock& Get();
};

/// The real clock whose `mono` is CLOCK_BOOTTIME: it goes on while the machine sleeps or a virtual
/// machine is paused. Its time points compare with its own only.
class BootClock final : public Clock {
 public:
  Now Read() const override;
  /// A process-wide instance.
  static const BootClock& Get();
};

/// RFC 3339 in UTC with whole seconds, as Kubernetes writes metav1.Time: 2026-11-21T10:34:13Z.
std::string FormatTime(WallTime time);
/// RFC 3339 with microseconds, as metav1.MicroTime.
std::string FormatMicroTime(WallTime time);
/// Parses RFC 3339 (any fraction, Z or offset); nothing if malformed.
std::optional<WallTime> ParseTime(std::string_view text);

}  // namespace base
