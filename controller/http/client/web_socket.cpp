#include "http/client/web_socket.hpp"

#include <fmt/format.h>

#include <utility>
// Asio 1.74 needs <utility> before it.
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>

#include "http/client/client_tls.hpp"
#include "http/client/dialer.hpp"

namespace http {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace websocket = boost::beast::websocket;
using ErrorCode = boost::system::error_code;
using Tcp = net::ip::tcp;

constexpr size_t kWriteBuffer = 64 << 10;

/// Where a session is, for its error messages and their codes.
enum class Step { kTls, kUpgrade, kTalk };

class Session {
 public:
  Session(Route route, const ClientOptions& where, const ClientTls& tls,
          const WebSocketRequest& request, const WebSocketTalk& talk)
      : route_(std::move(route)),
        name_(where.server_name.empty() ? route_.place.host : where.server_name),
        request_(request),
        talk_(talk),
        context_(net::ssl::context::tls_client),
        dialer_(io_, route_),
        timer_(io_),
        what_(fmt::format("upgrade {}{}", route_.place.Authority(),
                          request.target.substr(0, request.target.find('?')))) {
    ApplyClientTls(tls, context_.native_handle());
    stream_.emplace(io_, context_);
  }

  base::Result<WebSocketEnd> Run(const CallOptions& call) {
    if (call.stop.stop_requested()) return Make(base::Code::kCancelled, "cancelled");
    timer_.expires_after(call.deadline);
    AwaitTimer();
    const std::stop_callback wake(call.stop, [this] {
      net::post(io_, [this] { Fail(Make(base::Code::kCancelled, "cancelled")); });
    });
    Connect();
    io_.run();
    if (error_) return *std::move(error_);
    return end_;
  }

 private:
  using Stream = websocket::stream<net::ssl::stream<Tcp::socket>>;

  base::Error Make(base::Code code, std::string_view why, const char* reason = "") const {
    return base::MakeError(code, fmt::format("{}: {}", what_, why), reason);
  }

  Tcp::socket& Socket() { return stream_->next_layer().next_layer(); }

  /// Ends everything that is under way; the first cause counts.
  void Finish() {
    if (finished_) return;
    finished_ = true;
    ErrorCode ignored;
    dialer_.Cancel();
    Socket().close(ignored);
    timer_.cancel();
  }
  void Fail(base::Error error) {
    if (finished_) return;
    error_ = std::move(error);
    Finish();
  }

  base::Error ErrorOf(Step step, const ErrorCode& code) const {
    using base::Code;
    switch (step) {
      case Step::kTls:
        if (code.category() == net::error::get_ssl_category())
          return Make(Code::kUnauthorized, kTlsFailureText, "TlsFailure");
        return Make(Code::kUnavailable, "the connection broke", "ConnectionLost");
      case Step::kUpgrade:
        return Make(Code::kUnavailable, "no usable answer to the upgrade: " + code.message(),
                    "UpgradeFailed");
      case Step::kTalk:
        if (code == websocket::error::message_too_big || code == websocket::error::buffer_overflow)
          return Make(Code::kInvalid,
                      fmt::format("a message over {} bytes", request_.message_limit), "TooLarge");
        return Make(Code::kUnavailable, "the connection broke: " + code.message(),
                    "ConnectionLost");
    }
    return Make(Code::kInternal, "unknown step");
  }

  /// Wraps a handler: errors end the session, and nothing runs after its end.
  template <typename Next>
  auto Then(Step step, Next next) {
    return [this, step, next](const ErrorCode& code, auto&&...) {
      if (finished_) return;
      if (code) return Fail(ErrorOf(step, code));
      next();
    };
  }

  void AwaitTimer() {
    timer_.async_wait([this](const ErrorCode& code) {
      if (finished_ || code) return;
      if (!lingering_) return Fail(Make(base::Code::kTimeout, "no end in time"));
      Finish();
    });
  }

  void Connect() {
    dialer_.Run(Socket(), [this](const std::string& why) {
      if (finished_) return;
      if (!why.empty()) return Fail(Make(base::Code::kUnavailable, why, "ConnectFailed"));
      Secure();
    });
  }

