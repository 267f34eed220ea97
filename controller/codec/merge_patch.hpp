#pragma once

#include "codec/json.hpp"

namespace codec {

/// The RFC 7386 merge patch that turns `before` into `after`: only members that differ, removed
/// ones as null, arrays whole. An empty object when they are equal. `after` must hold no null
/// members (a merge patch cannot write them; ours never do).
Json DiffMergePatch(const Json& before, const Json& after);

/// `target` with the merge patch applied.
Json ApplyMergePatch(Json target, const Json& patch);

}  // namespace codec
