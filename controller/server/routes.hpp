#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/operator_server.hpp"

/// Private to server/: the canonical route table and what its handlers work with.
namespace server {

struct Context {
  fleet::HeartbeatTable& table;
  const base::Clock& clock;
  ServerPorts ports;
  LeaderLink leader{ports.leader};
};

/// One request with the values of its route's placeholders, in order.
struct Call {
  http::ServerRequest& in;
  std::vector<std::string> values;
  http::Responder& out;
};

struct Route {
  std::string_view method;
  std::string_view pattern;  ///< Segments in braces are placeholders.
  http::Mode mode;
  bool leader;  ///< Only the leader can answer: other replicas pass it on.
  bool agent;   ///< Called by agents: without a bearer token it is refused before the body is read.
  void (*handle)(Context&, Call&);
};

/// Every endpoint of the operator's API; docs/reference/http-api.md follows it.
std::span<const Route> Routes();

// registry_routes.cpp
/// Whose token was sent. kUnavailable with reason TokenReviewPending (503) while the Kubernetes API
/// is asked about it, ReviewsForbidden (503) when it may not be asked: never let in before.
base::Result<fleet::Slot> AuthenticateAgent(Context& context, const Call& call, base::MonoTime now);
void HandleHeartbeat(Context& context, Call& call);
void HandleRegister(Context& context, Call& call);
// plugin_routes.cpp
void HandleListPlugins(Context& context, Call& call);
void HandleDeclarePlugin(Context& context, Call& call);
void HandleWithdrawPlugin(Context& context, Call& call);
// download_route.cpp
void HandleDownload(Context& context, Call& call);
// probe_routes.cpp
void HandleHealth(Context& context, Call& call);
void HandleReady(Context& context, Call& call);
void HandleMetrics(Context& context, Call& call);
void HandleBuildInfo(Context& context, Call& call);

}  // namespace server
