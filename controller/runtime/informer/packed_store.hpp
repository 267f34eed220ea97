#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "meta/object.hpp"

namespace runtime {

/// An object as bytes, as a caller hands it in.
struct PackedObject {
  meta::ObjectKey key;
  std::string uid;
  std::string resource_version;
  std::string packed;
  std::vector<std::string> index;  ///< Index values; at most 256 count.
};

/// An object as a reader sees it: views that die with the call.
struct PackedView {
  std::string_view ns;
  std::string_view name;
  std::string_view uid;
  std::string_view resource_version;
  std::string_view packed;
  meta::ObjectKey Key() const { return {std::string(ns), std::string(name)}; }
};

/// Compact map of objects by key: one allocation an object (identity, bytes and index links in it),
/// namespaces interned, canonical UIDs as 16 bytes, decimal versions as 8; a dense table of
/// pointers, an open-addressed table of 5 bytes a slot, an intrusive secondary index of 4 bytes a
/// slot. Thread safe: readers share, writers exclude.
class PackedStore {
 public:
  using Visit = std::function<void(const PackedView&)>;

  PackedStore() = default;
  ~PackedStore();
  PackedStore(const PackedStore&) = delete;
  PackedStore& operator=(const PackedStore&) = delete;

  /// Adds or replaces.
  void Put(const PackedObject& object);
  bool Erase(const meta::ObjectKey& key);
  void Clear();
  /// Exchanges the contents.
  void Swap(PackedStore& other);
  /// Many changes that readers see at once.
  void Replace(const std::vector<PackedObject>& puts, const std::vector<meta::ObjectKey>& erases);

  /// Calls `visit` under the shared lock, which must not call back; false if there is no such
  /// object.
  bool Find(const meta::ObjectKey& key, const Visit& visit) const;
  bool Contains(const meta::ObjectKey& key) const;
  /// Visits all, in steps of `batch` under the shared lock. An object there throughout is visited
  /// at least once (twice, if others are erased meanwhile).
  void ForEach(const Visit& visit, size_t batch = 256) const;
  /// Visits at most `count` objects from `cursor` downwards; returns the next cursor, 0 at the end.
  /// Start with Size().
  size_t Scan(size_t cursor, size_t count, const Visit& visit) const;
  /// Visits what has an index value with the hash of `value` (so, very rarely, something else).
  void FindByIndex(std::string_view value, const Visit& visit) const;
  size_t Size() const;
  /// Bytes allocated, without the allocator's own.
  size_t Bytes() const;

 private:
  struct Record;
  struct Link;
  size_t FindSlot(std::string_view ns, std::string_view name, uint64_t hash) const;
  bool FindNs(std::string_view ns, uint32_t* id) const;
  uint32_t InternNs(std::string_view ns);
  void ReleaseNs(uint32_t id);
  PackedView ViewOf(const Record& record, char* scratch) const;
  Record* Make(const PackedObject& object, uint64_t hash, uint32_t ns);
  void PutLocked(const PackedObject& object);
  bool EraseLocked(const meta::ObjectKey& key);
  void Rehash(size_t slots);
  void RemoveSlot(size_t slot);
  void Unlink(Record* record);
  void LinkAll(Record* record);
  size_t IndexSlot(uint64_t hash) const;
  void GrowIndex();
  void RemoveIndexSlot(size_t slot);
  void FreeAll();

  mutable std::shared_mutex mutex_;
  std::vector<Record*> records_;  ///< Dense.
  std::vector<uint32_t> slots_;   ///< Position in records_ + 1; 0: empty. A power of two.
  std::vector<uint8_t> tags_;     ///< Eight bits of the hash, so that most probes touch no record.
  std::vector<Link*> index_;      ///< First link of each index value, by hash. A power of two.
  size_t index_used_ = 0;
  struct Namespace {
    std::string text;
    uint32_t uses = 0;
  };
  std::vector<Namespace> namespaces_;
  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::unordered_map<std::string, uint32_t, TextHash, std::equal_to<>> namespace_ids_;
  std::vector<uint32_t> free_namespaces_;
  size_t record_bytes_ = 0;
};

}  // namespace runtime
