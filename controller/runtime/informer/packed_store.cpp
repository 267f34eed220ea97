#include "runtime/informer/packed_store.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>

#include "base/memory.hpp"
#include "runtime/backoff.hpp"

namespace runtime {
namespace {

constexpr uint16_t kBinary = 0x8000;  ///< In a size: the text is stored as fewer bytes.
constexpr size_t kScratch = 64;       ///< For a UID and a version as text.
constexpr size_t kNoSlot = SIZE_MAX;
constexpr size_t kMinSlots = 16;
constexpr size_t kLargeTable = 1 << 15;  ///< Slots; what has shrunk to it was larger.

/// FNV-1a with a seed of this process, so that nobody can prepare names that collide.
uint64_t Hash(std::string_view a, std::string_view b) {
  static const uint64_t seed = static_cast<uint64_t>(Jitter().Next() * 0x1p53) | 1;
  uint64_t h = 0xcbf29ce484222325ULL ^ seed;
  for (const std::string_view part : {a, b}) {
    for (const char c : part) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
    h = (h ^ 0xff) * 0x100000001b3ULL;
  }
  h ^= h >> 32;
  h *= 0xd6e8feb86659fd93ULL;
  return h ^ (h >> 32);
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool IsDash(size_t i) { return i == 8 || i == 13 || i == 18 || i == 23; }

/// A canonical lower-case UUID as 16 bytes; false for any other text.
bool PackUid(std::string_view text, char* out) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < 36;) {
    if (IsDash(i)) {
      if (text[i++] != '-') return false;
      continue;
    }
    const int high = HexDigit(text[i]), low = HexDigit(text[i + 1]);
    if (high < 0 || low < 0) return false;
    *out++ = static_cast<char>(high * 16 + low);
    i += 2;
  }
  return true;
}

void UnpackUid(const char* bytes, char* text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (size_t i = 0; i < 36;) {
    if (IsDash(i)) {
      text[i++] = '-';
      continue;
    }
    const auto byte = static_cast<uint8_t>(*bytes++);
    text[i++] = kDigits[byte >> 4];
    text[i++] = kDigits[byte & 15];
  }
}

/// A decimal of at most 64 bits without leading zeros as little-endian bytes; the count, 0 for any
/// other text.
size_t PackVersion(std::string_view text, char* out) {
  if (text.empty() || text.size() > 20 || text[0] == '0') return 0;
  uint64_t value = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end.ec != std::errc() || end.ptr != text.data() + text.size()) return 0;
  size_t count = 0;
  for (; value != 0; value >>= 8) out[count++] = static_cast<char>(value & 0xff);
  return count;
}

}  // namespace

/// One posting of the secondary index, in the record's own allocation.
struct PackedStore::Link {
  Link* next;
  Link* prev;
  uint32_t hash;
  uint16_t ordinal;  ///< Which link of its record: leads back to the record.
};

/// Followed by links, then UID, version, name and packed bytes.
struct PackedStore::Record {
  uint32_t hash;
  uint32_t ns;
  uint32_t position;
  uint32_t packed_size;
  uint16_t link_count;
  uint16_t name_size;
  uint16_t uid_size;
  uint16_t version_size;

  Link* Links() { return reinterpret_cast<Link*>(this + 1); }
  const char* Bytes() const {
    return reinterpret_cast<const char*>(this + 1) + link_count * sizeof(Link);
  }
  static size_t Stored(uint16_t size) { return size & (kBinary - 1); }
  const char* Name() const { return Bytes() + Stored(uid_size) + Stored(version_size); }
  std::string_view NameText() const { return {Name(), name_size}; }
  size_t Allocated() const {
    return sizeof(Record) + link_count * sizeof(Link) + Stored(uid_size) + Stored(version_size) +
           name_size + packed_size;
  }
  static Record* Of(Link* link) { return reinterpret_cast<Record*>(link - link->ordinal) - 1; }
};

PackedStore::~PackedStore() { FreeAll(); }

void PackedStore::FreeAll() {
  for (Record* record : records_) std::free(record);
}

