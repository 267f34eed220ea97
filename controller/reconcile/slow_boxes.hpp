#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>

#include "base/clock.hpp"

namespace reconcile {

/// Keeps boxes that take long to answer (a machine that is off, a kubelet that hangs) from taking
/// every worker: those whose last pass spent `slow` or more on its box share `places` of them.
/// The others never wait. Thread safe.
class SlowBoxes {
 public:
  SlowBoxes(int places, base::Millis slow, const base::Clock& clock)
      : places_(places), slow_(slow), clock_(clock) {}

  /// The right to work on one box, until it dies.
  class Turn {
   public:
    Turn(Turn&& from) noexcept;
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    Turn& operator=(Turn&&) = delete;
    ~Turn();
    /// Runs calls to the box; how long they take counts.
    template <typename Calls>
    auto Timed(const Calls& calls) {
      const Stopwatch watch(*this);
      return calls();
    }

   private:
    friend class SlowBoxes;
    Turn(SlowBoxes& all, std::string uid, bool placed);
    class Stopwatch {
     public:
      explicit Stopwatch(Turn& turn);
      ~Stopwatch();

     private:
      Turn& turn_;
      const base::MonoTime start_;
    };
    SlowBoxes* all_;  ///< Null: moved from.
    std::string uid_;
    bool placed_;
    std::chrono::nanoseconds spent_{0};
  };

  /// Nothing: the box is slow and the places of slow ones are taken; come back later.
  std::optional<Turn> Enter(const std::string& uid);
  void Forget(const std::string& uid);

 private:
  void Leave(const Turn& turn);

  const int places_;
  const base::Millis slow_;
  const base::Clock& clock_;
  std::mutex mutex_;
  std::unordered_set<std::string> uids_;  ///< Of slow boxes.
  int taken_ = 0;
};

}  // namespace reconcile
