#include "base/clock.hpp"

#include <fmt/format.h>
#include <time.h>

#include <charconv>

namespace base {
namespace {

bool Digits(std::string_view text, size_t pos, size_t count, int* out) {
  if (pos + count > text.size()) return false;
  int value = 0;
  for (size_t i = pos; i < pos + count; ++i) {
    if (text[i] < '0' || text[i] > '9') return false;
    value = value * 10 + (text[i] - '0');
  }
  *out = value;
  return true;
}

struct Civil {
  int year, month, day;
  int64_t hour, minute, second, millis;
};

Civil Split(WallTime time) {
  using namespace std::chrono;  // NOLINT(google-build-using-namespace): names of the calendar
  const auto day = floor<days>(time);
  const year_month_day ymd{day};
  const auto rest = time - day;
  const int64_t ms = rest.count();
  return {int(ymd.year()),
          int(unsigned(ymd.month())),
          int(unsigned(ymd.day())),
          ms / 3600000,
          ms / 60000 % 60,
          ms / 1000 % 60,
          ms % 1000};
}

}  // namespace

Now SystemClock::Read() const {
  return {std::chrono::time_point_cast<Millis>(std::chrono::system_clock::now()),
          std::chrono::steady_clock::now()};
}

const SystemClock& SystemClock::Get() {
  static const SystemClock clock;
  return clock;
}

Now BootClock::Read() const {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return {std::chrono::time_point_cast<Millis>(std::chrono::system_clock::now()),
          MonoTime{std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec}}};
}

const BootClock& BootClock::Get() {
  static const BootClock clock;
  return clock;
}

std::string FormatTime(WallTime time) {
  const Civil c = Split(time);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", c.year, c.month, c.day, c.hour,
                     c.minute, c.second);
}

std::string FormatMicroTime(WallTime time) {
  const Civil c = Split(time);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", c.year, c.month, c.day, c.hour,
                     c.minute, c.second, c.millis * 1000);
}

std::optional<WallTime> ParseTime(std::string_view text) {
  int y, mo, d, h, mi, s;
  if (text.size() < 20 || !Digits(text, 0, 4, &y) || text[4] != '-' || !Digits(text, 5, 2, &mo) ||
      text[7] != '-' || !Digits(text, 8, 2, &d) || (text[10] != 'T' && text[10] != 't') ||
      !Digits(text, 11, 2, &h) || text[13] != ':' || !Digits(text, 14, 2, &mi) || text[16] != ':' ||
      !Digits(text, 17, 2, &s))
    return std::nullopt;
  if (h > 23 || mi > 59 || s > 60) return std::nullopt;
  const std::chrono::year_month_day ymd{std::chrono::year{y}, std::chrono::month(unsigned(mo)),
                                        std::chrono::day(unsigned(d))};
  if (!ymd.ok()) return std::nullopt;
  size_t pos = 19;
  int64_t millis = 0;
  if (text[pos] == '.') {
    int64_t scale = 100;
    size_t digits = 0;
    for (++pos; pos < text.size() && text[pos] >= '0' && text[pos] <= '9'; ++pos, ++digits) {
      millis += (text[pos] - '0') * scale;
      scale /= 10;
    }
    if (digits == 0) return std::nullopt;
  }
  int64_t offset_minutes = 0;
  const std::string_view zone = text.substr(pos);
  if (zone.size() == 6 && (zone[0] == '+' || zone[0] == '-') && zone[3] == ':') {
    int oh, om;
    if (!Digits(zone, 1, 2, &oh) || !Digits(zone, 4, 2, &om)) return std::nullopt;
    offset_minutes = (oh * 60 + om) * (zone[0] == '-' ? -1 : 1);
  } else if (zone != "Z" && zone != "z") {
    return std::nullopt;
  }
  const auto seconds = h * 3600LL + mi * 60LL + s - offset_minutes * 60;
  return WallTime{std::chrono::sys_days{ymd}} + Millis{seconds * 1000 + millis};
}

}  // namespace base
