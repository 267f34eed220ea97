#include "app/cluster/pod_tokens.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "base/base64.hpp"
#include "base/log.hpp"
#include "base/thread_name.hpp"
#include "box/pod/managed_pod.hpp"
#include "box/pod/pod_box.hpp"
#include "codec/json.hpp"

namespace app {
namespace {

using codec::Json;

constexpr size_t kMostDenied = 10'000;
constexpr base::Millis kDeniedFor{10'000};
constexpr base::Millis kCall{10'000};
constexpr base::Millis kPending{1'000};
constexpr base::Seconds kLongestTrust{3600};
constexpr base::Seconds kUnsaidTrust{600};

/// Three base64url parts, the first of which begins with {"
bool LooksLikeJwt(std::string_view token) {
  return token.starts_with("ey") && std::count(token.begin(), token.end(), '.') == 2 &&
         token.size() < 4096;
}

/// The `exp` that the token carries. Only asked of a token that the API has vouched for.
std::optional<int64_t> ExpiryOf(std::string_view token) {
  const size_t first = token.find('.');
  const size_t second = token.find('.', first + 1);
  std::string part(token.substr(first + 1, second - first - 1));
  std::replace(part.begin(), part.end(), '-', '+');
  std::replace(part.begin(), part.end(), '_', '/');
  part.append((4 - part.size() % 4) % 4, '=');
  const auto text = base::DecodeBase64(part);
  if (!text) return std::nullopt;
  const auto claims = codec::ParseJson(*text);
  if (!claims) return std::nullopt;
  const int64_t expiry = codec::GetInt(*claims, "exp");
  return expiry > 0 ? std::optional(expiry) : std::nullopt;
}

std::string FirstOf(const Json& extra, const char* name) {
  const Json& values = codec::GetMember(extra, name);
  return values.is_array() && !values.empty() && values[0].is_string()
             ? values[0].get<std::string>()
             : std::string();
}

base::Error Denied(std::string why) {
  return base::MakeError(base::Code::kUnauthorized, std::move(why), "TokenDenied");
}

}  // namespace

meta::ObjectKey PodTokens::WorkspaceOf(const kube::Pod& pod) {
  for (const meta::OwnerRef& owner : pod.meta.owners)
    if (owner.kind == "Workspace" && owner.api_version == api::kApiVersion)
      return {pod.meta.ns, owner.name};
  const auto label = pod.meta.labels.find(box::kWorkspaceLabel);
  return {pod.meta.ns, label == pod.meta.labels.end() ? "" : label->second};
}

bool PodTokens::IsBoxOf(const api::Workspace& workspace, const kube::Pod& pod) {
  const auto& spec = workspace.spec.box.pod;
  if (!spec || pod.meta.ns != workspace.meta.ns) return false;
  if (spec->pod_ref) return spec->pod_ref->name == pod.meta.name;
  return pod.meta.name == box::ManagedPodName(workspace.meta.name) &&
         std::any_of(pod.meta.owners.begin(), pod.meta.owners.end(),
                     [&](const auto& owner) { return owner.uid == workspace.meta.uid; });
}

std::optional<base::Error> PodTokens::Consider(std::string_view token) {
  if (!LooksLikeJwt(token)) return std::nullopt;
  const base::Sha256Digest hash = base::Sha256Of(token);
  const base::MonoTime now = clock_.Read().mono;
  const std::lock_guard lock(mutex_);
  if (const auto denied = denied_.find(hash); denied != denied_.end()) {
    if (now < denied->second) return std::nullopt;
    denied_.erase(denied);
  }
  if (auto refused = reviews_.TokenRefusal()) return refused;
  if (pending_.contains(hash)) {  // It keeps its place.
  } else if (waiting_.size() >= kMostWaiting || waiting_bytes_ + token.size() > kMostBytes) {
    ++counts_.turned_away;
  } else {
    pending_.insert(hash);
    waiting_.emplace_back(token);
    waiting_bytes_ += token.size();
    changed_.notify_one();
  }
  base::Error pending = base::MakeError(
      base::Code::kUnavailable, "the token is being checked; send again", "TokenReviewPending");
  pending.retry_after = kPending;
  return pending;
}

PodTokens::Counts PodTokens::Count() const {
  const std::lock_guard lock(mutex_);
  Counts counts = counts_;
  counts.waiting = pending_.size();
  return counts;
}

base::Status PodTokens::Run(std::stop_token stop) {
  std::vector<std::jthread> others;  // They end with `stop`, as this one.
  for (int i = 1; i < kReviewers; ++i)
    others.emplace_back([this, stop] {
      base::NameThread("pod-tokens");
      Work(stop);
    });
  Work(stop);
  return {};
}

void PodTokens::Work(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    std::string token;
    {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [this] { return !waiting_.empty(); })) return;
      token = std::move(waiting_.front());
      waiting_.pop_front();
      waiting_bytes_ -= token.size();
    }
    Review(token, stop);
  }
}

void PodTokens::Review(const std::string& token, std::stop_token stop) {
  const base::Sha256Digest hash = base::Sha256Of(token);
  const auto verdict = Decide(token, stop);
  if (verdict) table_.AddReviewedToken(verdict->uid, hash, verdict->until);
  // That we may not ask is no fault of this token's: Reviews says it, once.
  const bool refused = !verdict && verdict.error().reason == "ReviewsForbidden";
  TellRefused(refused);
  if (!verdict && !refused && !stop.stop_requested())
    base::LogWarning("a service account's token was not accepted",
                     {{"cause", verdict.error().message}});
  const std::lock_guard lock(mutex_);
  pending_.erase(hash);
  // What cannot be checked now is not denied: the agent sends it again.
  const bool denied = !verdict && verdict.error().code == base::Code::kUnauthorized;
  ++(verdict ? counts_.accepted : denied ? counts_.denied : counts_.unanswered);
  if (!denied) return;
  if (denied_.size() >= kMostDenied) denied_.clear();
  denied_[hash] = clock_.Read().mono + kDeniedFor;
}

void PodTokens::TellRefused(bool refused) {
  const base::MonoTime now = clock_.Read().mono;
  {
    const std::lock_guard lock(mutex_);
    if (!refused && !reviews_.TokenProblem()) told_refused_.reset();
    if (!refused || (told_refused_ && now < *told_refused_ + Reviews::kRemembered)) return;
    told_refused_ = now;
  }
  refused_();
}

/// The live Pod that the token is bound to.
base::Result<kube::Pod> PodTokens::BoundPod(const std::string& token, std::stop_token stop) {
  const auto reviewed =
      reviews_.Token({{"token", token}, {"audiences", Json::array({box::kTokenAudience})}}, stop);
  if (!reviewed) return reviewed.error();
  const Json& status = *reviewed;
  if (!codec::GetBool(status, "authenticated"))
    return Denied("it is not valid: " + codec::GetString(status, "error").substr(0, 200));
  // A server that does not know audiences answers without them, or with its own: then it has not
  // checked ours, and the token may be one that any Pod has.
  const Json& audiences = codec::GetMember(status, "audiences");
  if (!audiences.is_array() ||
      std::find(audiences.begin(), audiences.end(), Json(box::kTokenAudience)) == audiences.end())
    return Denied("the API server has not checked its audience");
  const Json& user = codec::GetMember(status, "user");
  const std::string name = codec::GetString(user, "username");
  constexpr std::string_view kAccount = "system:serviceaccount:";
  const size_t colon = name.find(':', kAccount.size());
  const Json& extra = codec::GetMember(user, "extra");
  const std::string pod = FirstOf(extra, "authentication.kubernetes.io/pod-name");
  if (!name.starts_with(kAccount) || colon == std::string::npos || pod.empty())
    return Denied(name + " is no service account's token that is bound to a Pod");
  const std::string ns = name.substr(kAccount.size(), colon - kAccount.size());
  auto bytes = client_.Get({kube::kPods, ns, pod}, {kCall, stop});
  if (!bytes && bytes.error().code == base::Code::kNotFound)
    return Denied(fmt::format("its Pod {}/{} is gone", ns, pod));
  if (!bytes) return std::move(bytes).error();
  auto found = kube::DecodePod(*bytes);
  if (found && found->meta.uid != FirstOf(extra, "authentication.kubernetes.io/pod-uid"))
    return Denied(fmt::format("Pod {}/{} is another one by now", ns, pod));
  return found;
}

base::Result<PodTokens::Verdict> PodTokens::Decide(const std::string& token, std::stop_token stop) {
  auto pod = BoundPod(token, stop);
  if (!pod) return std::move(pod).error();
  const meta::ObjectKey key = WorkspaceOf(*pod);
  const auto workspace = find_(key);
  if (!workspace || !workspace->spec.box.pod)
    return Denied(
        fmt::format("Pod {} belongs to no Workspace with a Pod box", pod->meta.Key().Text()));
  if (!IsBoxOf(*workspace, *pod))
    return Denied(
        fmt::format("Pod {} is not the box of Workspace {}", pod->meta.Key().Text(), key.Text()));
  const base::Now now = clock_.Read();
  const auto wall = std::chrono::duration_cast<base::Seconds>(now.wall.time_since_epoch()).count();
  const auto expiry = ExpiryOf(token);
  const base::Seconds trust =
      expiry ? std::clamp(base::Seconds(*expiry - wall), base::Seconds(0), kLongestTrust)
             : kUnsaidTrust;
  return Verdict{workspace->meta.uid, now.mono + trust};
}

}  // namespace app
