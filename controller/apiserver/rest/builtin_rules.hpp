#pragma once

#include "apiserver/wire/registry.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// What Kubernetes' own code does to built-in kinds on a write, beyond their schema: a Secret's
/// stringData and type, a Namespace's finalizer, phase and label. `old_object` is null on a create.
void ApplyBuiltinRules(const Served& served, const codec::Json* old_object, codec::Json& object);
/// True if an object that is being deleted may go now.
bool MayGo(const Served& served, const codec::Json& object);

}  // namespace apiserver