PackedView PackedStore::ViewOf(const Record& record, char* scratch) const {
  PackedView view;
  view.ns = namespaces_[record.ns].text;
  const char* at = record.Bytes();
  const size_t uid_size = Record::Stored(record.uid_size);
  if (record.uid_size & kBinary) {
    UnpackUid(at, scratch);
    view.uid = {scratch, 36};
    scratch += 36;
  } else {
    view.uid = {at, uid_size};
  }
  at += uid_size;
  const size_t version_size = Record::Stored(record.version_size);
  if (record.version_size & kBinary) {
    uint64_t value = 0;
    for (size_t i = version_size; i > 0; --i) {
      value = value << 8 | static_cast<uint8_t>(at[i - 1]);
    }
    const auto end = std::to_chars(scratch, scratch + 24, value);
    view.resource_version = {scratch, static_cast<size_t>(end.ptr - scratch)};
  } else {
    view.resource_version = {at, version_size};
  }
  view.name = record.NameText();
  view.packed = {record.Name() + record.name_size, record.packed_size};
  return view;
}

PackedStore::Record* PackedStore::Make(const PackedObject& object, uint64_t hash, uint32_t ns) {
  char uid[16], version[8];
  Record header{};
  header.hash = static_cast<uint32_t>(hash);
  header.ns = ns;
  header.packed_size = static_cast<uint32_t>(object.packed.size());
  header.link_count = static_cast<uint16_t>(std::min<size_t>(object.index.size(), 256));
  // Identities this long cannot come from a Kubernetes API; cutting them keeps the sizes in their
  // fields.
  const std::string_view name = std::string_view(object.key.name).substr(0, 0xffff);
  std::string_view uid_text = std::string_view(object.uid).substr(0, kBinary - 1);
  std::string_view version_text = std::string_view(object.resource_version).substr(0, kBinary - 1);
  header.name_size = static_cast<uint16_t>(name.size());
  header.uid_size = static_cast<uint16_t>(uid_text.size());
  header.version_size = static_cast<uint16_t>(version_text.size());
  if (PackUid(uid_text, uid)) {
    uid_text = {uid, sizeof(uid)};
    header.uid_size = kBinary | sizeof(uid);
  }
  if (const size_t count = PackVersion(version_text, version)) {
    version_text = {version, count};
    header.version_size = static_cast<uint16_t>(kBinary | count);
  }
  void* memory = std::malloc(header.Allocated());
  if (memory == nullptr) throw std::bad_alloc();
  auto* record = new (memory) Record(header);
  for (uint16_t i = 0; i < header.link_count; ++i) {
    const auto link_hash = static_cast<uint32_t>(Hash("", object.index[i]));
    new (record->Links() + i) Link{nullptr, nullptr, link_hash, i};
  }
  char* at = const_cast<char*>(record->Bytes());
  for (const std::string_view part :
       {uid_text, version_text, name, std::string_view(object.packed)}) {
    if (!part.empty()) std::memcpy(at, part.data(), part.size());
    at += part.size();
  }
  record_bytes_ += header.Allocated();
  return record;
}

bool PackedStore::FindNs(std::string_view ns, uint32_t* id) const {
  const auto found = namespace_ids_.find(ns);
  if (found == namespace_ids_.end()) return false;
  *id = found->second;
  return true;
}

uint32_t PackedStore::InternNs(std::string_view ns) {
  uint32_t id = 0;
  if (!FindNs(ns, &id)) {
    if (free_namespaces_.empty()) {
      id = static_cast<uint32_t>(namespaces_.size());
      namespaces_.emplace_back();
    } else {
      id = free_namespaces_.back();
      free_namespaces_.pop_back();
    }
    namespaces_[id] = {std::string(ns), 0};
    namespace_ids_.emplace(ns, id);
  }
  ++namespaces_[id].uses;
  return id;
}

void PackedStore::ReleaseNs(uint32_t id) {
  if (--namespaces_[id].uses > 0) return;
  namespace_ids_.erase(namespaces_[id].text);
  namespaces_[id].text = {};
  free_namespaces_.push_back(id);
}

/// The slot of the object, or kNoSlot.
size_t PackedStore::FindSlot(std::string_view ns, std::string_view name, uint64_t hash) const {
  uint32_t ns_id = 0;
  if (slots_.empty() || !FindNs(ns, &ns_id)) return kNoSlot;
  const auto short_hash = static_cast<uint32_t>(hash);
  const auto tag = static_cast<uint8_t>(short_hash >> 24);
  const size_t mask = slots_.size() - 1;
  for (size_t slot = short_hash & mask; slots_[slot] != 0; slot = (slot + 1) & mask) {
    if (tags_[slot] != tag) continue;
    const Record& record = *records_[slots_[slot] - 1];
    if (record.hash == short_hash && record.ns == ns_id && record.NameText() == name) return slot;
  }
  return kNoSlot;
}

