#include "reconcile/slow_boxes.hpp"

#include <utility>

namespace reconcile {

SlowBoxes::Turn::Turn(SlowBoxes& all, std::string uid, bool placed)
    : all_(&all), uid_(std::move(uid)), placed_(placed) {}

SlowBoxes::Turn::Turn(Turn&& from) noexcept
    : all_(std::exchange(from.all_, nullptr)),
      uid_(std::move(from.uid_)),
      placed_(from.placed_),
      spent_(from.spent_) {}

SlowBoxes::Turn::~Turn() {
  if (all_ != nullptr) all_->Leave(*this);
}

SlowBoxes::Turn::Stopwatch::Stopwatch(Turn& turn)
    : turn_(turn), start_(turn.all_->clock_.Read().mono) {}

SlowBoxes::Turn::Stopwatch::~Stopwatch() {
  turn_.spent_ += turn_.all_->clock_.Read().mono - start_;
}

std::optional<SlowBoxes::Turn> SlowBoxes::Enter(const std::string& uid) {
  const std::lock_guard lock(mutex_);
  const bool slow = uids_.contains(uid);
  if (slow && taken_ >= places_) return std::nullopt;
  taken_ += slow ? 1 : 0;
  return Turn(*this, uid, slow);
}

void SlowBoxes::Forget(const std::string& uid) {
  const std::lock_guard lock(mutex_);
  uids_.erase(uid);
}

void SlowBoxes::Leave(const Turn& turn) {
  const std::lock_guard lock(mutex_);
  taken_ -= turn.placed_ ? 1 : 0;
  if (turn.spent_ >= slow_)
    uids_.insert(turn.uid_);
  else
    uids_.erase(turn.uid_);
}

}  // namespace reconcile
