#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "bundle/folder.hpp"
#include "bundle/installed/receipt.hpp"

namespace bundle {

/// Copies what `state` names (files or folders) from the tree in use to the staged one, flushed; a
/// file that the new receipt lists is never overwritten: those bytes are the plugin's. A copy, not
/// a move: the old tree must stay whole until the swap, and for going back. `state` is of the
/// installed manifest; the new manifest's paths count too. A link in there is kInvalid
/// LinkNotAllowed.
base::Status CarryState(const Folder& old_tree, const std::vector<std::string>& state,
                        const Folder& staged_tree, const Receipt& staged, const Limits& limits);

}  // namespace bundle
