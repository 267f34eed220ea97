#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fleet/heartbeat_table.hpp"
#include "fleet/packed_report.hpp"
#include "fleet/text_pool.hpp"

/// Private to fleet/: what the table keeps of one workspace, and how a report changes it.
namespace fleet {

/// Boot ids that another one has replaced: a replay of one of them is refused. Bounded; hashes
/// only.
class SupersededBoots {
 public:
  void Add(const std::string& boot_id);
  bool Contains(const std::string& boot_id) const;
  /// A late report of an earlier start can be the first that a new leader hears of it: then the
  /// start that is there is the replaced one. It is known by that it goes on reporting, with ever
  /// higher sequences, while the other one is silent. True: from now on it counts.
  bool Returns(const protocol::Heartbeat& heartbeat, bool other_is_silent);

 private:
  static constexpr size_t kMost = 16;
  std::vector<uint64_t> hashes_;  ///< None in most slots.
  uint64_t returning_ = 0;        ///< The one that was refused last, and its sequence.
  int64_t sequence_ = 0;
  size_t next_ = 0;
};

/// Exists once a workspace has reported. Packed: there may be a hundred thousand.
struct Reported {
  std::string last;           ///< PackReport()
  PackedInventory inventory;  ///< As last sent in full, while its digest still is the last one.
  base::Now seen{};
  bool degraded = false;
  bool pull = false;
  SupersededBoots superseded;
  std::string box_identity;
  std::string address;
};

/// A token that somebody else vouched for, until when.
struct ReviewedToken {
  base::Sha256Digest hash;
  base::MonoTime until;
};

/// AnswerParts as the table keeps them. Texts of the pool: the same content is the same pointer.
struct PackedAnswer {
  TextPool::Text state, reason, message;
  std::vector<TextPool::Text> plugins;  ///< EncodePlugin(), with kOwnUid for the workspace's UID.
  TextPool::Text remove;                ///< EncodeNames(); null: none.
  bool gate_failing = false;
  bool plugins_known = false;
  bool restart_waits = false;
  bool operator==(const PackedAnswer&) const = default;
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
  PackedAnswer answer;
  std::unique_ptr<const std::string> restart;  ///< The boot id that is to end.
  uint64_t answer_tag = 0;                     ///< Of the answer as it is now; 0: not known yet.
  uint64_t present_box = 0;  ///< Hash of the identity of the box that is there; 0: not told.
  uint64_t other_box = 0;    ///< Of the last that reported and was not that one.
  base::MonoTime
      admitted_until{};  ///< Of the rate limit: the time up to which requests are paid for.
  base::MonoTime deadline{};
  uint64_t armed_tick = 0;  ///< 0: not in the wheel.
};

/// Whether a report names a box other than the one that is there. One that names no Pod says
/// nothing about that.
bool IsOfOtherBox(const SlotData& slot, const protocol::Heartbeat& heartbeat);
/// Whether it is the first of the box that is there, after reports of another.
bool IsSuccessor(const SlotData& slot, const protocol::Heartbeat& heartbeat);
uint64_t BoxHash(std::string_view identity);
/// Whether `id` is its UID or its `namespace.name`.
bool NamesWorkspace(const SlotSettings& settings, std::string_view id);
/// Refuses what is not newer than what is held: kConflict, StaleSequence or SupersededBoot.
base::Status CheckOrder(const protocol::Heartbeat& held, const SupersededBoots& superseded,
                        const protocol::Heartbeat& heartbeat);
/// What differs from the report before (all but `expired` matters, which the caller knows).
/// `held` is null before the first report.
Change Compare(const protocol::Heartbeat* held, const protocol::Heartbeat& heartbeat);
/// The digest of the inventory that the slot holds; empty: none is held.
std::string HeldInventoryDigest(const SlotData& slot);

PackedAnswer PackAnswer(const AnswerParts& parts, const std::string& uid, TextPool& pool);
/// The body; sets the slot's tag.
std::string EncodeAnswerOf(SlotData& slot);
std::string TagText(uint64_t tag);

}  // namespace fleet
