#include "server/operator_server.hpp"

#include <fmt/format.h>

#include <charconv>

#include "protocol/heartbeat.hpp"
#include "server/answers.hpp"
#include "server/routes.hpp"

namespace server {
namespace {

using http::Mode;

constexpr Route kRoutes[] = {
    {"POST", "/registry/heartbeat", Mode::kInline, true, true, HandleHeartbeat},
    {"POST", "/registry/register", Mode::kInline, true, true, HandleRegister},
    {"GET", "/workspaces/{id}/plugins/{name}/download", Mode::kWorker, true, true, HandleDownload},
    {"GET", "/workspaces/{id}/plugins", Mode::kWorker, true, false, HandleListPlugins},
    {"POST", "/workspaces/{id}/plugins", Mode::kWorker, true, false, HandleDeclarePlugin},
    {"DELETE", "/workspaces/{id}/plugins/{name}", Mode::kWorker, true, false, HandleWithdrawPlugin},
    {"GET", "/healthz", Mode::kInline, false, false, HandleHealth},
    {"GET", "/livez", Mode::kInline, false, false, HandleHealth},
    {"GET", "/readyz", Mode::kInline, false, false, HandleReady},
    {"GET", "/metrics", Mode::kWorker, false, false, HandleMetrics},
    {"GET", "/buildinfo", Mode::kInline, false, false, HandleBuildInfo},
};

/// Takes the next segment off a path; both start with '/'.
std::string_view NextSegment(std::string_view& path) {
  path.remove_prefix(1);
  const size_t slash = path.find('/');
  const std::string_view segment = path.substr(0, slash);
  path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash);
  return segment;
}

/// Undoes percent encoding; nothing if it is broken, empty, over 512 bytes, or hides a slash or a
/// control byte.
std::optional<std::string> DecodeSegment(std::string_view segment) {
  std::string out;
  for (size_t i = 0; i < segment.size(); ++i) {
    char c = segment[i];
    if (c == '%') {
      if (i + 2 >= segment.size()) return std::nullopt;
      uint8_t byte = 0;
      const char* begin = segment.data() + i + 1;
      const auto [end, error] = std::from_chars(begin, begin + 2, byte, 16);
      if (error != std::errc() || end != begin + 2) return std::nullopt;
      c = static_cast<char>(byte);
      i += 2;
    }
    if (c == '/' || static_cast<uint8_t>(c) < 0x20 || c == 0x7f) return std::nullopt;
    out += c;
  }
  if (out.empty() || out.size() > 512 || out == "." || out == "..") return std::nullopt;
  return out;
}

/// Whether `path` has the shape of `pattern`; `values` (if not null) receives the raw placeholders'
/// segments.
bool Match(std::string_view pattern, std::string_view path, std::vector<std::string_view>* values) {
  if (pattern == path && pattern.find('{') == std::string_view::npos) return true;
  while (!pattern.empty() && !path.empty()) {
    const std::string_view wanted = NextSegment(pattern);
    const std::string_view segment = NextSegment(path);
    if (wanted.starts_with('{')) {
      if (values != nullptr) values->push_back(segment);
    } else if (wanted != segment) {
      return false;
    }
  }
  return pattern.empty() && path.empty();
}

std::string_view PathOf(const http::Request& request) {
  const std::string_view target = request.target;
  const std::string_view path = target.substr(0, target.find('?'));
  return path.starts_with('/') ? path : std::string_view{};
}

const Route* FindRoute(const http::Request& request) {
  const std::string_view path = PathOf(request);
  if (path.empty()) return nullptr;
  for (const Route& route : kRoutes) {
    if (route.method == request.method && Match(route.pattern, path, nullptr)) return &route;
  }
  return nullptr;
}

http::Response NoRoute(const http::Request& request) {
  const std::string_view path = PathOf(request);
  std::string allow;
  for (const Route& route : kRoutes) {
    if (path.empty() || !Match(route.pattern, path, nullptr)) continue;
    if (!allow.empty()) allow += ", ";
    allow += route.method;
  }
  if (allow.empty()) {
    return ErrorResponse(404, "not_found", "there is no such endpoint",
                         "the endpoints are listed in docs/reference/http-api.md");
  }
  auto response = ErrorResponse(405, "method_not_allowed", "this endpoint has no such method",
                                fmt::format("use {}", allow));
  response.headers.emplace_back("Allow", allow);
  return response;
}

/// Refuses what its head already condemns, before a byte of the body is read.
std::optional<http::Response> CheckHead(const http::Request& head) {
  const Route* route = FindRoute(head);
  if (route == nullptr) return NoRoute(head);
  if (!route->agent) return std::nullopt;
  if (BearerToken(head.headers).empty()) return Unauthorized("no bearer token was sent");
  const std::string_view length = http::FindHeader(head.headers, "Content-Length");
  uint64_t bytes = 0;
  std::from_chars(length.data(), length.data() + length.size(), bytes);
  if (bytes <= protocol::kHeartbeatBytes) return std::nullopt;
  return ErrorResponse(413, "too_large",
                       fmt::format("the body is larger than {} bytes", protocol::kHeartbeatBytes),
                       "send a smaller inventory or shorter texts");
}

}  // namespace

std::span<const Route> Routes() { return kRoutes; }

struct OperatorServer::State {
  State(fleet::HeartbeatTable& table, const base::Clock& clock, ServerPorts ports)
      : context{table, clock, std::move(ports)} {}
  Context context;
};

OperatorServer::OperatorServer(fleet::HeartbeatTable& table, const base::Clock& clock,
                               ServerPorts ports)
    : state_(std::make_unique<State>(table, clock, std::move(ports))) {}

OperatorServer::~OperatorServer() = default;

http::Handlers OperatorServer::Handlers() {
  http::Handlers handlers;
  handlers.mode = [this](const http::Request& head) {
    const Route* route = FindRoute(head);
    if (route == nullptr) return Mode::kInline;
    return route->leader && !state_->context.leader.Ours() ? Mode::kWorker : route->mode;
  };
  handlers.head_check = CheckHead;
  handlers.handle = [this](http::ServerRequest&& request,
                           std::unique_ptr<http::Responder> responder) {
    Handle(std::move(request), std::move(responder));
  };
  return handlers;
}

void OperatorServer::Handle(http::ServerRequest&& request,
                            std::unique_ptr<http::Responder> responder) {
  const Route* route = FindRoute(request.request);
  if (route == nullptr) return responder->Send(NoRoute(request.request));
  if (route->leader && !state_->context.leader.Ours())
    return state_->context.leader.Pass(request, *responder);
  std::vector<std::string_view> raw;
  Match(route->pattern, PathOf(request.request), &raw);
  Call call{request, {}, *responder};
  for (const std::string_view segment : raw) {
    auto value = DecodeSegment(segment);
    if (!value) {
      return responder->Send(ErrorResponse(400, "bad_path", "a part of the path is malformed",
                                           "use the workspace's UID or namespace.name"));
    }
    call.values.push_back(std::move(*value));
  }
  route->handle(state_->context, call);
}

}  // namespace server