void PackedStore::Rehash(size_t slots) {
  slots_.assign(slots, 0);
  slots_.shrink_to_fit();
  tags_.assign(slots, 0);
  tags_.shrink_to_fit();
  const size_t mask = slots - 1;
  for (size_t i = 0; i < records_.size(); ++i) {
    size_t slot = records_[i]->hash & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = static_cast<uint32_t>(i + 1);
    tags_[slot] = static_cast<uint8_t>(records_[i]->hash >> 24);
  }
}

/// Empties a slot and moves what follows back, so that no probe ends too early.
void PackedStore::RemoveSlot(size_t slot) {
  const size_t mask = slots_.size() - 1;
  size_t hole = slot;
  for (size_t next = (hole + 1) & mask; slots_[next] != 0; next = (next + 1) & mask) {
    const size_t home = records_[slots_[next] - 1]->hash & mask;
    if (((next - home) & mask) < ((next - hole) & mask)) continue;
    slots_[hole] = slots_[next];
    tags_[hole] = tags_[next];
    hole = next;
  }
  slots_[hole] = 0;
}

/// The slot of the index value with that hash, or the empty one where it belongs.
size_t PackedStore::IndexSlot(uint64_t hash) const {
  const size_t mask = index_.size() - 1;
  size_t slot = hash & mask;
  while (index_[slot] != nullptr && index_[slot]->hash != hash) slot = (slot + 1) & mask;
  return slot;
}

void PackedStore::GrowIndex() {
  std::vector<Link*> old(std::max(kMinSlots, index_.size() * 2), nullptr);
  old.swap(index_);
  for (Link* head : old) {
    if (head != nullptr) index_[IndexSlot(head->hash)] = head;
  }
}

void PackedStore::LinkAll(Record* record) {
  for (uint16_t i = 0; i < record->link_count; ++i) {
    Link* link = record->Links() + i;
    if ((index_used_ + 1) * 4 > index_.size() * 3) GrowIndex();
    const size_t slot = IndexSlot(link->hash);
    link->prev = nullptr;
    link->next = index_[slot];
    if (link->next != nullptr) link->next->prev = link;
    if (link->next == nullptr) ++index_used_;
    index_[slot] = link;
  }
}

void PackedStore::RemoveIndexSlot(size_t slot) {
  const size_t mask = index_.size() - 1;
  size_t hole = slot;
  for (size_t next = (hole + 1) & mask; index_[next] != nullptr; next = (next + 1) & mask) {
    const size_t home = index_[next]->hash & mask;
    if (((next - home) & mask) < ((next - hole) & mask)) continue;
    index_[hole] = index_[next];
    hole = next;
  }
  index_[hole] = nullptr;
  --index_used_;
}

void PackedStore::Unlink(Record* record) {
  for (uint16_t i = 0; i < record->link_count; ++i) {
    Link* link = record->Links() + i;
    if (link->next != nullptr) link->next->prev = link->prev;
    if (link->prev != nullptr) {
      link->prev->next = link->next;
      continue;
    }
    const size_t slot = IndexSlot(link->hash);
    if (link->next != nullptr) {
      index_[slot] = link->next;
    } else {
      RemoveIndexSlot(slot);
    }
  }
}

void PackedStore::PutLocked(const PackedObject& object) {
  const uint64_t hash = Hash(object.key.ns, object.key.name);
  if (const size_t slot = FindSlot(object.key.ns, object.key.name, hash); slot != kNoSlot) {
    Record*& place = records_[slots_[slot] - 1];
    Record* record = Make(object, hash, place->ns);
    record->position = place->position;
    Unlink(place);
    record_bytes_ -= place->Allocated();
    std::free(place);
    place = record;
    LinkAll(record);
    return;
  }
  if (records_.size() >= std::numeric_limits<uint32_t>::max() - 1) throw std::bad_alloc();
  if ((records_.size() + 1) * 8 > slots_.size() * 7) Rehash(std::max(kMinSlots, slots_.size() * 2));
  Record* record = Make(object, hash, InternNs(object.key.ns));
  record->position = static_cast<uint32_t>(records_.size());
  records_.push_back(record);
  const size_t mask = slots_.size() - 1;
  size_t slot = record->hash & mask;
  while (slots_[slot] != 0) slot = (slot + 1) & mask;
  slots_[slot] = record->position + 1;
  tags_[slot] = static_cast<uint8_t>(record->hash >> 24);
  LinkAll(record);
}

