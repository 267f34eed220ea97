#include "app/cluster/access_review.hpp"

#include "base/sha256.hpp"

namespace app {
namespace {

using codec::Json;

constexpr base::Seconds kYes{60};
constexpr base::Seconds kNo{30};
constexpr size_t kRemembered = 256;

base::Error CannotSay(const char* what, const base::Error& error) {
  if (error.reason == "ReviewsForbidden") return error;
  return base::MakeError(base::Code::kUnavailable, what + error.message);
}

/// The spec of a SubjectAccessReview: all that authorizers go by. Scopes of a token, for instance,
/// stand in `extra` alone, and a webhook may decide by the uid.
Json AskedOf(const Json& user, Json spec) {
  spec["user"] = codec::GetString(user, "username");
  for (const char* field : {"uid", "groups", "extra"})
    if (const Json& value = codec::GetMember(user, field); !value.is_null()) spec[field] = value;
  return spec;
}

}  // namespace

base::Status ReviewAccess(Reviews& reviews, const std::string& token, const Json& asked,
                          const std::string& what) {
  if (token.empty())
    return base::MakeError(base::Code::kUnauthorized,
                           "a bearer token of the Kubernetes API is needed");
  const auto who = reviews.Token({{"token", token}});
  if (!who) return CannotSay("the token cannot be checked now: ", who.error());
  if (!codec::GetBool(*who, "authenticated"))
    return base::MakeError(base::Code::kUnauthorized, "the token is not valid");
  const Json& user = codec::GetMember(*who, "user");
  const auto may = reviews.Access(AskedOf(user, asked));
  if (!may) return CannotSay("access cannot be checked now: ", may.error());
  if (codec::GetBool(*may, "allowed")) return {};
  return base::MakeError(base::Code::kForbidden, what + " is needed");
}

base::Status ScrapeAccess::Check(const std::string& token) {
  const std::string hash = base::Hex(base::Sha256Of(token));
  const base::MonoTime now = clock_.Read().mono;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = known_.find(hash); found != known_.end() && found->second.until > now)
      return found->second.answer;
  }
  base::Status answer = ReviewAccess(
      reviews_, token, {{"nonResourceAttributes", {{"verb", "get"}, {"path", "/metrics"}}}},
      "get on the path /metrics (ClusterRole workspace-operator-metrics-reader)");
  if (!answer && answer.error().code == base::Code::kUnavailable) return answer;
  const std::lock_guard lock(mutex_);
  std::erase_if(known_, [&](const auto& entry) { return entry.second.until <= now; });
  if (known_.size() >= kRemembered) known_.erase(known_.begin());
  known_[hash] = {answer, now + (answer ? kYes : kNo)};
  return answer;
}

}  // namespace app
