#include "http/stream_call.hpp"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/optional.hpp>
#include <limits>
#include <thread>
#include <vector>

#include "http/line.hpp"

namespace http {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
using ErrorCode = boost::system::error_code;

constexpr size_t kBuffer = 64 << 10;
constexpr uint32_t kHeadLimit = 64 << 10;
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

class StreamCall {
 public:
  StreamCall(const DirectServer& server, const Request& request, const CallOptions& call,
             const BodySink& sink)
      : server_(server),
        request_(request),
        call_(call),
        sink_(sink),
        buffer_(kBuffer),
        what_(CallText(server, request)) {
    parser_.header_limit(kHeadLimit);
    // Not boost::none: Boost 1.74 compares a Content-Length with the empty optional's storage, and
    // now and then refuses an answer for it.
    parser_.body_limit(std::numeric_limits<uint64_t>::max());
    parser_.eager(true);
    parser_.get().body().take = [this](std::string_view bytes) { return Take(bytes); };
  }

  base::Result<Response> Run() {
    if (call_.stop.stop_requested()) return Cancelled();
    const auto composed = ComposeRequest(server_, request_);
    if (!composed) return composed.error();
    const base::MonoTime head_until = std::chrono::steady_clock::now() + call_.deadline;
    auto line = Line::Dial(server_, what_, head_until, call_.stop);
    if (!line) return std::move(line).error();
    const std::stop_callback wake(call_.stop, [&] { (*line)->Interrupt(); });
    if (!(*line)->SendAll(*composed, head_until)) Fail(ConnectionBroke(what_));
    while (!error_ && !parser_.is_done()) Step(**line, head_until);
    if (error_ && call_.stop.stop_requested()) return Cancelled();
    if (error_) return *std::move(error_);
    ReadHead();
    return std::move(head_);
  }

 private:
  base::Error Make(base::Code code, std::string_view why, const char* reason = "") const {
    return base::MakeError(code, what_ + ": " + std::string(why), reason);
  }
  base::Error Cancelled() const { return Make(base::Code::kCancelled, "cancelled"); }
  void Fail(base::Error error) { error_ = std::move(error); }

  /// What the line has, or a wait for more.
  void Step(Line& line, Line::Until head_until) {
    const auto got = line.Receive(buffer_.data() + held_, buffer_.size() - held_);
    switch (got.io) {
      case Transport::Io::kOk:
        if (call_.stop.stop_requested()) return Fail(Cancelled());
        held_ += got.bytes;
        return Parse();
      case Transport::Io::kEnd:
        return OnEnd();
      case Transport::Io::kBroken:
        return Fail(ConnectionBroke(what_));
      case Transport::Io::kWantRead:
      case Transport::Io::kWantWrite:
        Pace();
        if (line.Await(got.io, parser_.is_header_done() ? heard_ + call_.idle : head_until)) return;
        Fail(Make(base::Code::kTimeout,
                  parser_.is_header_done() ? "the stream fell silent" : "no answer in time"));
    }
  }

  /// Small pieces that come faster than they can be waited for (an initial set) are gathered: one
  /// wake-up a millisecond instead of one for each.
  void Pace() {
    const base::MonoTime now = std::chrono::steady_clock::now();
    quick_ = now - waited_ < kQuick ? quick_ + 1 : 0;
    if (quick_ > kQuickInARow) std::this_thread::sleep_for(kGather);
    waited_ = std::chrono::steady_clock::now();
  }

  void Parse() {
    heard_ = std::chrono::steady_clock::now();
    size_t used = 0;
    while (used < held_ && !parser_.is_done()) {
      ErrorCode code;
      const size_t taken = parser_.put(net::buffer(buffer_.data() + used, held_ - used), code);
      used += taken;
      if (ended_by_reader_) return Fail(Make(base::Code::kCancelled, "ended by its reader"));
      if (too_large_)
        return Fail(Make(base::Code::kInvalid,
                         fmt::format("the answer is over {} bytes", server_.response_limit),
                         "TooLarge"));
      if (code == beast::http::error::need_more) break;
      if (code) return Fail(ConnectionBroke(what_));
      if (taken == 0) break;
    }
    held_ -= used;
    if (held_ > 0)
      std::move(buffer_.begin() + used, buffer_.begin() + used + held_, buffer_.begin());
    // A chunk's head that does not end.
    if (held_ == buffer_.size()) Fail(ConnectionBroke(what_));
  }

  void ReadHead() {
    if (head_.status != 0) return;
    head_.status = static_cast<int>(parser_.get().result_int());
    for (const auto& field : parser_.get())
      head_.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }

  bool Take(std::string_view bytes) {
    ReadHead();
    if (head_.status >= 200 && head_.status < 300) {
      ended_by_reader_ = !sink_(bytes);
      return !ended_by_reader_;
    }
    too_large_ = head_.body.size() + bytes.size() > server_.response_limit;
    if (!too_large_) head_.body += bytes;
    return !too_large_;
  }

  /// Without a length the end of the connection is the end of the body; over TLS only if the peer
  /// says so (Transport tells no other end).
  void OnEnd() {
    ErrorCode partial;
    if (parser_.is_header_done()) parser_.put_eof(partial);
    if (partial || !parser_.is_done()) Fail(ConnectionBroke(what_));
  }

  const DirectServer& server_;
  const Request& request_;
  const CallOptions& call_;
  const BodySink& sink_;
  std::vector<char> buffer_;
  size_t held_ = 0;  ///< Bytes of buffer_ that the parser has not taken.
  const std::string what_;
  beast::http::parser<false, PassedBody> parser_;
  Response head_;
  base::MonoTime heard_{};
  base::MonoTime waited_{};  ///< When the last wait for more bytes began,
  int quick_ = 0;            ///< and how many in a row were short.
  std::optional<base::Error> error_;
  bool ended_by_reader_ = false;
  bool too_large_ = false;
};

}  // namespace

base::Result<Response> RunStream(const DirectServer& server, const Request& request,
                                 const CallOptions& call, const BodySink& sink) {
  try {
    StreamCall running(server, request, call, sink);
    return running.Run();
  } catch (const std::exception& error) {
    return base::MakeError(base::Code::kInternal, std::string("a stream failed: ") + error.what());
  }
}

}  // namespace http
