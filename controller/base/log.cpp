#include "base/log.hpp"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#include "base/utf8.hpp"

namespace base {
namespace {

std::atomic<LogLevel> g_level{LogLevel::kInfo};
std::atomic<LogLevel> g_own_level{LogLevel::kInfo};  ///< SetLog's.
std::atomic<LogFormat> g_format{LogFormat::kText};

const char* LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "info";
}

/// RFC 3339 with microseconds: lines of one millisecond are common.
std::string Now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     now.tv_nsec / 1000);
}

thread_local Field t_field;  ///< Of the LogScope; without a key: none.

}  // namespace

void SetLog(LogLevel level, LogFormat format) {
  g_level = g_own_level = level;
  g_format = format;
}

void OverrideLogLevel(std::optional<LogLevel> level) { g_level = level.value_or(g_own_level); }

std::optional<LogLevel> ParseLogLevel(std::string_view text) {
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError})
    if (text == LevelName(level)) return level;
  return std::nullopt;
}

std::string EscapeJson(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    const size_t n = Utf8Length(text, i);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += c == '\n' ? "\\n" : fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else if (n == 0) {
      out += "\\ufffd";
    } else {
      out.append(text, i, n);
    }
    i += n == 0 ? 1 : n;
  }
  return out;
}

LogScope::LogScope(Field field) { t_field = std::move(field); }
LogScope::~LogScope() { t_field = {}; }

bool Logs(LogLevel level) { return level >= g_level.load(std::memory_order_relaxed); }

void Log(LogLevel level, std::string_view message, std::initializer_list<Field> fields) {
  if (!Logs(level)) return;
  const std::string time = Now();
  std::string line;
  const auto each = [&](const auto& add) {
    for (const Field& field : fields) add(field);
    if (!t_field.key.empty()) add(t_field);
  };
  if (g_format.load(std::memory_order_relaxed) == LogFormat::kJson) {
    line = fmt::format(R"({{"time":"{}","level":"{}","msg":"{}")", time, LevelName(level),
                       EscapeJson(message));
    each([&](const Field& f) { line += fmt::format(R"(,"{}":"{}")", f.key, EscapeJson(f.value)); });
    line += "}\n";
  } else {
    line = fmt::format("{} {:<7} {}", time, LevelName(level), EscapeJson(message));
    each([&](const Field& f) { line += fmt::format(" {}=\"{}\"", f.key, EscapeJson(f.value)); });
    line += "\n";
  }
  // A blocked or closed stderr must not stop the operator: one attempt, the result does not matter.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace base
