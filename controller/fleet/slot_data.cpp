#include "fleet/slot_data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

namespace fleet {
namespace {

/// Stands for the workspace's UID in texts of the pool; JSON never has this byte.
constexpr char kOwnUid = '\x01';

bool Idle(const protocol::Heartbeat& heartbeat) {
  return heartbeat.active_tasks.has_value() && *heartbeat.active_tasks == 0;
}

bool InventoryChanged(const protocol::Heartbeat& held, const protocol::Heartbeat& heartbeat) {
  if (held.inventory_digest != heartbeat.inventory_digest) return true;
  return heartbeat.inventory && heartbeat.inventory != held.inventory;
}

}  // namespace

void SupersededBoots::Add(const std::string& boot_id) {
  const uint64_t hash = std::hash<std::string>{}(boot_id);
  if (hashes_.size() < kMost) return hashes_.push_back(hash);
  hashes_[next_++ % kMost] = hash;
}

bool SupersededBoots::Contains(const std::string& boot_id) const {
  return std::find(hashes_.begin(), hashes_.end(), std::hash<std::string>{}(boot_id)) !=
         hashes_.end();
}

bool SupersededBoots::Returns(const protocol::Heartbeat& heartbeat, bool other_is_silent) {
  if (!Contains(heartbeat.boot_id)) return false;
  const uint64_t hash = std::hash<std::string>{}(heartbeat.boot_id);
  const bool goes_on = returning_ == hash && heartbeat.sequence > sequence_;
  if (goes_on && other_is_silent) {
    std::erase(hashes_, hash);
    next_ = 0;
    return true;
  }
  if (returning_ != hash || goes_on) sequence_ = heartbeat.sequence;
  returning_ = hash;
  return false;
}

bool NamesWorkspace(const SlotSettings& settings, std::string_view id) {
  if (id == settings.uid) return true;
  const auto& [ns, name] = settings.key;
  return id.size() == ns.size() + 1 + name.size() && id.starts_with(ns) && id[ns.size()] == '.' &&
         id.ends_with(name);
}

base::Status CheckOrder(const protocol::Heartbeat& held, const SupersededBoots& superseded,
                        const protocol::Heartbeat& heartbeat) {
  if (heartbeat.boot_id == held.boot_id) {
    if (heartbeat.sequence > held.sequence) return {};
    return base::MakeError(base::Code::kConflict,
                           fmt::format("sequence {} of this boot id is not newer than {}",
                                       heartbeat.sequence, held.sequence),
                           "StaleSequence");
  }
  if (!superseded.Contains(heartbeat.boot_id)) return {};
  return base::MakeError(base::Code::kConflict,
                         "this boot id was replaced by a newer one of the same workspace",
                         "SupersededBoot");
}

uint64_t BoxHash(std::string_view identity) {
  // Of its Pod: an agent cannot know its container.
  return identity.starts_with("pod:")
             ? std::hash<std::string_view>{}(identity.substr(0, identity.find('/'))) | 1
             : 0;
}

bool IsOfOtherBox(const SlotData& slot, const protocol::Heartbeat& heartbeat) {
  const uint64_t named = BoxHash(heartbeat.box_identity);
  return slot.present_box != 0 && named != 0 && named != slot.present_box;
}

bool IsSuccessor(const SlotData& slot, const protocol::Heartbeat& heartbeat) {
  const uint64_t before = slot.reported ? BoxHash(slot.reported->box_identity) : 0;
  return slot.present_box != 0 && BoxHash(heartbeat.box_identity) == slot.present_box &&
         before != 0 && before != slot.present_box;
}

Change Compare(const protocol::Heartbeat* held, const protocol::Heartbeat& heartbeat) {
  Change change;
  if (held == nullptr) {
    change.first_report = true;
    return change;
  }
  const protocol::Heartbeat& last = *held;
  change.boot_changed = last.boot_id != heartbeat.boot_id;
  change.gate_changed = last.management_present != heartbeat.management_present ||
                        last.model_present != heartbeat.model_present ||
                        last.loaded_tools != heartbeat.loaded_tools;
  change.inventory_changed = InventoryChanged(last, heartbeat);
  change.idle_changed = Idle(last) != Idle(heartbeat);
  change.boot_install_changed = last.boot_install != heartbeat.boot_install;
  return change;
}

std::string HeldInventoryDigest(const SlotData& slot) {
  if (!slot.reported || !slot.reported->inventory) return {};
  thread_local protocol::Heartbeat last;
  UnpackReport(slot.reported->last, slot.settings, last);
  return last.inventory_digest;
}

PackedAnswer PackAnswer(const AnswerParts& parts, const std::string& uid, TextPool& pool) {
  PackedAnswer packed;
  packed.state = pool.Share(parts.state);
  packed.reason = pool.Share(parts.reason);
  packed.message = pool.Share(parts.message);
  packed.plugins.reserve(parts.plugins.size());
  for (const protocol::PluginToFetch& plugin : parts.plugins) {
    // The path names the workspace; without its UID the text is the same for all that have the
    // plugin.
    std::string text = protocol::EncodePlugin(plugin);
    for (size_t at = text.find(uid); !uid.empty() && at != std::string::npos;
         at = text.find(uid, at + 1))
      text.replace(at, uid.size(), 1, kOwnUid);
    packed.plugins.push_back(pool.Share(text));
  }
  if (!parts.remove.empty()) packed.remove = pool.Share(protocol::EncodeNames(parts.remove));
  packed.gate_failing = parts.gate_failing;
  packed.plugins_known = parts.plugins_known;
  packed.restart_waits = parts.restart_waits;
  return packed;
}

std::string TagText(uint64_t tag) { return fmt::format("{:016x}", tag); }

std::string EncodeAnswerOf(SlotData& slot) {
  const PackedAnswer& answer = slot.answer;
  const auto view = [](const TextPool::Text& text) {
    return text ? std::string_view(*text) : std::string_view();
  };
  std::string plugins;
  for (const TextPool::Text& plugin : answer.plugins) {
    if (!plugins.empty()) plugins += ',';
    std::string_view left = *plugin;
    for (size_t at = left.find(kOwnUid); at != std::string_view::npos; at = left.find(kOwnUid)) {
      (plugins += left.substr(0, at)) += slot.settings.uid;
      left.remove_prefix(at + 1);
    }
    plugins += left;
  }
  const std::string held = HeldInventoryDigest(slot);
  protocol::AnswerTexts texts{
      view(answer.state),           view(answer.reason),  view(answer.message),
      slot.settings.period_seconds, answer.plugins_known, plugins,
      view(answer.remove),          std::nullopt,         held};
  if (slot.restart) texts.restart_expected_boot_id = *slot.restart;
  std::string body = protocol::EncodeAnswerTexts(texts);
  slot.answer_tag = std::hash<std::string>{}(body) | 1;  // 0 is taken.
  return (body += fmt::format(R"(,"answerTag":"{}")", TagText(slot.answer_tag))) += '}';
}

}  // namespace fleet
