#include "reconcile/sources/source_lookup.hpp"

#include <fmt/format.h>

#include "base/base64.hpp"
#include "codec/json.hpp"

namespace reconcile {
namespace {

constexpr base::Seconds kSecretLifetime{60};

core::ResolutionView ViewOf(const source::SourceView& known) {
  core::ResolutionView view;
  if (known.resolution) {
    view.state = core::ResolutionView::State::kResolved;
    view.ref_kind = known.resolution->ref_kind;
    view.commit = known.resolution->commit;
  }
  if (known.artifact) {
    view.state = core::ResolutionView::State::kFetched;
    view.digest = known.artifact->digest;
    view.size_bytes = static_cast<int64_t>(known.artifact->size_bytes);
    view.manifest_name = known.artifact->plugin_name;
    view.reload_none = known.artifact->reload_none;
  }
  // An artifact in the store needs no source: a failing re-check shows in `error`, what is known
  // stays usable.
  if (known.error && !known.artifact) view.state = core::ResolutionView::State::kFailed;
  view.resolved_time = known.resolved_time;
  view.error = known.error;
  view.attempts = known.attempts;
  view.next_attempt_time = known.next_attempt_time;
  return view;
}

core::ResolutionView Failed(base::Error error) {
  core::ResolutionView view;
  view.state = core::ResolutionView::State::kFailed;
  view.error = std::move(error);
  return view;
}

std::string SecretValue(const codec::Json& data, std::string_view key) {
  return base::DecodeBase64(codec::GetString(data, key)).value_or("");
}

}  // namespace

void SourceLookup::Connect(source::Resolver& resolver, Wake wake) {
  resolver_ = &resolver;
  wake_ = std::move(wake);
}

base::Result<source::Credentials> SourceLookup::ReadSecret(const std::string& ns,
                                                           const std::string& name,
                                                           std::stop_token stop) {
  auto bytes =
      client_.Get({kube::kSecrets, ns, name}, {.deadline = base::Seconds{10}, .stop = stop});
  if (!bytes && bytes.error().code == base::Code::kNotFound)
    return base::MakeError(
        base::Code::kNotFound,
        fmt::format("Secret {}/{} named by sourceSecretRef does not exist", ns, name),
        "SecretMissing");
  if (!bytes) return std::move(bytes).error();
  auto json = codec::ParseJson(*bytes);
  if (!json) return std::move(json).error();
  const codec::Json& data = codec::GetMember(*json, "data");
  source::Credentials credentials{SecretValue(data, "username"), SecretValue(data, "password")};
  if (credentials.password.empty()) credentials.password = SecretValue(data, "token");
  if (credentials.password.empty())
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format("Secret {}/{} has neither `password` nor `token`; add one of them", ns, name),
        "SecretMalformed");
  if (credentials.username.empty()) credentials.username = "git";
  return credentials;
}

core::ResolutionView SourceLookup::Find(const SourceQuestion& question, const Asker& asker,
                                        std::stop_token stop) {
  source::SourceRequest request;
  request.uri = question.uri;
  request.interval = question.interval;
  if (question.secret) {
    request.scope = question.ns + "/" + question.secret->name;
    const base::MonoTime now = clock_.Read().mono;
    CachedSecret cached;
    {
      const std::lock_guard lock(mutex_);
      if (const auto kept = secrets_.find(request.scope); kept != secrets_.end())
        cached = kept->second;
    }
    if (question.refresh || (!cached.credentials && !cached.error) ||
        now - cached.read > kSecretLifetime) {
      auto read = ReadSecret(question.ns, question.secret->name, stop);
      cached = {};
      cached.read = now;
      if (read)
        cached.credentials = *std::move(read);
      else
        cached.error = std::move(read).error();
      Keep(request.scope, cached);
    }
    if (cached.error) return Failed(*cached.error);
    request.credentials = cached.credentials;
  }
  const std::string key = source::SourceKeyOf(request.uri, request.scope);
  {
    const std::lock_guard lock(mutex_);
    askers_.Ask(key, asker);
  }
  if (question.refresh) resolver_->Refresh(key);
  const source::SourceView known = resolver_->Find(request);
  // OnChanged may have come in between: then its asker is out of askers_ and awaits nothing.
  if (known.pending && !known.artifact && !known.error) {
    const std::lock_guard lock(mutex_);
    askers_.Await(key, asker);
  }
  return ViewOf(known);
}

/// Whatever is older than what is read again is of no use: secrets that nobody asks for any more do
/// not stay in memory.
void SourceLookup::Keep(const std::string& scope, CachedSecret secret) {
  const std::lock_guard lock(mutex_);
  if (secret.read - swept_ > 2 * kSecretLifetime) {
    swept_ = secret.read;
    std::erase_if(secrets_,
                  [&](const auto& kept) { return swept_ - kept.second.read > kSecretLifetime; });
  }
  secrets_[scope] = std::move(secret);
}

void SourceLookup::Forget(const Asker& asker) {
  const std::lock_guard lock(mutex_);
  askers_.Forget(asker);
}

void SourceLookup::OnChanged(const std::string& source_key) {
  std::map<Asker, bool> askers;
  {
    const std::lock_guard lock(mutex_);
    askers = askers_.Take(source_key);
  }
  for (const auto& [asker, more] : askers) wake_(asker, more);
}

}  // namespace reconcile
