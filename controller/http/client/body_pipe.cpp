#include "http/client/body_pipe.hpp"

namespace http {

void BodyPipe::OnHead() {
  const std::lock_guard lock(mutex_);
  state_.head = true;
  changed_.notify_all();
}

void BodyPipe::OnDone() {
  const std::lock_guard lock(mutex_);
  state_.done = true;
  changed_.notify_all();
}

void BodyPipe::Wake() {
  const std::lock_guard lock(mutex_);
  state_.stopped = true;
  changed_.notify_all();
}

BodyPipe::State BodyPipe::Wait(base::MonoTime deadline, bool for_head, std::string spent) {
  if (spent.size() < spent.capacity() / 4) spent = std::string();
  spent.clear();
  std::optional<Blocked> unblocked;
  State result;
  {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, deadline, [&] {
      return state_.done || state_.stopped || (for_head ? state_.head : !state_.bytes.empty());
    });
    if (for_head) {  // The bytes wait until it is known whose they are.
      result.head = state_.head;
      result.done = state_.done;
      result.stopped = state_.stopped;
      return result;
    }
    result = std::move(state_);
    state_ = {std::move(spent), result.head, result.done, result.stopped};
    unblocked.swap(blocked_);
  }
  if (unblocked) unblocked->event.set(unblocked->count);
  return result;
}

void BodyPipe::AwaitDone(base::MonoTime deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline, [&] { return state_.done; });
}

void BodyPipe::Discard() {
  std::optional<Blocked> unblocked;
  {
    const std::lock_guard lock(mutex_);
    discarding_ = true;
    state_.bytes.clear();
    unblocked.swap(blocked_);
  }
  if (unblocked) unblocked->event.set(unblocked->count);
}

pplx::task<BodyPipe::int_type> BodyPipe::_putc(uint8_t byte) {
  return _putn(&byte, 1).then([byte](size_t) { return static_cast<int_type>(byte); });
}

pplx::task<size_t> BodyPipe::_putn(const uint8_t* bytes, size_t count) {
  const std::lock_guard lock(mutex_);
  if (discarding_) return pplx::task_from_result(count);
  state_.bytes.append(reinterpret_cast<const char*>(bytes), count);
  changed_.notify_all();
  if (state_.bytes.size() <= kHigh) return pplx::task_from_result(count);
  blocked_ = Blocked{{}, count};
  return pplx::create_task(blocked_->event);
}

}  // namespace http
