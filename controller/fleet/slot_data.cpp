#include "fleet/slot_data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

namespace fleet {
namespace {

bool Idle(const protocol::Heartbeat& heartbeat) {
  return heartbeat.active_tasks.has_value() && *heartbeat.active_tasks == 0;
}

bool InventoryChanged(const protocol::Heartbeat& held, const protocol::Heartbeat& heartbeat) {
  if (held.inventory_digest != heartbeat.inventory_digest) return true;
  return heartbeat.inventory && heartbeat.inventory != held.inventory;
}

}  // namespace

void SupersededBoots::Add(const std::string& boot_id) {
  hashes_[count_++ % hashes_.size()] = std::hash<std::string>{}(boot_id);
}

bool SupersededBoots::Contains(const std::string& boot_id) const {
  const auto end = hashes_.begin() + static_cast<ptrdiff_t>(std::min(count_, hashes_.size()));
  return std::find(hashes_.begin(), end, std::hash<std::string>{}(boot_id)) != end;
}

base::Status CheckOrder(const Reported& held, const protocol::Heartbeat& heartbeat) {
  if (heartbeat.boot_id == held.last.boot_id) {
    if (heartbeat.sequence > held.last.sequence) return {};
    return base::MakeError(base::Code::kConflict,
                           fmt::format("sequence {} of this boot id is not newer than {}",
                                       heartbeat.sequence, held.last.sequence),
                           "StaleSequence");
  }
  if (!held.superseded.Contains(heartbeat.boot_id)) return {};
  return base::MakeError(base::Code::kConflict,
                         "this boot id was replaced by a newer one of the same workspace",
                         "SupersededBoot");
}

Change Compare(const Reported* held, const protocol::Heartbeat& heartbeat) {
  Change change;
  if (held == nullptr) {
    change.first_report = true;
    return change;
  }
  const protocol::Heartbeat& last = held->last;
  change.boot_changed = last.boot_id != heartbeat.boot_id;
  change.gate_changed = last.management_present != heartbeat.management_present ||
                        last.model_present != heartbeat.model_present ||
                        last.loaded_tools != heartbeat.loaded_tools;
  change.inventory_changed = InventoryChanged(last, heartbeat);
  change.idle_changed = Idle(last) != Idle(heartbeat);
  change.boot_install_changed = last.boot_install != heartbeat.boot_install;
  return change;
}

void Take(Reported& held, protocol::Heartbeat& heartbeat, base::Now now) {
  if (!held.last.boot_id.empty() && held.last.boot_id != heartbeat.boot_id) {
    held.superseded.Add(held.last.boot_id);
  }
  if (heartbeat.inventory) {
    held.held_inventory_digest = heartbeat.inventory_digest;
  } else if (held.last.inventory && heartbeat.inventory_digest == held.held_inventory_digest) {
    heartbeat.inventory = std::move(held.last.inventory);
  } else {
    held.held_inventory_digest.clear();
  }
  std::swap(held.last, heartbeat);
  held.seen = now;
}

std::string EncodeAnswerOf(const SlotData& slot) {
  protocol::HeartbeatAnswer answer;
  answer.state = slot.answer.state;
  answer.reason = slot.answer.reason;
  answer.message = slot.answer.message;
  answer.next_period_seconds = slot.settings.period_seconds;
  answer.plugins_known = slot.answer.plugins_known;
  answer.plugins = slot.answer.plugins;
  answer.remove = slot.answer.remove;
  answer.restart_expected_boot_id = slot.restart;
  if (slot.reported) answer.inventory_digest = slot.reported->held_inventory_digest;
  return protocol::EncodeHeartbeatAnswer(answer);
}

}  // namespace fleet
