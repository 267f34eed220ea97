#include "http/own_connection.hpp"

#include <array>
#include <limits>
#include <utility>
// Asio 1.74 needs <utility> before it.
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "http/line.hpp"

namespace http {
namespace {

namespace beast = boost::beast;
using ErrorCode = boost::system::error_code;

constexpr size_t kBuffer = 16 << 10;

/// One request and its answer.
class Exchange {
 public:
  Exchange(Line& line, size_t limit, const std::string& what, Line::Until until)
      : line_(line), limit_(limit), what_(what), until_(until) {
    // Ours is looked at below: Boost 1.74 does not hold a Content-Length against its limit.
    parser_.body_limit(std::numeric_limits<uint64_t>::max());
    parser_.eager(true);
  }

  base::Result<Response> Run(const std::string& composed) {
    if (!line_.SendAll(composed, until_))
      return std::chrono::steady_clock::now() < until_ ? ConnectionBroke(what_) : Late();
    // Not there yet: looking for it first would only cost.
    if (!line_.Await(Transport::Io::kWantRead, until_)) return Late();
    while (!parser_.is_done())
      if (auto failed = Step()) return *std::move(failed);
    Response answer;
    answer.status = static_cast<int>(parser_.get().result_int());
    for (const auto& field : parser_.get())
      answer.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
    answer.body = std::move(parser_.get().body());
    return answer;
  }
  bool MayGoOn() const { return parser_.is_done() && parser_.get().keep_alive() && held_ == 0; }

 private:
  base::Error Late() const {
    return base::MakeError(base::Code::kTimeout, what_ + ": no answer in time");
  }

  std::optional<base::Error> Step() {
    const auto got = line_.Receive(buffer_.data() + held_, buffer_.size() - held_);
    switch (got.io) {
      case Transport::Io::kOk:
        held_ += got.bytes;
        return Parse();
      case Transport::Io::kWantRead:
      case Transport::Io::kWantWrite:
        if (!line_.Await(got.io, until_)) return Late();
        return std::nullopt;
      case Transport::Io::kEnd: {
        ErrorCode partial;
        if (parser_.is_header_done()) parser_.put_eof(partial);
        if (!partial && parser_.is_done()) return std::nullopt;
        return ConnectionBroke(what_);
      }
      case Transport::Io::kBroken:
        return ConnectionBroke(what_);
    }
    return ConnectionBroke(what_);
  }

  std::optional<base::Error> Parse() {
    size_t used = 0;
    while (used < held_ && !parser_.is_done()) {
      ErrorCode code;
      const size_t taken =
          parser_.put(boost::asio::buffer(buffer_.data() + used, held_ - used), code);
      used += taken;
      if (parser_.get().body().size() > limit_ || Announced() > limit_)
        return base::MakeError(base::Code::kInvalid,
                               what_ + ": the answer is over " + std::to_string(limit_) + " bytes",
                               "TooLarge");
      if (code == beast::http::error::need_more || (!code && taken == 0)) break;
      if (code) return ConnectionBroke(what_);
    }
    held_ -= used;
    if (held_ > 0)
      std::move(buffer_.begin() + used, buffer_.begin() + used + held_, buffer_.begin());
    if (held_ == buffer_.size()) return ConnectionBroke(what_);  // A head without end.
    return std::nullopt;
  }

  /// Bytes of the body, as far as the head says so.
  uint64_t Announced() const {
    return parser_.is_header_done() ? parser_.content_length().value_or(0) : 0;
  }

  Line& line_;
  const size_t limit_;
  const std::string& what_;
  const Line::Until until_;
  std::array<char, kBuffer> buffer_;
  size_t held_ = 0;  ///< Bytes of buffer_ that the parser has not taken.
  beast::http::response_parser<beast::http::string_body> parser_;
};

}  // namespace

OwnConnection::OwnConnection(DirectServer server) : server_(std::move(server)) {}
OwnConnection::~OwnConnection() = default;

base::Result<Response> OwnConnection::Send(const Request& request, const CallOptions& call) {
  const std::string what = CallText(server_, request);
  try {
    auto answer = Ask(request, what, call);
    if (answer || !call.stop.stop_requested()) return answer;
    return base::MakeError(base::Code::kCancelled, what + ": cancelled");
  } catch (const std::exception& error) {
    return base::MakeError(base::Code::kInternal, what + " failed: " + error.what());
  }
}

base::Result<Response> OwnConnection::Ask(const Request& request, const std::string& what,
                                          const CallOptions& call) {
  const auto composed = ComposeRequest(server_, request);
  if (!composed) return composed.error();
  const base::MonoTime until = std::chrono::steady_clock::now() + call.deadline;
  const std::unique_lock turn(turn_, until);
  if (!turn) return base::MakeError(base::Code::kTimeout, what + ": no turn in time");
  // Ours until all of the answer has been read.
  auto line = std::move(line_);
  if (line && !line->Quiet()) line.reset();
  if (!line) {
    auto dialled = Line::Dial(server_, what, until, call.stop);
    if (!dialled) return dialled.error();
    line = *std::move(dialled);
  }
  Exchange exchange(*line, server_.response_limit, what, until);
  const auto answer = [&] {
    const std::stop_callback wake(call.stop, [&] { line->Interrupt(); });
    return exchange.Run(*composed);
  }();
  if (answer && exchange.MayGoOn() && !call.stop.stop_requested()) line_ = std::move(line);
  return answer;
}

}  // namespace http
