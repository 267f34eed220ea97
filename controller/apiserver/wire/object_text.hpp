#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apiserver/store/change.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// metadata of an object, or an empty object.
const codec::Json& MetaOf(const codec::Json& object);
/// metadata, made if it is not an object.
codec::Json& MutableMeta(codec::Json& object);
std::string NameOf(const codec::Json& object);
std::string UidOf(const codec::Json& object);
std::string VersionOf(const codec::Json& object);
bool IsDeleting(const codec::Json& object);
std::vector<std::string> FinalizersOf(const codec::Json& object);
/// The uids of metadata.ownerReferences.
std::vector<std::string> OwnerUids(const codec::Json& object);
/// metadata.finalizers without `finalizer`; the member goes when it is empty.
void RemoveFinalizer(codec::Json& object, std::string_view finalizer);
void AddFinalizer(codec::Json& object, const std::string& finalizer);
/// The tail of the object's stored text (see ComposeText).
std::string TailFrom(codec::Json object);
/// A stored text parsed; an empty object if it is damaged.
codec::Json ParseStored(const std::string& text);

}  // namespace apiserver
