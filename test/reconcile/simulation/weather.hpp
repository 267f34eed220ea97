#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "base/result.hpp"
#include "reconcile/simulation/trace.hpp"

namespace simulation {

/// What becomes of the calls that leave the operator (API and boxes). A process that dies in a call
/// has no further effect: from then on all its calls are refused, and its pass is thrown away.
///
///   Before --- lost: no effect, an error --- dead: no effect, and none any more
///   (effect)
///   After ---- its answer is lost: an error all the same --- late: time passes --- dead
class Weather {
 public:
  Weather(Dice& dice, Trace& trace) : dice_(dice), trace_(trace) {}

  /// An Error: the call has had no effect.
  std::optional<base::Error> Before(const std::string& call) {
    if (dead_) return Dead(call);
    if (!rough_) return std::nullopt;
    if (meanwhile) meanwhile(call);
    if (dice_.Chance(2 * strength_)) return Die("before", call);
    if (!dice_.Chance(14 * strength_)) return std::nullopt;
    trace_.Note("lost on its way: " + call);
    return base::MakeError(base::Code::kUnavailable, call + ": connection refused");
  }
  /// An Error: the call has had its effect all the same.
  std::optional<base::Error> After(const std::string& call) {
    if (dead_) return Dead(call);
    if (!lease_ends_.empty() && call.find(lease_ends_) != std::string::npos) {
      trace_.Note("the lease is lost after " + call);
      lease_ends_.clear();
      leads_ = false;
    }
    if (!lose_.empty() && call.find(lose_) != std::string::npos) {
      lose_.clear();
      return Lose(call);
    }
    if (!rough_) return std::nullopt;
    if (dice_.Chance(2 * strength_)) return Die("after", call);
    if (dice_.Chance(14 * strength_) && pass_time)
      pass_time(base::Millis{500 + 500 * static_cast<int64_t>(dice_.Upto(16))});
    if (meanwhile) meanwhile(call);
    return dice_.Chance(14 * strength_) ? std::optional(Lose(call)) : std::nullopt;
  }
  /// Between two parts of one call: true if the process died there.
  bool DiesBetween(const std::string& call) {
    if (!dead_ && rough_ && dice_.Chance(4 * strength_)) Die("within", call);
    return dead_;
  }

  /// How often a call goes wrong, from 0 (never) on.
  void SetStrength(size_t strength) { strength_ = strength; }
  /// False: all calls work, and nobody acts meanwhile.
  void SetRough(bool rough) { rough_ = rough; }
  /// The next call of that name has its effect and no answer.
  void LoseAnswerOf(std::string call) { lose_ = std::move(call); }
  /// The next call of that name takes so long that the Lease is somebody else's when it is
  /// answered.
  void LoseLeaseAfter(std::string call) { lease_ends_ = std::move(call); }
  void TakeLease() { leads_ = true; }
  bool Leads() const { return leads_; }
  bool Rough() const { return rough_; }
  bool Dead() const { return dead_; }
  void Kill() { dead_ = true; }
  /// A new process.
  void Revive() { dead_ = false; }

  std::function<void(const std::string&)> meanwhile;  ///< Others act while a call is under way.
  std::function<void(base::Millis)> pass_time;        ///< A call that takes long.

 private:
  base::Error Die(const char* when, const std::string& call) {
    trace_.Note(fmt::format("the operator dies {} {}", when, call));
    dead_ = true;
    return Dead(call);
  }
  base::Error Lose(const std::string& call) {
    trace_.Note("answer lost: " + call);
    return base::MakeError(base::Code::kTimeout, call + ": no answer in time");
  }
  static base::Error Dead(const std::string& call) {
    return base::MakeError(base::Code::kCancelled, call + ": this process is dead");
  }

  Dice& dice_;
  Trace& trace_;
  std::string lose_, lease_ends_;
  size_t strength_ = 1;
  bool rough_ = false;
  bool dead_ = false;
  bool leads_ = true;
};

}  // namespace simulation
