#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_source.hpp"
#include "base/result.hpp"
#include "http/client/client.hpp"
#include "http/message.hpp"

namespace http {

struct WebSocketRequest {
  std::string target;  ///< Path and query.
  Headers headers = {};
  std::vector<std::string> subprotocols = {};  ///< Offered, the best first.
  size_t message_limit = 1 << 20;              ///< Largest message that is taken.
  base::Millis linger{2'000};                  ///< After kLast, for the peer to close.
};

enum class Heard {
  kMore,  ///< Go on.
  kLast   ///< What was waited for is here; what still comes within `linger` is heard too.
};

/// The two directions of a session. Both run on the calling thread, never at once.
struct WebSocketTalk {
  /// Next binary message to send; empty: nothing more (the connection stays open). Called only when
  /// the one before it has left: back-pressure. Its error ends the session.
  base::ByteSource next;
  /// Each message that came, whole. Its error ends the session.
  std::function<base::Result<Heard>(std::string_view message)> heard;
  /// What the peer chose of the subprotocols, before anything is sent.
  std::function<base::Status(const std::string& subprotocol)> opened = nullptr;
};

struct WebSocketEnd {
  std::optional<Response> refused;  ///< The answer, if the peer did not upgrade.
  bool closed = false;              ///< The peer closed with a close frame (or kLast was said).
  uint16_t close_code = 0;          ///< Its code, e.g. 1000.
};

/// One WebSocket session (RFC 6455, Boost.Beast) from upgrade to end, on the calling thread; https
/// base URLs only, with the trust and identity of `where`. CallOptions::deadline covers everything;
/// cancellation takes milliseconds (name look-ups excepted). Errors: as http::Client, and
/// kUnavailable with reason ConnectionLost when it broke after the upgrade.
base::Result<WebSocketEnd> RunWebSocket(const ClientOptions& where, const WebSocketRequest& request,
                                        const WebSocketTalk& talk, const CallOptions& call);

}  // namespace http
