#include "reconcile/instance_tokens.hpp"

#include <fmt/format.h>

#include "base/base64.hpp"
#include "base/failpoint.hpp"
#include "base/log.hpp"
#include "base/sha256.hpp"
#include "box/pod/managed_pod.hpp"
#include "codec/json.hpp"
#include "codec/resources.hpp"
#include "core/status_text.hpp"

namespace reconcile {
namespace {

using codec::Json;

/// Secrets are not watched: that would need the right to list them all. 20,000 workspaces are one
/// request a second by it.
constexpr base::Seconds kReadAgain{6 * 3'600};

std::string NewToken() {
  const std::string bytes = base::RandomBytes(32);
  return base::Hex({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

bool OwnedBy(const meta::ObjectMeta& secret, const std::string& uid) {
  for (const meta::OwnerRef& owner : secret.owners)
    if (owner.uid == uid) return true;
  return false;
}

fleet::SlotSettings SettingsOf(const api::Workspace& workspace) {
  fleet::SlotSettings slot;
  slot.uid = workspace.meta.uid;
  slot.key = workspace.meta.Key();
  slot.timeout = base::Seconds{workspace.spec.heartbeat.timeout_seconds};
  slot.period_seconds = workspace.spec.heartbeat.period_seconds;
  return slot;
}

/// So long a failure may be a passing one.
constexpr base::Seconds kToldAfter{60};

/// The API, or the way to it, is at fault, not what is stored there: the Secret may well be good.
bool MayBeReadLater(const base::Error& error) {
  return error.code == base::Code::kUnavailable || error.code == base::Code::kTimeout ||
         error.code == base::Code::kCancelled || error.code == base::Code::kInternal ||
         error.code == base::Code::kConflict || error.code == base::Code::kUnauthorized;
}

}  // namespace

std::string InstanceTokens::SecretName(const std::string& workspace) {
  constexpr size_t kMost = 253 - std::string_view("workspace--token").size();
  if (workspace.size() <= kMost) return "workspace-" + workspace + "-token";
  const std::string digest = base::Hex(base::Sha256Of(workspace)).substr(0, 8);
  std::string head = workspace.substr(0, kMost - digest.size() - 1);
  while (head.back() == '.' || head.back() == '-') head.pop_back();
  return "workspace-" + head + "-" + digest + "-token";
}

base::Result<InstanceTokens::Texts> InstanceTokens::Create(const api::Workspace& workspace,
                                                           std::stop_token stop) {
  Texts texts{NewToken(), ""};
  const Json body{{"apiVersion", "v1"},
                  {"kind", "Secret"},
                  {"metadata",
                   {{"name", SecretName(workspace.meta.name)},
                    {"namespace", workspace.meta.ns},
                    {"labels",
                     {{"app.kubernetes.io/managed-by", "workspace-operator"},
                      {"molecule.ai/workspace", box::LabelOf(workspace.meta.name)}}},
                    {"ownerReferences", Json::array({{{"apiVersion", api::kApiVersion},
                                                      {"kind", "Workspace"},
                                                      {"name", workspace.meta.name},
                                                      {"uid", workspace.meta.uid}}})}}},
                  {"type", "molecule.ai/instance-token"},
                  {"data", {{"current", base::EncodeBase64(texts.current)}}}};
  kube::WriteOptions options;
  options.call = {.deadline = base::Seconds{30}, .stop = stop};
  auto made = on_.client.Create({kube::kSecrets, workspace.meta.ns}, codec::Dump(body), options);
  if (!made) return std::move(made).error();
  return texts;
}

base::Result<InstanceTokens::Texts> InstanceTokens::ReadOrCreate(const api::Workspace& workspace,
                                                                 std::stop_token stop) {
  const kube::ObjectRef ref{kube::kSecrets, workspace.meta.ns, SecretName(workspace.meta.name)};
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto bytes = on_.client.Get(ref, {.deadline = base::Seconds{30}, .stop = stop});
    if (!bytes && bytes.error().code != base::Code::kNotFound) return std::move(bytes).error();
    if (!bytes) {
      auto made = Create(workspace, stop);
      // A create that was lost in flight, or another replica's: read what is there.
      if (!made && made.error().code == base::Code::kAlreadyExists) continue;
      return made;
    }
    auto owner = codec::DecodeObjectMeta(*bytes);
    if (!owner) return std::move(owner).error();
    if (!OwnedBy(*owner, workspace.meta.uid))
      return base::MakeError(base::Code::kForbidden,
                             fmt::format("Secret {}/{} is not owned by this Workspace (uid {}); "
                                         "delete it so that the operator can make its own",
                                         ref.ns, ref.name, workspace.meta.uid),
                             "TokenSecretForeign");
    auto json = codec::ParseJson(*bytes);
    if (!json) return std::move(json).error();
    const Json& data = codec::GetMember(*json, "data");
    Texts texts{base::DecodeBase64(codec::GetString(data, "current")).value_or(""),
                base::DecodeBase64(codec::GetString(data, "previous")).value_or("")};
    if (texts.current.size() < 32)
      return base::MakeError(base::Code::kInvalid,
                             fmt::format("Secret {}/{} has no usable `current` token; delete it "
                                         "so that the operator makes a new one",
                                         ref.ns, ref.name),
                             "TokenSecretMalformed");
    return texts;
  }
  return base::MakeError(base::Code::kConflict,
                         fmt::format("make {}: it comes and goes", ref.Text()));
}

/// Boxes are beyond the API's fence: who may not write there any more gives no token either.
base::Status InstanceTokens::Give(box::Box& box, const std::string& token, std::stop_token stop) {
  if (auto may = on_.client.MayWrite(); !may) return may;
  const base::FailpointScope failpoint("box.WriteToken");
  return box.WriteToken(token, stop);
}

base::Status InstanceTokens::Ensure(const api::Workspace& workspace, box::Box* box,
                                    std::stop_token stop) {
  const std::string& uid = workspace.meta.uid;
  Known known;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = known_.find(uid); found != known_.end()) known = found->second;
  }
  std::string identity;
  if (box != nullptr) identity = box->State(stop).identity;
  bool give = box != nullptr && !identity.empty() && identity != known.box_with_token;
  fleet::SlotSettings slot = SettingsOf(workspace);
  const base::MonoTime now = on_.clock->Read().mono;
  const std::string request = core::ReconcileRequest(workspace.meta.annotations).value_or("");
  const bool current =
      known.slot.token_hash && now - known.read < kReadAgain && request == known.read_at_request;
  if (current && !give) {
    slot.token_hash = known.slot.token_hash;
    slot.previous_token_hash = known.slot.previous_token_hash;
    on_.fleet.Upsert(slot, on_.clock->Read());
    return {};
  }
  auto texts = ReadOrCreate(workspace, stop);
  if (!texts) {
    // Its slot it has all the same: an agent with a token of its own (a managed Pod's) may report.
    slot.token_hash = known.slot.token_hash;
    slot.previous_token_hash = known.slot.previous_token_hash;
    slot.token_unread = !slot.token_hash && MayBeReadLater(texts.error());
    on_.fleet.Upsert(slot, on_.clock->Read());
    if (slot.token_unread) TellUnread(workspace, texts.error(), now);
    return std::move(texts).error();
  }
  slot.token_hash = base::Sha256Of(texts->current);
  if (!texts->previous.empty()) slot.previous_token_hash = base::Sha256Of(texts->previous);
  const bool first = !known.slot.token_hash;
  give = give || (box != nullptr && !identity.empty() && known.slot.token_hash != slot.token_hash);
  on_.fleet.Upsert(slot, on_.clock->Read());
  if (first && workspace.spec.kind == api::WorkspaceKind::kPlatform) {
    // Fail closed until the first decision: a register that comes before it is answered 400.
    fleet::AnswerParts undecided;
    undecided.gate_failing = true;
    undecided.reason = "AwaitingFirstReport";
    on_.fleet.SetAnswer(uid, std::move(undecided));
  }
  known.slot = slot;
  known.read = now;
  known.read_at_request = request;
  base::Status given;
  if (give) {
    known.box_with_token.clear();
    given = Give(*box, texts->current, stop);
    if (given) known.box_with_token = identity;
    // Given when it runs: its start wakes the next pass.
    if (!given && given.error().reason == "BoxNotRunning") given = {};
  }
  const std::lock_guard lock(mutex_);
  known_[uid] = known;
  unread_.erase(uid);
  return given;
}

/// Until it is read no unknown token can be refused, whosever it is: who looks for the cause of
/// that has to learn which Secret it is.
void InstanceTokens::TellUnread(const api::Workspace& workspace, const base::Error& why,
                                base::MonoTime now) {
  {
    const std::lock_guard lock(mutex_);
    const auto [found, first] = unread_.try_emplace(workspace.meta.uid, Unread{now});
    if (first || found->second.told || now - found->second.since < kToldAfter) return;
    found->second.told = true;
  }
  base::LogError(
      "a token Secret cannot be read: until it is, agents with unknown tokens are answered 503, "
      "not 401; mend what the API says of it, or delete the Secret or its Workspace",
      {{"secret", workspace.meta.ns + "/" + SecretName(workspace.meta.name)},
       {"workspace", workspace.meta.Key().Text()},
       {"error", why.message}});
}

void InstanceTokens::Forget(const std::string& uid) {
  const std::lock_guard lock(mutex_);
  known_.erase(uid);
  unread_.erase(uid);
}

}  // namespace reconcile
