#pragma once

#include <simdjson.h>

#include <cstring>
#include <string>
#include <string_view>

/// Private to codec/ (it includes simdjson).
namespace codec {

inline constexpr size_t kMaxObjectBytes =
    64 << 20;  ///< A page of a list; single objects are far smaller.

/// A parser and a padded copy of the text, one of each a thread. Both grow to the largest text
/// seen, but what is over kKeep is given back after use.
class PaddedParser {
 public:
  static PaddedParser& OfThisThread() {
    static thread_local PaddedParser instance;
    return instance;
  }

  simdjson::error_code Open(std::string_view text, simdjson::ondemand::document& document) {
    if (text.size() > kMaxObjectBytes) return simdjson::CAPACITY;
    buffer_.resize(text.size() + simdjson::SIMDJSON_PADDING);
    std::memcpy(buffer_.data(), text.data(), text.size());
    std::memset(buffer_.data() + text.size(), ' ', simdjson::SIMDJSON_PADDING);
    return parser_.iterate(buffer_.data(), text.size(), buffer_.size()).get(document);
  }
  void Close() {
    if (buffer_.size() <= kKeep) return;
    buffer_ = std::string();
    parser_ = simdjson::ondemand::parser();
  }
  const char* Begin() const { return buffer_.data(); }

 private:
  static constexpr size_t kKeep = 1 << 20;
  simdjson::ondemand::parser parser_;
  std::string buffer_;
};

/// Calls `read(document)` on the parsed text. Not re-entrant within a thread.
template <class Read>
simdjson::error_code WithDocument(std::string_view text, const Read& read) {
  PaddedParser& parser = PaddedParser::OfThisThread();
  simdjson::error_code error;
  {
    simdjson::ondemand::document document;
    error = parser.Open(text, document);
    if (error == simdjson::SUCCESS) read(document);
  }
  parser.Close();
  return error;
}

}  // namespace codec
