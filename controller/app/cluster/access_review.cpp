#include "app/cluster/access_review.hpp"

#include "base/sha256.hpp"

namespace app {
namespace {

using codec::Json;

constexpr base::Seconds kYes{60};
constexpr base::Seconds kNo{30};
constexpr size_t kRemembered = 256;

base::Result<Json> Ask(kube::Client& client, const std::string& path, const Json& review) {
  auto answer = client.PostRaw(path, codec::Dump(review), {.deadline = base::Seconds{10}});
  if (!answer) return std::move(answer).error();
  auto json = codec::ParseJson(*answer);
  if (!json) return std::move(json).error();
  return codec::GetMember(*json, "status");
}

}  // namespace

base::Status ReviewAccess(kube::Client& client, const std::string& token, const Json& asked,
                          const std::string& what) {
  if (token.empty())
    return base::MakeError(base::Code::kUnauthorized,
                           "a bearer token of the Kubernetes API is needed");
  const auto who = Ask(client, "/apis/authentication.k8s.io/v1/tokenreviews",
                       {{"apiVersion", "authentication.k8s.io/v1"},
                        {"kind", "TokenReview"},
                        {"spec", {{"token", token}}}});
  if (!who)
    return base::MakeError(base::Code::kUnavailable,
                           "the token cannot be checked now: " + who.error().message);
  if (!codec::GetBool(*who, "authenticated"))
    return base::MakeError(base::Code::kUnauthorized, "the token is not valid");
  const Json& user = codec::GetMember(*who, "user");
  Json spec = asked;
  spec["user"] = codec::GetString(user, "username");
  if (const Json& groups = codec::GetMember(user, "groups"); groups.is_array())
    spec["groups"] = groups;
  const auto may = Ask(client, "/apis/authorization.k8s.io/v1/subjectaccessreviews",
                       {{"apiVersion", "authorization.k8s.io/v1"},
                        {"kind", "SubjectAccessReview"},
                        {"spec", std::move(spec)}});
  if (!may)
    return base::MakeError(base::Code::kUnavailable,
                           "access cannot be checked now: " + may.error().message);
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
      client_, token, {{"nonResourceAttributes", {{"verb", "get"}, {"path", "/metrics"}}}},
      "get on the path /metrics (ClusterRole workspace-operator-metrics-reader)");
  if (!answer && answer.error().code == base::Code::kUnavailable) return answer;
  const std::lock_guard lock(mutex_);
  std::erase_if(known_, [&](const auto& entry) { return entry.second.until <= now; });
  if (known_.size() >= kRemembered) known_.erase(known_.begin());
  known_[hash] = {answer, now + (answer ? kYes : kNo)};
  return answer;
}

}  // namespace app
