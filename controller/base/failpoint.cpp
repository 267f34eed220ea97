#include "base/failpoint.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <map>
#include <mutex>

namespace base {
namespace {

struct Action {
  bool kill = false;
  int at = 1;
  int visits = 0;
};

struct Table {
  std::map<std::string, Action, std::less<>> actions;
  std::mutex mutex;
  bool trace_all = false;

  Table() {
    const char* text = std::getenv("WORKSPACE_OPERATOR_FAILPOINTS");
    std::string_view rest = text == nullptr ? "" : text;
    while (!rest.empty()) {
      const size_t comma = rest.find(',');
      Parse(rest.substr(0, comma));
      rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
    }
  }

  void Parse(std::string_view item) {
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) return;
    const std::string_view name = item.substr(0, equals);
    std::string_view what = item.substr(equals + 1);
    Action action;
    if (const size_t at = what.find('@'); at != std::string_view::npos) {
      std::from_chars(what.data() + at + 1, what.data() + what.size(), action.at);
      what = what.substr(0, at);
    }
    action.kill = what == "kill";
    if (name == "*")
      trace_all = true;
    else
      actions[std::string(name)] = action;
  }
  bool Empty() const { return actions.empty() && !trace_all; }
};

Table& GetTable() {
  static Table table;
  return table;
}

}  // namespace

void Failpoint(std::string_view name) {
  Table& table = GetTable();
  if (table.Empty()) return;
  const std::lock_guard lock(table.mutex);
  const auto found = table.actions.find(name);
  if (found != table.actions.end() && found->second.kill &&
      ++found->second.visits == found->second.at)
    ::kill(::getpid(), SIGKILL);
  if (table.trace_all || (found != table.actions.end() && !found->second.kill)) {
    const std::string line = fmt::format("failpoint {}\n", name);
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  }
}

}  // namespace base
