#include "app/cluster/reviews.hpp"

#include <fmt/format.h>

#include "base/log.hpp"

namespace app {
namespace {

using codec::Json;

constexpr base::Millis kCall{10'000};

/// The words that everybody is shown: who sent a token, who looks at /readyz, who reads the log.
std::string Missing(const char* resource) {
  return fmt::format(
      "the API server forbids the operator's service account to create {}, so the tokens of "
      "Pods and of people cannot be checked; a cluster admin must bind the ClusterRole "
      "system:auth-delegator to it",
      resource);
}

base::Error Forbidden(const char* resource) {
  base::Error error =
      base::MakeError(base::Code::kUnavailable, Missing(resource), "ReviewsForbidden");
  error.retry_after = Reviews::kPause;
  return error;
}

}  // namespace

base::Result<Json> Reviews::Token(Json spec, std::stop_token stop) {
  return Ask(token_, std::move(spec), std::move(stop));
}

base::Result<Json> Reviews::Access(Json spec, std::stop_token stop) {
  return Ask(access_, std::move(spec), std::move(stop));
}

base::Result<Json> Reviews::Ask(Right& right, Json spec, std::stop_token stop) {
  if (auto refused = Refusal(right)) return *std::move(refused);
  const std::string_view path = right.path;  // /apis/GROUP/VERSION/RESOURCE
  const Json review{{"apiVersion", path.substr(6, path.rfind('/') - 6)},
                    {"kind", right.kind},
                    {"spec", std::move(spec)}};
  auto answer = client_.PostRaw(right.path, codec::Dump(review), {.deadline = kCall, .stop = stop});
  const bool forbidden = !answer && answer.error().code == base::Code::kForbidden;
  if (answer || forbidden) Note(right, forbidden);
  if (forbidden) return Forbidden(right.resource);
  if (!answer) return base::MakeError(base::Code::kUnavailable, answer.error().message);
  auto json = codec::ParseJson(*answer, {.reject_duplicate_keys = false});
  if (!json) return std::move(json).error();
  return codec::GetMember(*json, "status");
}

void Reviews::Note(Right& right, bool forbidden) {
  const base::MonoTime now = clock_.Read().mono;
  const std::lock_guard lock(mutex_);
  const bool stood = right.Stands(now);
  right.needed = now;
  right.refused = forbidden ? std::optional(now) : std::nullopt;
  if (forbidden && !stood)
    base::LogError("tokens cannot be checked", {{"cause", Missing(right.resource)}});
  if (!forbidden && stood)
    base::LogInfo("tokens can be checked again", {{"resource", right.resource}});
}

std::optional<base::Error> Reviews::Refusal(Right& right) {
  const base::MonoTime now = clock_.Read().mono;
  const std::lock_guard lock(mutex_);
  if (!right.refused || now >= *right.refused + kPause) return std::nullopt;
  right.needed = now;
  return Forbidden(right.resource);
}

std::optional<base::Error> Reviews::TokenRefusal() { return Refusal(token_); }

std::optional<std::string> Reviews::TokenProblem() const {
  const base::MonoTime now = clock_.Read().mono;
  const std::lock_guard lock(mutex_);
  return token_.Stands(now) ? std::optional(Missing(token_.resource)) : std::nullopt;
}

std::optional<std::string> Reviews::Problem() const {
  const base::MonoTime now = clock_.Read().mono;
  const std::lock_guard lock(mutex_);
  for (const Right* right : {&token_, &access_})
    if (right->Stands(now)) return Missing(right->resource);
  return std::nullopt;
}

}  // namespace app
