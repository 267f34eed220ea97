#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fleet/heartbeat_table.hpp"
#include "fleet/text_pool.hpp"

/// Private to fleet/: a report as the table keeps it, in one string of about 150 bytes instead of
/// ten. Only for memory; only this process reads it.
namespace fleet {

/// All but the inventory and the tag of the answer. `of` is the workspace that the report names.
void PackReport(const protocol::Heartbeat& report, const SlotSettings& of, std::string& out);
/// Into storage that is used again. The inventory comes back absent.
void UnpackReport(std::string_view packed, const SlotSettings& of, protocol::Heartbeat& out);

/// Each plugin is one text: most boxes hold the same ones.
using PackedInventory = std::optional<std::vector<TextPool::Text>>;
PackedInventory PackInventory(const std::optional<std::vector<protocol::InventoryItem>>& inventory,
                              TextPool& pool);
std::optional<std::vector<protocol::InventoryItem>> UnpackInventory(const PackedInventory& packed);

}  // namespace fleet
