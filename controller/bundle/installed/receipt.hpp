#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace bundle {

struct ReceiptFile {
  std::string path = {};
  uint64_t size = 0;
  bool executable = false;
  std::string sha256 = {};  ///< 64 hex digits.
  bool operator==(const ReceiptFile&) const = default;
};

/// What we did to a box for one plugin; lives in configs/.molecule/receipts/<name>.json. Its
/// presence is what makes a plugin ours.
struct Receipt {
  std::string name = {};
  std::string source = {};
  std::string revision = {};
  std::string digest = {};  ///< sha256:... of the canonical tar.
  std::vector<ReceiptFile> files = {};
  std::string activated_boot_id =
      {};  ///< Boot id current when the bytes became visible; empty: no boot was known.
  base::WallTime activated_time{};
  bool reload_none = false;
  bool boot_installed = false;       ///< Brought by the box's own agent, not by the operator.
  std::string previous_digest = {};  ///< Of the tree it replaced; empty: none or not ours.
  std::map<std::string, std::string> mcp_servers =
      {};  ///< What we merged into the runtime's settings: name to compact JSON.
  uint64_t tree_inode =
      0;  ///< Of the activated folder: tells whether a swap cut off by a crash had happened.
  uint64_t previous_inode = 0;  ///< Of the folder it replaced; 0: none.
  bool operator==(const Receipt&) const = default;
};

std::string EncodeReceipt(const Receipt& receipt);
/// Errors: kInvalid, reason ReceiptInvalid.
base::Result<Receipt> ParseReceipt(std::string_view json);

/// A removal after which no start of the runtime has been seen;
/// configs/.molecule/removals/<name>.json.
struct Tombstone {
  std::string name;
  std::string boot_id;  ///< Boot id current at the removal.
  uint64_t tree_inode =
      0;  ///< Of the folder that goes away: while it is still there the removal has not happened.
  std::optional<base::WallTime> removed_time = {};  ///< Absent: written by an earlier version.
};
std::string EncodeTombstone(const Tombstone& tombstone);
base::Result<Tombstone> ParseTombstone(std::string_view json);

/// One line of an inventory.
struct InventoryItem {
  std::string name;
  std::string revision;  ///< Not part of the digest.
  std::string digest;
  bool loaded = false;
  bool activated_this_boot = false;
};
/// sha256:... over name, digest, loaded and activated_this_boot, sorted by name: equal inventories
/// have equal digests on the agent and on the operator.
std::string InventoryDigest(std::vector<InventoryItem> items);

}  // namespace bundle