  void Secure() {
    auto& tls = stream_->next_layer();
    ErrorCode ignored;
    net::ip::make_address(name_, ignored);
    if (ignored) SSL_set_tlsext_host_name(tls.native_handle(), name_.c_str());
    tls.set_verify_mode(net::ssl::verify_peer, ignored);
    tls.set_verify_callback(net::ssl::host_name_verification(name_), ignored);
    tls.async_handshake(net::ssl::stream_base::client, Then(Step::kTls, [this] { Upgrade(); }));
  }

  void Upgrade() {
    stream_->read_message_max(request_.message_limit);
    stream_->write_buffer_bytes(kWriteBuffer);
    stream_->auto_fragment(false);
    stream_->binary(true);
    stream_->set_option(websocket::stream_base::decorator([this](websocket::request_type& head) {
      for (const auto& [name, value] : request_.headers) head.insert(name, value);
      if (!request_.subprotocols.empty())
        head.set("Sec-WebSocket-Protocol",
                 fmt::format("{}", fmt::join(request_.subprotocols, ", ")));
    }));
    stream_->async_handshake(answer_, route_.place.Authority(), request_.target,
                             [this](const ErrorCode& code) {
                               if (finished_) return;
                               if (code == websocket::error::upgrade_declined) return Refused();
                               if (code) return Fail(ErrorOf(Step::kUpgrade, code));
                               Opened();
                             });
  }

  void Refused() {
    Response response;
    response.status = static_cast<int>(answer_.result_int());
    for (const auto& field : answer_)
      response.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
    response.body = answer_.body();
    end_.refused = std::move(response);
    Finish();
  }

  void Opened() {
    const std::string chosen(answer_["Sec-WebSocket-Protocol"]);
    if (talk_.opened)
      if (auto ok = talk_.opened(chosen); !ok) return Fail(std::move(ok).error());
    Read();
    Write();
  }

  void Read() {
    stream_->async_read(buffer_, [this](const ErrorCode& code, size_t) {
      if (finished_) return;
      if (code) return NoMore(code);
      const auto bytes = buffer_.data();
      auto heard = talk_.heard({static_cast<const char*>(bytes.data()), bytes.size()});
      buffer_.consume(buffer_.size());
      if (!heard) return Fail(std::move(heard).error());
      if (*heard == Heard::kLast && !lingering_) {
        lingering_ = true;
        end_.closed = true;
        timer_.expires_after(request_.linger);
        AwaitTimer();
      }
      Read();
    });
  }

  void NoMore(const ErrorCode& code) {
    if (code == websocket::error::closed) {
      end_.closed = true;
      end_.close_code = stream_->reason().code;
      return Finish();
    }
    if (lingering_) return Finish();
    Fail(ErrorOf(Step::kTalk, code));
  }

  void Write() {
    if (!talk_.next) return;
    auto message = talk_.next();
    if (!message) return Fail(std::move(message).error());
    if (message->empty()) return;
    sending_ = *std::move(message);
    stream_->async_write(net::buffer(sending_), [this](const ErrorCode& code, size_t) {
      // A peer that closes while we still send says why in what it has sent: the reader finds it.
      if (finished_ || code) return;
      Write();
    });
  }

  const Route route_;
  const std::string name_;  ///< That the server's certificate must bear.
  const WebSocketRequest& request_;
  const WebSocketTalk& talk_;
  net::io_context io_{1};
  net::ssl::context context_;
  Dialer dialer_;
  net::steady_timer timer_;
  const std::string what_;
  std::optional<Stream> stream_;
  websocket::response_type answer_;
  beast::flat_buffer buffer_;
  std::string sending_;
  WebSocketEnd end_;
  std::optional<base::Error> error_;
  bool lingering_ = false;
  bool finished_ = false;
};

}  // namespace

base::Result<WebSocketEnd> RunWebSocket(const ClientOptions& where, const WebSocketRequest& request,
                                        const WebSocketTalk& talk, const CallOptions& call) {
  auto route = RouteTo(where.base_url, where.proxy_url);
  if (!route) return route.error();
  if (!route->place.tls)
    return base::MakeError(
        base::Code::kInvalid,
        "a WebSocket session needs an https:// URL, not `" + where.base_url + "`");
  auto tls = MakeClientTls(where);
  if (!tls) return tls.error();
  try {
    Session session(*std::move(route), where, **tls, request, talk);
    return session.Run(call);
  } catch (const std::exception& error) {
    return base::MakeError(base::Code::kInternal,
                           std::string("a WebSocket session failed: ") + error.what());
  }
}

}  // namespace http
