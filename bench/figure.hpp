#pragma once

#include <fmt/core.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

/// How a bench program says what it measured: a line of tab-separated fields on stdout, which
/// bench/run collects.
namespace bench {

struct Figure {
  std::string name;
  double value = 0;
  std::string unit;
  std::optional<double> goal = std::nullopt;  ///< None: for information.
  const char* better = "lower";
};

inline void Print(const Figure& figure) {
  fmt::print("{}\t{:.4g}\t{}\t{}\t{}\n", figure.name, figure.value, figure.unit,
             figure.goal ? fmt::format("{}", *figure.goal) : "", figure.better);
  std::fflush(stdout);
}

/// Seconds on a clock of time.h: CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID, a process' CPU clock.
inline double SecondsOn(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace bench
