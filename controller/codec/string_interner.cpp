#include "codec/string_interner.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

namespace codec {
namespace {

constexpr size_t kFirstPlaces = 1024;

}  // namespace

StringInterner::StringInterner() : StringInterner(Limits{}) {}

StringInterner::StringInterner(Limits limits)
    : limits_(limits),
      places_(kFirstPlaces),
      seen_(std::make_unique<uint32_t[]>(kSeen)),
      chunk_count_((limits.count + kChunk - 1) / kChunk),
      chunks_(std::make_unique<std::atomic<std::string_view*>[]>(chunk_count_)) {}

StringInterner::~StringInterner() {
  for (uint32_t i = 0; i < chunk_count_; ++i) delete[] chunks_[i].load();
}

std::optional<uint32_t> StringInterner::Intern(std::string_view text) {
  if (text.size() > limits_.max_length) return std::nullopt;
  const auto hash = static_cast<uint32_t>(std::hash<std::string_view>{}(text));
  const std::lock_guard lock(mutex_);
  const uint32_t number = PlaceOf(text, hash).number;
  return number != kNone ? number : Add(text, hash);
}

std::optional<uint32_t> StringInterner::InternRepeated(std::string_view text) {
  if (text.size() > limits_.max_length) return std::nullopt;
  const size_t full = std::hash<std::string_view>{}(text);
  const auto hash = static_cast<uint32_t>(full);
  const std::lock_guard lock(mutex_);
  if (const uint32_t number = PlaceOf(text, hash).number; number != kNone) return number;
  uint32_t& seen = seen_[full % kSeen];  // A mark of the text, and in its low bits how often.
  const uint32_t mark = static_cast<uint32_t>(full >> 32) & ~kTimes;
  if ((seen & ~kTimes) != mark) seen = mark;
  if ((seen & kTimes) == 2) return Add(text, hash);
  ++seen;
  return std::nullopt;
}

/// Where `text` is, or the empty place where it belongs.
StringInterner::Place& StringInterner::PlaceOf(std::string_view text, uint32_t hash) {
  const size_t mask = places_.size() - 1;
  size_t at = hash & mask;
  for (; places_[at].number != kNone; at = (at + 1) & mask) {
    const Place& place = places_[at];
    if (place.hash != hash) continue;
    if (chunks_[place.number / kChunk].load(std::memory_order_relaxed)[place.number % kChunk] ==
        text)
      break;
  }
  return places_[at];
}

void StringInterner::Grow() {
  std::vector<Place> old(places_.size() * 2);
  old.swap(places_);
  const size_t mask = places_.size() - 1;
  for (const Place& place : old) {
    if (place.number == kNone) continue;
    size_t at = place.hash & mask;
    while (places_[at].number != kNone) at = (at + 1) & mask;
    places_[at] = place;
  }
}

std::optional<uint32_t> StringInterner::Add(std::string_view text, uint32_t hash) {
  const uint32_t number = count_.load(std::memory_order_relaxed);
  if (number >= limits_.count || bytes_ + text.size() > limits_.bytes) return std::nullopt;
  std::atomic<std::string_view*>& chunk = chunks_[number / kChunk];
  if (chunk.load(std::memory_order_relaxed) == nullptr)
    chunk.store(new std::string_view[kChunk], std::memory_order_release);
  const std::string_view stored = Store(text);
  chunk.load(std::memory_order_relaxed)[number % kChunk] = stored;
  if ((number + 1) * size_t{4} > places_.size() * 3) Grow();
  PlaceOf(stored, hash) = {hash, number};
  count_.store(number + 1, std::memory_order_release);
  return number;
}

std::optional<std::string_view> StringInterner::Find(uint32_t number) const {
  if (number >= count_.load(std::memory_order_acquire)) return std::nullopt;
  return chunks_[number / kChunk].load(std::memory_order_acquire)[number % kChunk];
}

StringInterner::Usage StringInterner::Used() const {
  const std::lock_guard lock(mutex_);
  return {bytes_, count_.load(std::memory_order_relaxed)};
}

std::string_view StringInterner::Store(std::string_view text) {
  constexpr size_t kBlock = 64 << 10;
  if (text.size() > block_left_) {
    const size_t size = std::max(kBlock, text.size());
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(size));
    block_at_ = blocks_.back().get();
    block_left_ = size;
  }
  char* const place = block_at_;
  if (!text.empty()) std::memcpy(place, text.data(), text.size());
  block_at_ += text.size();
  block_left_ -= text.size();
  bytes_ += text.size();
  return {place, text.size()};
}

}  // namespace codec
