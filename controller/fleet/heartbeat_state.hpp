#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "fleet/expiry_wheel.hpp"
#include "fleet/hash_index.hpp"
#include "fleet/heartbeat_table.hpp"
#include "fleet/slot_data.hpp"
#include "fleet/token_index.hpp"

/// Inside this folder only: what a HeartbeatTable holds. All of it but `options` by `mutex`.
namespace fleet {

struct HeartbeatTable::State {
  TableOptions options;
  std::function<void(const meta::ObjectKey&)> expired;
  mutable std::mutex mutex;
  std::condition_variable_any wake;  ///< Run waits for the first entry of the wheel.
  std::deque<SlotData> slots;        ///< Addresses stay.
  std::vector<uint32_t> free;
  HashIndex uids;
  HashIndex keys;
  TokenIndex tokens;
  size_t unread = 0;  ///< Slots whose token is unread.
  TextPool texts;
  ExpiryWheel wheel;
  std::optional<base::Now> take_over;
  bool running = false;                    ///< Run is.
  std::optional<base::MonoTime> listened;  ///< When this process was last seen to run; while Run is
                                           ///< and the wheel holds something.
  uint64_t recorded = 0;
  uint64_t refused = 0;

  explicit State(TableOptions o) : options(o), wheel(o.tick) {}

  SlotData* Find(Slot slot) {
    if (slot.index >= slots.size()) return nullptr;
    SlotData& data = slots[slot.index];
    return data.used && data.generation == slot.generation ? &data : nullptr;
  }
  static uint64_t HashOf(const std::string& uid) { return std::hash<std::string>{}(uid); }
  static uint64_t HashOf(const meta::ObjectKey& key) { return std::hash<meta::ObjectKey>{}(key); }
  std::optional<uint32_t> IndexOf(const std::string& uid) const {
    return uids.Find(HashOf(uid), [&](uint32_t at) { return slots[at].settings.uid == uid; });
  }
  std::optional<uint32_t> IndexOf(const meta::ObjectKey& key) const {
    return keys.Find(HashOf(key), [&](uint32_t at) { return slots[at].settings.key == key; });
  }
  SlotData* FindUid(const std::string& uid) {
    const auto found = IndexOf(uid);
    return found ? &slots[*found] : nullptr;
  }
  uint32_t Allocate();
  void Free(uint32_t index);
  void SetTokens(SlotData& data, uint32_t index, const SlotSettings& settings, base::MonoTime now);
  void RetirePrevious(SlotData& data, uint32_t index);
  base::Error Unknown() const;
  void ArmFor(SlotData& data, uint32_t index, base::MonoTime now);
  void Keep(SlotData& data, const protocol::Heartbeat& heartbeat, const std::string& held_digest);
  base::Result<Change> Record(Slot slot, const protocol::Heartbeat& heartbeat, base::Now now);
};

}  // namespace fleet
