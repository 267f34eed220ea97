/// The half of HeartbeatTable that is about time: who has fallen silent, and when nobody could be
/// heard.
#include "fleet/heartbeat_state.hpp"

namespace fleet {

/// (Re)arms the wheel after a change of the deadline's base; a later deadline needs nothing, the
/// wheel finds it when it gets there.
void HeartbeatTable::State::ArmFor(SlotData& data, uint32_t index, base::MonoTime now) {
  if (running && !listened) {
    listened = now;
    wake.notify_all();
  }
  data.armed_tick = wheel.Arm(index, data.generation, data.deadline, now);
}

size_t HeartbeatTable::Tick(base::MonoTime now) {
  std::vector<meta::ObjectKey> silent;
  {
    const std::lock_guard lock(state_->mutex);
    for (const auto& entry : state_->wheel.Take(now)) {
      SlotData* data = state_->Find(Slot{entry.index, entry.generation});
      if (data == nullptr || data->armed_tick != entry.tick) continue;
      if (data->deadline > now) {
        state_->ArmFor(*data, entry.index, now);
        continue;
      }
      data->armed_tick = 0;
      data->expired = true;
      silent.push_back(data->settings.key);
    }
  }
  if (state_->expired) {
    for (const auto& key : silent) state_->expired(key);
  }
  return silent.size();
}

void HeartbeatTable::ForgiveDeafness(base::MonoTime now) {
  const std::lock_guard lock(state_->mutex);
  if (!state_->listened || *state_->listened >= now) return;
  const auto gap = now - *state_->listened;
  state_->listened = now;
  if (gap <= state_->options.deaf_after) return;
  if (state_->take_over) state_->take_over->mono += gap;
  for (SlotData& data : state_->slots) {
    if (!data.used || data.expired) continue;
    data.deadline += gap;
    if (data.reported) data.reported->seen.mono += gap;
  }
}

void HeartbeatTable::Run(const base::Clock& clock, std::stop_token stop) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->running = true;
    state_->listened = clock.Read().mono;
  }
  while (!stop.stop_requested()) {
    const base::MonoTime now = clock.Read().mono;
    ForgiveDeafness(now);
    Tick(now);
    std::unique_lock lock(state_->mutex);
    const auto armed = [this] { return state_->wheel.Size() > 0; };
    if (armed()) {
      state_->wake.wait_for(lock, stop, state_->options.tick, [] { return false; });
    } else {  // A turn of an empty wheel would be a wake-up for nothing.
      state_->listened.reset();
      state_->wake.wait(lock, stop, armed);
    }
  }
  const std::lock_guard lock(state_->mutex);
  state_->running = false;
  state_->listened.reset();
}

}  // namespace fleet
