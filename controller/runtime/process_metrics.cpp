#include <dirent.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/file.hpp"
#include "base/memory.hpp"
#include "runtime/metrics.hpp"

namespace runtime {
namespace {

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double OpenFds() {
  DIR* dir = opendir("/proc/self/fd");
  if (dir == nullptr) return 0;
  double count = -3;  // ".", ".." and the descriptor of this very look.
  while (readdir(dir) != nullptr) ++count;
  closedir(dir);
  return count;
}

/// Fields of /proc/self/stat from the third (state) on: the second may hold spaces and brackets.
std::vector<std::string> StatFields() {
  const auto text = base::ReadFile("/proc/self/stat", 4096);
  std::vector<std::string> fields;
  if (!text) return fields;
  const size_t end = text->rfind(')');
  if (end == std::string::npos) return fields;
  std::istringstream rest(text->substr(end + 1));
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

double StartTime(const std::vector<std::string>& fields) {
  const auto uptime = base::ReadFile("/proc/uptime", 256);
  if (!uptime || fields.size() < 20) return 0;
  const double ticks = std::strtod(fields[19].c_str(), nullptr);
  const double age =
      std::strtod(uptime->c_str(), nullptr) - ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  const auto wall = base::SystemClock::Get().Read().wall.time_since_epoch();
  return static_cast<double>(wall.count()) / 1000.0 - age;
}

}  // namespace

Metrics::Collector AddProcessMetrics(Metrics& metrics) {
  auto& cpu = metrics.CounterOf(
      {"process_cpu_seconds_total", "Total user and system CPU time spent in seconds."});
  auto& resident =
      metrics.GaugeOf({"process_resident_memory_bytes", "Resident memory size in bytes."});
  // Infinity instead of no series: an alert or a dashboard that names it must find it everywhere.
  auto& memory_limit = metrics.GaugeOf(
      {"process_memory_limit_bytes", "Memory limit of the container in bytes; +Inf: none."});
  auto& virtual_bytes =
      metrics.GaugeOf({"process_virtual_memory_bytes", "Virtual memory size in bytes."});
  auto& fds = metrics.GaugeOf({"process_open_fds", "Number of open file descriptors."});
  auto& max_fds = metrics.GaugeOf({"process_max_fds", "Maximum number of open file descriptors."});
  auto& threads = metrics.GaugeOf({"process_threads", "Number of threads."});
  metrics
      .GaugeOf({"process_start_time_seconds",
                "Start time of the process since the Unix epoch in seconds."})
      .Set(StartTime(StatFields()));
  return metrics.OnScrape([&] {
    cpu.Add(CpuSeconds() - cpu.Value());
    fds.Set(OpenFds());
    const auto most = base::MemoryLimit();
    memory_limit.Set(most ? static_cast<double>(*most) : std::numeric_limits<double>::infinity());
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) max_fds.Set(static_cast<double>(limit.rlim_cur));
    const auto fields = StatFields();
    if (fields.size() < 22) return;
    threads.Set(std::strtod(fields[17].c_str(), nullptr));
    virtual_bytes.Set(std::strtod(fields[20].c_str(), nullptr));
    resident.Set(std::strtod(fields[21].c_str(), nullptr) *
                 static_cast<double>(sysconf(_SC_PAGESIZE)));
  });
}

}  // namespace runtime
