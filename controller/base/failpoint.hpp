#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace base {

/// Fault injection at a named place around a call that leaves the process.
///
/// `WORKSPACE_OPERATOR_FAILPOINTS` holds a comma-separated list `name=kill[@n]`: at the n-th visit
/// (default the first) the process ends by SIGKILL. Read once at start; without it a visit costs
/// one atomic load. `name=trace` (or `*=trace`) prints `failpoint NAME` on stderr at each visit,
/// which is how the crash tests enumerate the places instead of picking them by hand.
void Failpoint(std::string_view name);

/// RAII pair around one call of a port: visits `NAME.before` and, when the call has returned,
/// `NAME.after`.
class FailpointScope {
 public:
  explicit FailpointScope(std::string name) : name_(std::move(name)) {
    Failpoint(name_ + ".before");
  }
  ~FailpointScope() { Failpoint(name_ + ".after"); }
  FailpointScope(const FailpointScope&) = delete;
  FailpointScope& operator=(const FailpointScope&) = delete;

 private:
  std::string name_;
};

}  // namespace base
