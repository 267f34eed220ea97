#pragma once

#include <string>

#include "http/client/web_socket.hpp"
#include "support/exec_server.hpp"

/// A server whose sessions say hello on channel 1 and close.
inline void PlayHello(support::ExecServer* server) {
  const auto talk = [](support::ServerSocket& socket) {
    socket.Send('\1', "hello");
    socket.Close();
  };
  server->Play({{.talk = talk}, {.talk = talk}});
}
/// What one session with it says, through `proxy` unless that is empty; or the error.
inline std::string HelloFrom(const support::ExecServer& server, const std::string& proxy) {
  std::string heard;
  const auto end =
      http::RunWebSocket({.base_url = server.Url(), .ca_pem = server.Ca(), .proxy_url = proxy},
                         {.target = "/exec", .subprotocols = {"v5.channel.k8s.io"}},
                         {.next = {},
                          .heard = [&](std::string_view message) -> base::Result<http::Heard> {
                            heard += message;
                            return http::Heard::kMore;
                          }},
                         {.deadline = base::Seconds{10}});
  return end ? heard : end.error().message;
}
