#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace fleet {

/// Numbers by hash, open addressed, 8 bytes a place: what a number stands for is compared by the
/// caller, who keeps it anyway. Not thread safe.
class HashIndex {
 public:
  void Add(uint64_t hash, uint32_t value) {
    if ((used_ + 1) * 4 > places_.size() * 3) Grow();
    places_[FreePlace(Short(hash))] = {Short(hash), value};
    ++used_;
  }
  void Remove(uint64_t hash, uint32_t value) {
    if (places_.empty()) return;
    const size_t mask = places_.size() - 1;
    size_t hole = Short(hash) & mask;
    for (; places_[hole].value != value || places_[hole].hash != Short(hash);
         hole = (hole + 1) & mask)
      if (places_[hole].value == kNone) return;
    // What follows moves back, so that no search ends too early.
    for (size_t next = (hole + 1) & mask; places_[next].value != kNone; next = (next + 1) & mask) {
      const size_t home = places_[next].hash & mask;
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      places_[hole] = places_[next];
      hole = next;
    }
    places_[hole] = {};
    --used_;
  }
  /// The number with that hash for which `same` is true.
  template <class Same>
  std::optional<uint32_t> Find(uint64_t hash, const Same& same) const {
    if (places_.empty()) return std::nullopt;
    const size_t mask = places_.size() - 1;
    for (size_t at = Short(hash) & mask; places_[at].value != kNone; at = (at + 1) & mask)
      if (places_[at].hash == Short(hash) && same(places_[at].value)) return places_[at].value;
    return std::nullopt;
  }
  size_t Size() const { return used_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Place {
    uint32_t hash = 0;
    uint32_t value = kNone;
  };
  static uint32_t Short(uint64_t hash) { return static_cast<uint32_t>(hash ^ hash >> 32); }
  size_t FreePlace(uint32_t hash) const {
    const size_t mask = places_.size() - 1;
    size_t at = hash & mask;
    while (places_[at].value != kNone) at = (at + 1) & mask;
    return at;
  }
  void Grow() {
    std::vector<Place> old(places_.empty() ? 16 : places_.size() * 2);
    old.swap(places_);
    for (const Place& place : old)
      if (place.value != kNone) places_[FreePlace(place.hash)] = place;
  }

  std::vector<Place> places_;  ///< A power of two.
  size_t used_ = 0;
};

}  // namespace fleet
