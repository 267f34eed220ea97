#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "http/message.hpp"

namespace http {

/// What the head of a request says about its body and connection.
struct HeadFacts {
  bool keep_alive = true;
  bool http10 = false;
  bool chunked = false;
  bool expect_continue = false;
  uint64_t content_length = 0;
  bool HasBody() const { return chunked || content_length > 0; }
};

/// Reads one request after another (Boost.Beast's parser), with the strictness that its own leaves
/// open: one Host, one length at most, only "chunked" as transfer coding and never beside a length
/// or in HTTP/1.0, no bare CR or LF, no folded lines. The strings of the request keep their
/// capacity from one request to the next.
class RequestParser {
 public:
  struct Limits {
    size_t header = 0;
    size_t body = 0;
  };
  enum class Outcome {
    kNeedMore,
    kHead,   ///< The head is complete: judge it, then go on with the body.
    kDone,   ///< The whole request is there.
    kError,  ///< See status(); the connection cannot be used any more.
  };
  struct Step {
    Outcome outcome = Outcome::kNeedMore;
    size_t consumed = 0;
  };

  explicit RequestParser(const Limits& limits);
  ~RequestParser();
  /// Consumes from the front of `bytes`; unconsumed bytes are given again with more behind them.
  /// After kHead (also for a request without a body) the next call goes on with the body; after
  /// kDone a new request begins.
  Step Feed(std::string_view bytes);
  /// True if nothing of a next request has been seen.
  bool Fresh() const { return !head_done_; }
  Request& request() { return request_; }
  const HeadFacts& facts() const { return facts_; }
  int status() const { return status_; }  ///< Of the answer after kError.
  std::string_view problem() const { return problem_; }
  void Reset();

 private:
  class Adapter;
  Step FeedHead(std::string_view bytes);
  Step FeedBody(std::string_view bytes);
  Step Fail(int status, std::string_view problem);
  bool JudgeHead();
  bool JudgeTarget();

  Limits limits_;
  Request request_;
  HeadFacts facts_;
  size_t headers_seen_ = 0;
  int hosts_ = 0;
  int lengths_ = 0;
  int codings_ = 0;
  bool odd_coding_ = false;
  bool odd_expectation_ = false;
  bool head_done_ = false;
  size_t scanned_ = 0;  ///< Bytes of an incomplete head that hold no end.
  int status_ = 0;
  std::string_view problem_;
  std::unique_ptr<Adapter> adapter_;
};

}  // namespace http
