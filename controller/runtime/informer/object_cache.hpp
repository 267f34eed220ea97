#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "base/result.hpp"
#include "meta/object.hpp"
#include "runtime/informer/packed_store.hpp"

namespace runtime {

/// How objects of a type lie in memory. T has a member `meta` (meta::ObjectMeta). The cache itself
/// keeps meta.ns, name, uid and resource_version: `pack` gets them empty and `unpack` need not
/// restore them. All functions are called from several threads.
template <typename T>
struct CacheFormat {
  std::function<std::string(const T&)> pack;
  std::function<base::Result<T>(std::string_view)> unpack;
  /// Values under which ByIndex() finds the object, e.g. {"workspace:ns/name"}; prefix them to have
  /// several indexes. May be null.
  std::function<std::vector<std::string>(const T&)> index = nullptr;
};

/// Objects of one kind in packed form, by key and by index value; materialised on demand. Thread
/// safe. What is handed out is const and belongs to the caller.
template <typename T>
class ObjectCache {
 public:
  explicit ObjectCache(CacheFormat<T> format) : format_(std::move(format)) {}

  /// The object, or null.
  std::shared_ptr<const T> Get(const meta::ObjectKey& key) const {
    Raw raw;
    if (!store_.Find(key, [&](const PackedView& view) { raw = Raw(view); })) return nullptr;
    return Materialise(std::move(raw));
  }
  bool Contains(const meta::ObjectKey& key) const { return store_.Contains(key); }
  /// Empty if there is no such object.
  std::string ResourceVersion(const meta::ObjectKey& key) const {
    std::string version;
    store_.Find(key, [&](const PackedView& view) { version = view.resource_version; });
    return version;
  }
  /// All objects that have this index value.
  std::vector<std::shared_ptr<const T>> ByIndex(std::string_view value) const {
    std::vector<Raw> raws;
    store_.FindByIndex(value, [&](const PackedView& view) { raws.emplace_back(view); });
    std::vector<std::shared_ptr<const T>> found;
    for (Raw& raw : raws) {
      auto object = Materialise(std::move(raw));
      if (object && HasIndexValue(*object, value)) found.push_back(std::move(object));
    }
    return found;
  }
  /// Calls `fn` for each object without holding a lock while it runs. An object that is there
  /// throughout is seen at least once.
  void ForEach(const std::function<void(const T&)>& fn) const {
    size_t cursor = store_.Size();
    std::vector<Raw> raws;
    while (cursor > 0) {
      raws.clear();
      cursor = store_.Scan(cursor, 128, [&](const PackedView& view) { raws.emplace_back(view); });
      for (Raw& raw : raws) {
        if (const auto object = Materialise(std::move(raw))) fn(*object);
      }
    }
  }
  std::vector<meta::ObjectKey> Keys() const {
    std::vector<meta::ObjectKey> keys;
    keys.reserve(store_.Size());
    store_.ForEach([&](const PackedView& view) { keys.push_back(view.Key()); });
    return keys;
  }
  size_t Size() const { return store_.Size(); }
  /// Bytes allocated for the objects, their keys and the index.
  size_t Bytes() const { return store_.Bytes(); }

  /// For use without an informer; an informer is the only writer of its own cache.
  void Put(T object) { store_.Put(Pack(object)); }
  bool Erase(const meta::ObjectKey& key) { return store_.Erase(key); }

  /// The packed form; `object` is unchanged afterwards.
  PackedObject Pack(T& object) const {
    PackedObject packed;
    if (format_.index) packed.index = format_.index(object);
    packed.key = {std::move(object.meta.ns), std::move(object.meta.name)};
    packed.uid = std::move(object.meta.uid);
    packed.resource_version = std::move(object.meta.resource_version);
    object.meta.ns.clear();
    object.meta.name.clear();
    object.meta.uid.clear();
    object.meta.resource_version.clear();
    packed.packed = format_.pack(object);
    object.meta.ns = packed.key.ns;
    object.meta.name = packed.key.name;
    object.meta.uid = packed.uid;
    object.meta.resource_version = packed.resource_version;
    return packed;
  }
  /// The object of a packed form, or null (logged) if it cannot be read: a bug of the format.
  std::shared_ptr<const T> Unpack(const PackedView& view) const { return Materialise(Raw(view)); }

  PackedStore& Store() { return store_; }

 private:
  struct Raw {
    Raw() = default;
    explicit Raw(const PackedView& view)
        : key(view.Key()), uid(view.uid), version(view.resource_version), packed(view.packed) {}
    meta::ObjectKey key;
    std::string uid, version, packed;
  };
  std::shared_ptr<const T> Materialise(Raw raw) const {
    auto object = format_.unpack(raw.packed);
    if (!object) {
      base::LogError("cached object cannot be unpacked",
                     {{"key", raw.key.Text()}, {"error", object.error().message}});
      return nullptr;
    }
    object->meta.ns = std::move(raw.key.ns);
    object->meta.name = std::move(raw.key.name);
    object->meta.uid = std::move(raw.uid);
    object->meta.resource_version = std::move(raw.version);
    return std::make_shared<const T>(*std::move(object));
  }
  bool HasIndexValue(const T& object, std::string_view value) const {
    for (const std::string& have : format_.index(object)) {
      if (have == value) return true;
    }
    return false;
  }

  CacheFormat<T> format_;
  PackedStore store_;
};

}  // namespace runtime
