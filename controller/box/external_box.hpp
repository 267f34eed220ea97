#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "box/box.hpp"
#include "box/directory_box.hpp"
#include "bundle/installed/receipt.hpp"

namespace box {

/// The inventory of the last heartbeat; nothing if there is none yet.
using InventoryView = std::function<std::optional<std::vector<bundle::InventoryItem>>()>;

/// A machine that the operator cannot reach: it pulls. State is always Unknown with the cause; the
/// probe answers from the heartbeat's inventory; restarts are asked for in the heartbeat's answer;
/// everything else is kInvalid, reason ExternalBox, with the pull hint.
std::unique_ptr<Box> MakeExternalBox(InventoryView inventory, RequestRestart restart);

}  // namespace box
