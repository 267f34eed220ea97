#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

namespace codec {

/// Gives repeated strings (source URLs, namespaces, reasons, digests) a small number each, for the
/// packed forms of cached objects.
///
/// Strings are kept for the life of the interner, so it is bounded: by bytes and by count; a string
/// that does not fit any more, or is longer than `max_length`, gets no number and is packed inline.
/// Thread safe; Find() takes no lock.
class StringInterner {
 public:
  struct Limits {
    size_t bytes = 32 << 20;   ///< Text only; the index adds about 30 bytes a string.
    uint32_t count = 1 << 18;  ///< Strings.
    size_t max_length = 1024;  ///< Bytes of one string.
  };
  StringInterner();
  explicit StringInterner(Limits limits);
  ~StringInterner();
  StringInterner(const StringInterner&) = delete;
  StringInterner& operator=(const StringInterner&) = delete;

  /// The number of `text`, the same for equal texts; nothing when it cannot be taken in.
  std::optional<uint32_t> Intern(std::string_view text);
  /// The same, but a text gets its number only when it comes a third time (roughly: as far as a
  /// small table remembers), so that texts that never come again, such as messages with a time in
  /// them, do not fill the interner. Not the second: an own write comes twice, by its answer and by
  /// its echo.
  std::optional<uint32_t> InternRepeated(std::string_view text);
  /// The text of a number that Intern() gave; it lives as long as the interner. An unknown number
  /// is nothing.
  std::optional<std::string_view> Find(uint32_t number) const;

  struct Usage {
    size_t bytes;
    uint32_t count;
  };
  Usage Used() const;

 private:
  static constexpr uint32_t kChunk = 4096;
  static constexpr size_t kSeen = 1 << 15;
  static constexpr uint32_t kTimes = 3;
  static constexpr uint32_t kNone = UINT32_MAX;
  /// A place of the open-addressed table: a text is looked at only when its hash is the same.
  struct Place {
    uint32_t hash = 0;
    uint32_t number = kNone;
  };
  Place& PlaceOf(std::string_view text, uint32_t hash);
  std::optional<uint32_t> Add(std::string_view text, uint32_t hash);
  void Grow();
  std::string_view Store(std::string_view text);

  const Limits limits_;
  mutable std::mutex mutex_;
  std::vector<Place> places_;  ///< Guarded by mutex_; a power of two.
  std::vector<std::unique_ptr<char[]>> blocks_;
  size_t block_left_ = 0;
  char* block_at_ = nullptr;
  size_t bytes_ = 0;
  std::unique_ptr<uint32_t[]> seen_;  ///< Of texts seen once or twice, by their hashes' low bits.
  uint32_t chunk_count_;
  std::unique_ptr<std::atomic<std::string_view*>[]>
      chunks_;  ///< A reader that has a number sees its chunk.
  std::atomic<uint32_t> count_{0};
};

}  // namespace codec