bool PackedStore::EraseLocked(const meta::ObjectKey& key) {
  const size_t slot = FindSlot(key.ns, key.name, Hash(key.ns, key.name));
  if (slot == kNoSlot) return false;
  Record* record = records_[slots_[slot] - 1];
  RemoveSlot(slot);
  Record* last = records_.back();
  if (last != record) {
    const size_t mask = slots_.size() - 1;
    size_t moved = last->hash & mask;
    while (slots_[moved] != last->position + 1) moved = (moved + 1) & mask;
    slots_[moved] = record->position + 1;
    records_[record->position] = last;
    last->position = record->position;
  }
  records_.pop_back();
  Unlink(record);
  ReleaseNs(record->ns);
  record_bytes_ -= record->Allocated();
  std::free(record);
  if (slots_.size() > 1024 && records_.size() < slots_.size() / 8) {
    records_.shrink_to_fit();
    Rehash(slots_.size() / 2);
    if (slots_.size() >= kLargeTable) base::GiveBackFreeMemory();
  }
  return true;
}

void PackedStore::Put(const PackedObject& object) {
  std::unique_lock lock(mutex_);
  PutLocked(object);
}

bool PackedStore::Erase(const meta::ObjectKey& key) {
  std::unique_lock lock(mutex_);
  return EraseLocked(key);
}

void PackedStore::Clear() {
  PackedStore empty;
  Swap(empty);
}

void PackedStore::Swap(PackedStore& other) {
  if (this == &other) return;
  std::scoped_lock lock(mutex_, other.mutex_);
  records_.swap(other.records_);
  slots_.swap(other.slots_);
  tags_.swap(other.tags_);
  index_.swap(other.index_);
  std::swap(index_used_, other.index_used_);
  namespaces_.swap(other.namespaces_);
  namespace_ids_.swap(other.namespace_ids_);
  free_namespaces_.swap(other.free_namespaces_);
  std::swap(record_bytes_, other.record_bytes_);
}

void PackedStore::Replace(const std::vector<PackedObject>& puts,
                          const std::vector<meta::ObjectKey>& erases) {
  std::unique_lock lock(mutex_);
  for (const meta::ObjectKey& key : erases) EraseLocked(key);
  for (const PackedObject& object : puts) PutLocked(object);
}

bool PackedStore::Find(const meta::ObjectKey& key, const Visit& visit) const {
  std::shared_lock lock(mutex_);
  const size_t slot = FindSlot(key.ns, key.name, Hash(key.ns, key.name));
  if (slot == kNoSlot) return false;
  char scratch[kScratch];
  visit(ViewOf(*records_[slots_[slot] - 1], scratch));
  return true;
}

bool PackedStore::Contains(const meta::ObjectKey& key) const {
  std::shared_lock lock(mutex_);
  return FindSlot(key.ns, key.name, Hash(key.ns, key.name)) != kNoSlot;
}

void PackedStore::ForEach(const Visit& visit, size_t batch) const {
  for (size_t cursor = Size(); cursor > 0;) cursor = Scan(cursor, batch, visit);
}

size_t PackedStore::Scan(size_t cursor, size_t count, const Visit& visit) const {
  std::shared_lock lock(mutex_);
  char scratch[kScratch];
  size_t at = std::min(cursor, records_.size());
  for (; at > 0 && count > 0; --count) visit(ViewOf(*records_[--at], scratch));
  return at;
}

void PackedStore::FindByIndex(std::string_view value, const Visit& visit) const {
  std::shared_lock lock(mutex_);
  if (index_.empty()) return;
  char scratch[kScratch];
  const auto hash = static_cast<uint32_t>(Hash("", value));
  for (Link* link = index_[IndexSlot(hash)]; link != nullptr; link = link->next) {
    visit(ViewOf(*Record::Of(link), scratch));
  }
}

size_t PackedStore::Size() const {
  std::shared_lock lock(mutex_);
  return records_.size();
}

size_t PackedStore::Bytes() const {
  std::shared_lock lock(mutex_);
  return record_bytes_ + records_.capacity() * sizeof(void*) +
         slots_.capacity() * sizeof(uint32_t) + tags_.capacity() +
         index_.capacity() * sizeof(void*);
}

}  // namespace runtime
