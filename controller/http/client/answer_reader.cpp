#include "http/client/answer_reader.hpp"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/optional.hpp>
#include <cstring>
#include <limits>
#include <thread>

namespace http {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
using ErrorCode = boost::system::error_code;

constexpr uint32_t kHeadLimit = 64 << 10;
constexpr int kMostInterim = 16;  ///< Answers before the answer (1xx).
constexpr std::chrono::microseconds kQuick{6'000};
constexpr int kQuickInARow = 32;
constexpr std::chrono::microseconds kGather{4'000};

/// Gives each piece of the body away as it is parsed.
struct PassedBody {
  struct value_type {
    std::function<bool(std::string_view)> take;
  };
  class reader {
   public:
    template <bool IsRequest, class Fields>
    reader(beast::http::header<IsRequest, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<std::uint64_t>&, ErrorCode& code) { code = {}; }
    template <class Buffers>
    size_t put(const Buffers& buffers, ErrorCode& code) {
      size_t taken = 0;
      code = {};
      for (auto it = net::buffer_sequence_begin(buffers); it != net::buffer_sequence_end(buffers);
           ++it) {
        const net::const_buffer piece = *it;
        taken += piece.size();
        if (!body_.take({static_cast<const char*>(piece.data()), piece.size()})) {
          code = net::error::operation_aborted;
          break;
        }
      }
      return taken;
    }
    void finish(ErrorCode& code) { code = {}; }

   private:
    value_type& body_;
  };
};

}  // namespace

/// The answer as far as it has come.
class AnswerReader::Parser {
 public:
  explicit Parser(const AnswerRules& rules) : rules_(rules) {
    parser_.header_limit(kHeadLimit);
    // Ours is looked at below. Not boost::none: Boost 1.74 compares a Content-Length with the empty
    // optional's storage, and now and then refuses an answer for it.
    parser_.body_limit(std::numeric_limits<uint64_t>::max());
    parser_.eager(true);
    parser_.get().body().take = [this](std::string_view bytes) { return Take(bytes); };
  }

  bool HeadDone() const { return parser_.is_header_done(); }
  bool Done() const { return parser_.is_done(); }
  /// Only a word on the way (103 Early Hints of a proxy): the answer follows.
  bool Interim() const {
    const unsigned status = Done() ? parser_.get().result_int() : 0;
    return status / 100 == 1 && status != 101;
  }
  bool KeepAlive() const { return parser_.get().keep_alive(); }
  bool EndedBySink() const { return ended_by_sink_; }
  bool TooLarge() const { return too_large_; }

  /// Bytes of these that it has taken; 0 with no error: it needs more.
  size_t Put(const char* bytes, size_t count, ErrorCode& code) {
    const size_t taken = parser_.put(net::buffer(bytes, count), code);
    if (code == beast::http::error::need_more) code = {};
    // Also before its bytes come.
    if (HeadDone() && Collects() && parser_.content_length().value_or(0) > rules_.limit)
      too_large_ = true;
    return taken;
  }
  /// The connection has ended. False: amid the answer.
  bool PutEnd() {
    ErrorCode partial;
    if (HeadDone()) parser_.put_eof(partial);
    return !partial && Done();
  }
  Response Finish() {
    ReadHead();
    return std::move(answer_);
  }

 private:
  void ReadHead() {
    if (answer_.status != 0) return;
    answer_.status = static_cast<int>(parser_.get().result_int());
    for (const auto& field : parser_.get())
      answer_.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  bool Collects() const { return !rules_.sink || parser_.get().result_int() / 100 != 2; }

  bool Take(std::string_view bytes) {
    ReadHead();
    if (!Collects()) {
      ended_by_sink_ = !rules_.sink(bytes);
      return !ended_by_sink_;
    }
    too_large_ = answer_.body.size() + bytes.size() > rules_.limit;
    if (!too_large_) answer_.body += bytes;
    return !too_large_;
  }

  const AnswerRules& rules_;
  beast::http::parser<false, PassedBody> parser_;
  Response answer_;
  bool ended_by_sink_ = false;
  bool too_large_ = false;
};

AnswerReader::AnswerReader(Line& line, AnswerRules rules)
    : line_(line),
      rules_(std::move(rules)),
      parser_(std::make_unique<Parser>(rules_)),
      buffer_(std::make_unique_for_overwrite<char[]>(rules_.buffer)) {}
AnswerReader::~AnswerReader() = default;

base::Error AnswerReader::Make(base::Code code, const std::string& why, const char* reason) const {
  return base::MakeError(code, rules_.what + ": " + why, reason);
}

base::Result<Response> AnswerReader::Read() {
  while (!parser_->Done()) {
    auto failed = Step();
    if (failed && rules_.stop.stop_requested()) return Make(base::Code::kCancelled, "cancelled");
    if (failed) return *std::move(failed);
  }
  return parser_->Finish();
}

bool AnswerReader::MayGoOn() const { return parser_->Done() && parser_->KeepAlive() && held_ == 0; }

/// What the line has, or a wait for more.
std::optional<base::Error> AnswerReader::Step() {
  const auto got = line_.Receive(buffer_.get() + held_, rules_.buffer - held_);
  switch (got.io) {
    case Transport::Io::kOk:
      if (rules_.stop.stop_requested()) return Make(base::Code::kCancelled, "cancelled");
      held_ += got.bytes;
      return Parse();
    case Transport::Io::kEnd:
      return OnEnd();
    case Transport::Io::kBroken:
      return ConnectionBroke(rules_.what);
    case Transport::Io::kWantRead:
    case Transport::Io::kWantWrite:
      if (Wait(got.io)) return std::nullopt;
      return Make(base::Code::kTimeout, rules_.sink && parser_->HeadDone()
                                            ? "the stream fell silent"
                                            : "no answer in time");
  }
  return ConnectionBroke(rules_.what);
}

bool AnswerReader::Wait(Transport::Io wanted) {
  if (rules_.sink) Pace();
  return line_.Await(wanted,
                     rules_.sink && parser_->HeadDone() ? heard_ + rules_.idle : rules_.until);
}

/// Small pieces that come faster than they can be waited for (an initial set) are gathered: one
/// wake-up in some milliseconds instead of one for each.
void AnswerReader::Pace() {
  const base::MonoTime now = std::chrono::steady_clock::now();
  quick_ = now - waited_ < kQuick ? quick_ + 1 : 0;
  if (quick_ > kQuickInARow) std::this_thread::sleep_for(kGather);
  waited_ = std::chrono::steady_clock::now();
}

std::optional<base::Error> AnswerReader::Parse() {
  heard_ = std::chrono::steady_clock::now();
  size_t used = 0;
  while (used < held_ && !parser_->Done()) {
    ErrorCode code;
    const size_t taken = parser_->Put(buffer_.get() + used, held_ - used, code);
    used += taken;
    if (parser_->EndedBySink()) return Make(base::Code::kCancelled, "ended by its reader");
    if (parser_->TooLarge())
      return Make(base::Code::kInvalid, fmt::format("the answer is over {} bytes", rules_.limit),
                  "TooLarge");
    if (code) return ConnectionBroke(rules_.what);
    if (parser_->Interim()) {
      if (++interim_ > kMostInterim) return ConnectionBroke(rules_.what);
      parser_ = std::make_unique<Parser>(rules_);
    }
    if (taken == 0) break;
  }
  held_ -= used;
  if (held_ > 0) std::memmove(buffer_.get(), buffer_.get() + used, held_);
  // A head, or a chunk's, that does not end.
  if (held_ == rules_.buffer) return ConnectionBroke(rules_.what);
  return std::nullopt;
}

/// Without a length the end of the connection is the end of the body; over TLS only if the peer
/// says so (Transport tells no other end).
std::optional<base::Error> AnswerReader::OnEnd() {
  if (parser_->PutEnd()) return std::nullopt;
  return ConnectionBroke(rules_.what);
}

}  // namespace http
