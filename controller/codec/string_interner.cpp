#include "codec/string_interner.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

namespace codec {

StringInterner::StringInterner() : StringInterner(Limits{}) {}

StringInterner::StringInterner(Limits limits)
    : limits_(limits),
      seen_(std::make_unique<uint32_t[]>(kSeen)),
      chunk_count_((limits.count + kChunk - 1) / kChunk),
      chunks_(std::make_unique<std::atomic<std::string_view*>[]>(chunk_count_)) {}

StringInterner::~StringInterner() {
  for (uint32_t i = 0; i < chunk_count_; ++i) delete[] chunks_[i].load();
}

std::optional<uint32_t> StringInterner::Intern(std::string_view text) {
  if (text.size() > limits_.max_length) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const auto known = numbers_.find(text);
  return known != numbers_.end() ? known->second : Add(text);
}

std::optional<uint32_t> StringInterner::InternRepeated(std::string_view text) {
  if (text.size() > limits_.max_length) return std::nullopt;
  const std::lock_guard lock(mutex_);
  if (const auto known = numbers_.find(text); known != numbers_.end()) return known->second;
  const size_t hash = std::hash<std::string_view>{}(text);
  uint32_t& seen = seen_[hash % kSeen];
  const auto mark = static_cast<uint32_t>(hash >> 32) | 1;
  if (std::exchange(seen, mark) != mark) return std::nullopt;
  return Add(text);
}

std::optional<uint32_t> StringInterner::Add(std::string_view text) {
  const uint32_t number = count_.load(std::memory_order_relaxed);
  if (number >= limits_.count || bytes_ + text.size() > limits_.bytes) return std::nullopt;
  std::atomic<std::string_view*>& chunk = chunks_[number / kChunk];
  if (chunk.load(std::memory_order_relaxed) == nullptr)
    chunk.store(new std::string_view[kChunk], std::memory_order_release);
  const std::string_view stored = Store(text);
  chunk.load(std::memory_order_relaxed)[number % kChunk] = stored;
  numbers_.emplace(stored, number);
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
