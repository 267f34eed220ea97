#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fleet/heartbeat_table.hpp"

/// Private to fleet/: what the table keeps of one workspace, and how a report changes it.
namespace fleet {

/// Boot ids that another one has replaced: a replay of one of them is refused. Bounded; hashes
/// only.
class SupersededBoots {
 public:
  void Add(const std::string& boot_id);
  bool Contains(const std::string& boot_id) const;

 private:
  std::array<uint64_t, 16> hashes_{};
  size_t count_ = 0;
};

/// Exists once a workspace has reported.
struct Reported {
  protocol::Heartbeat last;
  base::Now seen{};
  std::string
      held_inventory_digest;  ///< Digest that came with `last.inventory`; empty: none is held.
  bool degraded = false;
  SupersededBoots superseded;
  std::string box_identity;
  bool pull = false;
  std::string address;
};

/// A token that somebody else vouched for, until when.
struct ReviewedToken {
  base::Sha256Digest hash;
  base::MonoTime until;
};

struct SlotData {
  uint32_t generation = 0;
  bool used = false;
  bool expired = false;
  bool previous_valid = false;
  SlotSettings settings;
  base::MonoTime previous_until{};
  std::vector<ReviewedToken> reviewed;  ///< At most 4: one, and its successors.
  std::unique_ptr<Reported> reported;
  AnswerParts answer;
  std::optional<std::string> restart;
  std::shared_ptr<const std::string> encoded;  ///< Null: to be encoded again.
  base::MonoTime
      admitted_until{};  ///< Of the rate limit: the time up to which requests are paid for.
  base::MonoTime deadline{};
  uint64_t armed_tick = 0;  ///< 0: not in the wheel.
};

/// Refuses what is not newer than what is held: kConflict, StaleSequence or SupersededBoot.
base::Status CheckOrder(const Reported& held, const protocol::Heartbeat& heartbeat);
/// What differs from the report before (all but `expired` matters, which the caller knows).
Change Compare(const Reported* held, const protocol::Heartbeat& heartbeat);
/// Swaps the report in; keeps the inventory when only its digest came and that is the one held.
void Take(Reported& held, protocol::Heartbeat& heartbeat, base::Now now);
std::string EncodeAnswerOf(const SlotData& slot);

}  // namespace fleet
