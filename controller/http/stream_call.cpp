#include "http/stream_call.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/optional.hpp>
#include <limits>
#include <thread>
#include <vector>

namespace http {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
using ErrorCode = boost::system::error_code;
using Tcp = net::ip::tcp;

constexpr size_t kBuffer = 64 << 10;
constexpr uint32_t kHeadLimit = 64 << 10;
constexpr std::chrono::microseconds kQuick{2'000};
constexpr int kQuickInARow = 32;
constexpr std::chrono::microseconds kGather{1'000};

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

bool IsPlain(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

class StreamCall {
 public:
  StreamCall(const StreamServer& server, const Request& request, const CallOptions& call,
             const BodySink& sink)
      : server_(server),
        request_(request),
        call_(call),
        sink_(sink),
        context_(net::ssl::context::tls_client),
        dialer_(io_),
        timer_(io_),
        buffer_(kBuffer),
        what_(fmt::format("{} {}{}", request.method, server.place.Authority(),
                          request.target.substr(0, request.target.find('?')))) {
    if (server.tls) ApplyClientTls(*server.tls, context_.native_handle());
    stream_.emplace(io_, context_);
    parser_.header_limit(kHeadLimit);
    // Not boost::none: Boost 1.74 compares a Content-Length with the empty optional's storage, and
    // now and then refuses an answer for it.
    parser_.body_limit(std::numeric_limits<uint64_t>::max());
    parser_.eager(true);
    parser_.get().body().take = [this](std::string_view bytes) { return Take(bytes); };
  }

  base::Result<Response> Run() {
    if (call_.stop.stop_requested()) return Cancelled();
    if (auto written = Compose(); !written) return std::move(written).error();
    timer_.expires_after(call_.deadline);
    AwaitTimer();
    const std::stop_callback wake(call_.stop,
                                  [this] { net::post(io_, [this] { Fail(Cancelled()); }); });
    const std::string& name = server_.name.empty() ? server_.place.host : server_.name;
    dialer_.Run(*stream_, server_.place, name, [this](Dialer::Step step, const ErrorCode& code) {
      if (finished_) return;
      if (code) return Fail(DialError(step, code));
      SendRequest();
    });
    io_.run();
    if (error_) return *std::move(error_);
    return std::move(head_);
  }

 private:
  base::Error Make(base::Code code, std::string_view why, const char* reason = "") const {
    return base::MakeError(code, what_ + ": " + std::string(why), reason);
  }
  base::Error Cancelled() const { return Make(base::Code::kCancelled, "cancelled"); }
  base::Error Broken() const {
    return Make(base::Code::kUnavailable, "the connection broke", "ConnectionLost");
  }
  base::Error DialError(Dialer::Step step, const ErrorCode& code) const {
    if (step == Dialer::Step::kConnect)
      return Make(base::Code::kUnavailable, "cannot connect: " + code.message(), "ConnectFailed");
    if (code.category() == net::error::get_ssl_category())
      return Make(base::Code::kUnauthorized,
                  "the TLS handshake failed; check the CA, the server's name and dates",
                  "TlsFailure");
    return Broken();
  }

  base::Status Compose() {
    const std::string host = server_.name.empty() ? server_.place.Authority() : server_.name;
    bool plain = IsPlain(request_.target) && request_.target.find(' ') == std::string::npos;
    out_ = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", request_.method, request_.target, host);
    for (const auto& [name, value] : request_.headers) {
      plain = plain && IsPlain(name) && IsPlain(value);
      out_ += fmt::format("{}: {}\r\n", name, value);
    }
    if (!plain) return Make(base::Code::kInvalid, "malformed request target or header");
    if (!request_.body.empty() || request_.method == "POST" || request_.method == "PUT" ||
        request_.method == "PATCH")
      out_ += fmt::format("Content-Length: {}\r\n", request_.body.size());
    (out_ += "\r\n") += request_.body;
    return {};
  }

  void AwaitTimer() {
    timer_.async_wait([this](const ErrorCode& code) {
      if (finished_ || code) return;
      if (!parser_.is_header_done()) return Fail(Make(base::Code::kTimeout, "no answer in time"));
      const auto silent_at = heard_ + call_.idle;
      if (std::chrono::steady_clock::now() >= silent_at)
        return Fail(Make(base::Code::kTimeout, "the stream fell silent"));
      timer_.expires_at(silent_at);
      AwaitTimer();
    });
  }

  void SendRequest() {
    const auto sent = [this](const ErrorCode& code, size_t) {
      if (finished_) return;
      if (code) return Fail(Broken());
      ErrorCode failed;
      stream_->next_layer().non_blocking(true, failed);
      if (failed) return Fail(Broken());
      ReadAll();
    };
    if (server_.place.tls)
      net::async_write(*stream_, net::buffer(out_), sent);
    else
      net::async_write(stream_->next_layer(), net::buffer(out_), sent);
  }

  /// All that the socket has, then waits for more.
  void ReadAll() {
    while (!finished_) {
      ErrorCode code;
      const auto room = net::buffer(buffer_.data() + held_, buffer_.size() - held_);
      const size_t count = server_.place.tls ? stream_->read_some(room, code)
                                             : stream_->next_layer().read_some(room, code);
      if (code == net::error::would_block || code == net::error::try_again) break;
      if (code) return OnEnd(code);
      if (call_.stop.stop_requested()) return Fail(Cancelled());
      held_ += count;
      Parse();
    }
    if (finished_) return;
    Pace();
    stream_->next_layer().async_wait(Tcp::socket::wait_read, [this](const ErrorCode& code) {
      if (finished_) return;
      if (code) return Fail(Broken());
      ReadAll();
    });
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
    const bool had_head = parser_.is_header_done();
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
      if (code) return Fail(Broken());
      if (taken == 0) break;
    }
    held_ -= used;
    if (held_ > 0)
      std::move(buffer_.begin() + used, buffer_.begin() + used + held_, buffer_.begin());
    if (!had_head && parser_.is_header_done()) OnHead();
    if (parser_.is_done()) return Succeed();
    if (held_ == buffer_.size()) Fail(Broken());  // A chunk's head that does not end.
  }

  /// The wait for the head is over; from now on silence is what counts.
  void OnHead() {
    ReadHead();
    timer_.expires_at(heard_ + call_.idle);
    AwaitTimer();
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
  /// says so.
  void OnEnd(const ErrorCode& code) {
    if (code != net::error::eof || !parser_.is_header_done()) return Fail(Broken());
    ErrorCode partial;
    parser_.put_eof(partial);
    if (partial || !parser_.is_done()) return Fail(Broken());
    Succeed();
  }

  void Succeed() {
    ReadHead();
    Finish();
  }
  void Fail(base::Error error) {
    if (finished_) return;
    error_ = std::move(error);
    Finish();
  }
  void Finish() {
    if (finished_) return;
    finished_ = true;
    ErrorCode ignored;
    dialer_.Cancel();
    stream_->next_layer().close(ignored);
    timer_.cancel();
  }

  const StreamServer& server_;
  const Request& request_;
  const CallOptions& call_;
  const BodySink& sink_;
  net::io_context io_{1};
  net::ssl::context context_;
  Dialer dialer_;
  net::steady_timer timer_;
  std::optional<Dialer::TlsStream> stream_;
  std::vector<char> buffer_;
  size_t held_ = 0;  ///< Bytes of buffer_ that the parser has not taken.
  const std::string what_;
  std::string out_;
  beast::http::parser<false, PassedBody> parser_;
  Response head_;
  base::MonoTime heard_{};
  base::MonoTime waited_{};  ///< When the last wait for more bytes began,
  int quick_ = 0;            ///< and how many in a row were short.
  std::optional<base::Error> error_;
  bool ended_by_reader_ = false;
  bool too_large_ = false;
  bool finished_ = false;
};

}  // namespace

base::Result<Response> RunStream(const StreamServer& server, const Request& request,
                                 const CallOptions& call, const BodySink& sink) {
  try {
    StreamCall running(server, request, call, sink);
    return running.Run();
  } catch (const std::exception& error) {
    return base::MakeError(base::Code::kInternal, std::string("a stream failed: ") + error.what());
  }
}

}  // namespace http
