#include <fmt/format.h>

#include "protocol/heartbeat.hpp"
#include "server/answers.hpp"
#include "server/routes.hpp"

namespace server {
namespace {

/// Who sends, within its rate; or the refusal.
base::Result<fleet::Slot> Admit(Context& context, Call& call, base::MonoTime now) {
  auto slot = AuthenticateAgent(context, call, now);
  if (!slot) return slot;
  if (auto admitted = context.table.Admit(*slot, now); !admitted) return admitted.error();
  return slot;
}

http::Response Refusal(const base::Error& error) {
  switch (error.code) {
    case base::Code::kUnauthorized:
      return ErrorResponse(error, "read the token again; it may have been rotated");
    case base::Code::kNotFound:  // its workspace went away between two steps: the token is void
      return Unauthorized("the token is not known");
    case base::Code::kForbidden:
      return ErrorResponse(error, "name the workspace whose token this is");
    case base::Code::kConflict:
      return ErrorResponse(error, "a newer report is held; go on with a higher sequence");
    default:
      return ErrorResponse(error);
  }
}

void Wake(Context& context, const fleet::Change& change) {
  if (change.Matters() && context.ports.wake) context.ports.wake(change.key);
}

}  // namespace

base::Result<fleet::Slot> AuthenticateAgent(Context& context, const Call& call,
                                            base::MonoTime now) {
  const auto token = BearerToken(call.in.request.headers);
  auto slot = context.table.Authenticate(token, now);
  // A leader that has just taken over checks Pods' tokens at once, not when its first passes are
  // done.
  if (slot || (slot.error().code != base::Code::kUnauthorized && slot.error().reason != "NotReady"))
    return slot;
  auto meanwhile = context.ports.review ? context.ports.review(token) : std::nullopt;
  if (!meanwhile) return slot;
  return *std::move(meanwhile);
}

void HandleHeartbeat(Context& context, Call& call) {
  thread_local protocol::Heartbeat heartbeat;  // its strings are used again by the next beat
  const base::Now now = context.clock.Read();
  const auto slot = Admit(context, call, now.mono);
  if (!slot) return call.out.Send(Refusal(slot.error()));
  if (auto status = protocol::DecodeHeartbeatInto(call.in.request.body, heartbeat); !status) {
    return call.out.Send(Refusal(status.error()));
  }
  const auto change = context.table.Record(*slot, heartbeat, now);
  if (!change) return call.out.Send(Refusal(change.error()));
  Wake(context, *change);
  call.out.Send(JsonResponse(200, context.table.Answer(*slot, heartbeat.answer_tag)));
}

void HandleRegister(Context& context, Call& call) {
  const base::Now now = context.clock.Read();
  const auto slot = Admit(context, call, now.mono);
  if (!slot) return call.out.Send(Refusal(slot.error()));
  auto body = protocol::DecodeRegister(call.in.request.body);
  if (!body) return call.out.Send(Refusal(body.error()));
  const auto change = context.table.RecordRegister(*slot, *body, now);
  if (!change) return call.out.Send(Refusal(change.error()));
  Wake(context, *change);
  if (const auto failing = context.table.GateFailure(*slot)) {
    const auto error = base::MakeError(base::Code::kInvalid,
                                       fmt::format("the platform gate fails: {}", failing->message),
                                       failing->reason.empty() ? "GateFailing" : failing->reason);
    return call.out.Send(ErrorResponse(
        error, "it is recorded; go on with heartbeats, the operator repairs what it can"));
  }
  call.out.Send(JsonResponse(200, context.table.Answer(*slot, body->heartbeat.answer_tag)));
}

}  // namespace server
