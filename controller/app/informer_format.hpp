#pragma once

#include <string_view>

#include "codec/packed_workspace.hpp"
#include "reconcile/dependencies.hpp"
#include "runtime/informer/informer.hpp"

namespace app {

/// How an informer decodes, keeps (packed) and indexes one kind. `interner` must outlive it.
template <typename T>
runtime::InformerFormat<T> FormatOf(base::Result<T> (*decode)(std::string_view),
                                    base::Result<T> (*unpack)(std::string_view,
                                                              const codec::StringInterner&),
                                    codec::StringInterner& interner) {
  runtime::InformerFormat<T> format;
  format.decode = decode;
  format.cache.pack = [&interner](const T& object) { return codec::Pack(object, interner); };
  format.cache.unpack = [&interner, unpack](std::string_view bytes) {
    return unpack(bytes, interner);
  };
  format.cache.index = [](const T& object) { return reconcile::IndexOf(object); };
  return format;
}

}  // namespace app
