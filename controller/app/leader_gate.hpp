#pragma once

#include <atomic>

namespace app {

/// What changes wakes nobody before this process leads, and somebody from then on. Thread safe.
class LeaderGate {
 public:
  bool IsOpen() const { return open_; }
  /// `look_at_all` wakes for all that the caches hold. It comes second: what changes meanwhile is
  /// looked at twice then, where it would otherwise be missed.
  template <typename LookAtAll>
  void Open(const LookAtAll& look_at_all) {
    open_ = true;
    look_at_all();
  }

 private:
  std::atomic<bool> open_{false};
};

}  // namespace app
