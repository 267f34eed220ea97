#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace base {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kJson, kText };

/// A key and its value, already text. Values are escaped when written (no line of a plugin author
/// can forge a log line).
struct Field {
  std::string_view key;
  std::string value;
};

/// Sets what is written and how; thread safe; the default is info and text. One line a call on
/// stderr.
void SetLog(LogLevel level, LogFormat format);
/// From now on `level` holds instead of SetLog's; nullopt: that one again.
void OverrideLogLevel(std::optional<LogLevel> level);
/// debug, info, warning or error.
std::optional<LogLevel> ParseLogLevel(std::string_view text);
/// Writes one line: time, level, message, fields. Never throws. A value never holds a secret: that
/// is the caller's duty.
void Log(LogLevel level, std::string_view message, std::initializer_list<Field> fields = {});
/// While it lives every line of this thread has that field too. They do not nest.
class LogScope {
 public:
  explicit LogScope(Field field);
  LogScope(const LogScope&) = delete;
  LogScope& operator=(const LogScope&) = delete;
  ~LogScope();
};
/// Is a line of this level written? Asked before fields are made that cost something.
bool Logs(LogLevel level);

inline void LogDebug(std::string_view m, std::initializer_list<Field> f = {}) {
  Log(LogLevel::kDebug, m, f);
}
inline void LogInfo(std::string_view m, std::initializer_list<Field> f = {}) {
  Log(LogLevel::kInfo, m, f);
}
inline void LogWarning(std::string_view m, std::initializer_list<Field> f = {}) {
  Log(LogLevel::kWarning, m, f);
}
inline void LogError(std::string_view m, std::initializer_list<Field> f = {}) {
  Log(LogLevel::kError, m, f);
}

/// `text` as the inside of a JSON string: control bytes, quotes, backslashes and invalid UTF-8
/// escaped.
std::string EscapeJson(std::string_view text);

}  // namespace base
