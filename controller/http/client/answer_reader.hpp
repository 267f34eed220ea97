#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "base/result.hpp"
#include "http/client/client.hpp"
#include "http/client/line.hpp"

/// Inside this folder only.
namespace http {

struct AnswerRules {
  std::string what;     ///< CallText(), for messages.
  size_t limit = 0;     ///< Bytes of a body that is collected; more is kInvalid.
  size_t buffer = 0;    ///< Bytes that are read at once; a head or a chunk's head fits in.
  Line::Until until;    ///< For the whole answer; with a sink for its head.
  BodySink sink = {};   ///< Gets the body of a 2xx answer as it comes; empty: it is collected.
  base::Millis idle{};  ///< With a sink: the longest silence after the head.
  std::stop_token stop = {};
};

/// Reads one answer off a line (RFC 9112, by Boost.Beast's parser), on the calling thread.
class AnswerReader {
 public:
  AnswerReader(Line& line, AnswerRules rules);
  ~AnswerReader();
  /// Errors: kTimeout, kCancelled (by its sink or by `stop`), kInvalid with reason TooLarge,
  /// kUnavailable with reason ConnectionLost.
  base::Result<Response> Read();
  /// After Read(): the line may carry a next request.
  bool MayGoOn() const;

 private:
  class Parser;

  std::optional<base::Error> Step();
  std::optional<base::Error> Parse();
  std::optional<base::Error> OnEnd();
  bool Wait(Transport::Io wanted);
  void Pace();
  base::Error Make(base::Code code, const std::string& why, const char* reason = "") const;

  Line& line_;
  const AnswerRules rules_;
  std::unique_ptr<Parser> parser_;
  const std::unique_ptr<char[]> buffer_;
  size_t held_ = 0;          ///< Bytes of buffer_ that the parser has not taken.
  base::MonoTime heard_{};   ///< When the last bytes came.
  base::MonoTime waited_{};  ///< When the last wait for more bytes began,
  int quick_ = 0;            ///< and how many in a row were short.
  int interim_ = 0;          ///< Answers before the answer.
};

}  // namespace http
