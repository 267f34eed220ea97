#include "fleet/heartbeat_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "fleet/heartbeat_state.hpp"

namespace fleet {
namespace {

base::Error UnknownToken() {
  return base::MakeError(base::Code::kUnauthorized, "the token is not known", "UnknownToken");
}

base::Error Gone() {
  return base::MakeError(base::Code::kNotFound, "the workspace of this token is gone",
                         "WorkspaceGone");
}

}  // namespace

uint32_t HeartbeatTable::State::Allocate() {
  if (free.empty()) {
    slots.emplace_back();
    return static_cast<uint32_t>(slots.size() - 1);
  }
  const uint32_t index = free.back();
  free.pop_back();
  return index;
}

void HeartbeatTable::State::Free(uint32_t index) {
  SlotData& data = slots[index];
  if (data.settings.token_hash) tokens.Remove(*data.settings.token_hash, {index, true});
  RetirePrevious(data, index);
  for (const ReviewedToken& token : data.reviewed) tokens.Remove(token.hash, {index, false, true});
  unread -= data.settings.token_unread ? 1 : 0;
  uids.Remove(HashOf(data.settings.uid), index);
  keys.Remove(HashOf(data.settings.key), index);
  const uint32_t generation = data.generation + 1;
  data = SlotData();
  data.generation = generation;
  free.push_back(index);
}

void HeartbeatTable::State::RetirePrevious(SlotData& data, uint32_t index) {
  if (!data.previous_valid) return;
  tokens.Remove(*data.settings.previous_token_hash, {index, false});
  data.previous_valid = false;
}

/// Nobody is told that his token is void as long as it may only be that it was not read yet.
base::Error HeartbeatTable::State::Unknown() const {
  if (take_over && unread == 0) return UnknownToken();
  base::Error error = base::MakeError(
      base::Code::kUnavailable,
      take_over ? fmt::format("the tokens of {} workspaces could not be read yet", unread)
                : "the tokens are not loaded yet",
      "NotReady");
  error.retry_after = take_over ? base::Millis{5'000} : base::Millis{1'000};
  return error;
}

void HeartbeatTable::State::SetTokens(SlotData& data, uint32_t index, const SlotSettings& settings,
                                      base::MonoTime now) {
  if (data.settings.token_hash != settings.token_hash) {
    if (data.settings.token_hash) tokens.Remove(*data.settings.token_hash, {index, true});
    if (settings.token_hash) tokens.Add(*settings.token_hash, {index, true});
  }
  // The Secret goes on naming a previous token that is retired here: only another one counts.
  if (data.settings.previous_token_hash == settings.previous_token_hash) return;
  RetirePrevious(data, index);
  if (!settings.previous_token_hash) return;
  tokens.Add(*settings.previous_token_hash, {index, false});
  data.previous_valid = true;
  data.previous_until = now + options.previous_token_lifetime;
}

/// Packs the report; the inventory that is held stays when only its digest came again.
void HeartbeatTable::State::Keep(SlotData& data, const protocol::Heartbeat& heartbeat,
                                 const std::string& held_digest) {
  Reported& reported = *data.reported;
  if (heartbeat.inventory) {
    reported.inventory = PackInventory(heartbeat.inventory, texts);
    data.answer_tag = 0;  // The answer names what is held.
  } else if (reported.inventory && heartbeat.inventory_digest != held_digest) {
    reported.inventory.reset();
    data.answer_tag = 0;
  }
  thread_local std::string packed;
  PackReport(heartbeat, data.settings, packed);
  // Never much more room than bytes: a long text that came once is not paid for ever.
  if (packed.size() * 2 < reported.last.capacity()) reported.last = std::string();
  reported.last = packed;
}

base::Result<Change> HeartbeatTable::State::Record(Slot slot, const protocol::Heartbeat& heartbeat,
                                                   base::Now now) {
  SlotData* data = Find(slot);
  if (data == nullptr) return Gone();
  if (!NamesWorkspace(data->settings, heartbeat.workspace)) {
    ++refused;
    return base::MakeError(base::Code::kForbidden, "this token is not for the workspace named",
                           "OtherWorkspace");
  }
  if (IsOfOtherBox(*data, heartbeat)) {
    Change change;
    change.box_changed = data->other_box != BoxHash(heartbeat.box_identity);
    data->other_box = BoxHash(heartbeat.box_identity);
    if (change.Matters()) change.key = data->settings.key;
    ++refused;
    return change;
  }
  thread_local protocol::Heartbeat held;  // Its strings are used again by the next beat.
  const bool first = data->reported == nullptr;
  if (!first) {
    UnpackReport(data->reported->last, data->settings, held);
    auto status = CheckOrder(held, data->reported->superseded, heartbeat);
    const bool silent = now.mono - data->reported->seen.mono > data->settings.timeout / 2;
    if (!status && !IsSuccessor(*data, heartbeat) &&
        !data->reported->superseded.Returns(heartbeat, silent)) {
      ++refused;
      return status.error();
    }
    if (heartbeat.inventory) held.inventory = UnpackInventory(data->reported->inventory);
  }
  Change change = Compare(first ? nullptr : &held, heartbeat);
  if (first) data->reported = std::make_unique<Reported>();
  Reported& reported = *data->reported;
  const double rate = heartbeat.error_rate.value_or(0);
  const bool degraded =
      reported.degraded ? rate >= options.recovered_below : rate >= options.degraded_at;
  change.error_rate_crossed = degraded != reported.degraded;
  change.resumed = data->expired && !change.first_report;
  change.restart_waits = data->answer.restart_waits;
  reported.degraded = degraded;
  if (change.boot_changed) reported.superseded.Add(held.boot_id);
  if (!heartbeat.box_identity.empty() && reported.box_identity != heartbeat.box_identity) {
    change.box_changed = true;
    reported.box_identity = heartbeat.box_identity;
  }
  Keep(*data, heartbeat, first ? std::string() : held.inventory_digest);
  reported.seen = now;
  if (data->restart && *data->restart != heartbeat.boot_id) {
    data->restart.reset();
    data->answer_tag = 0;
  }
  data->expired = false;
  data->deadline = now.mono + data->settings.timeout;
  if (data->armed_tick == 0) ArmFor(*data, slot.index, now.mono);
  if (change.Matters()) change.key = data->settings.key;
  ++recorded;
  return change;
}

HeartbeatTable::HeartbeatTable(TableOptions options,
                               std::function<void(const meta::ObjectKey&)> expired)
    : state_(std::make_unique<State>(options)) {
  state_->expired = std::move(expired);
}

HeartbeatTable::~HeartbeatTable() = default;

void HeartbeatTable::SetErrorRates(double degraded_at, double recovered_below) {
  const std::lock_guard lock(state_->mutex);
  state_->options.degraded_at = degraded_at;
  state_->options.recovered_below = recovered_below;
}

void HeartbeatTable::TakeOver(base::Now now) {
  const std::lock_guard lock(state_->mutex);
  state_->take_over = now;
  for (uint32_t i = 0; i < state_->slots.size(); ++i) {
    SlotData& data = state_->slots[i];
    if (!data.used) continue;
    data.expired = false;
    data.deadline = now.mono + data.settings.timeout;
    state_->ArmFor(data, i, now.mono);
  }
}

std::optional<base::Now> HeartbeatTable::TakeOverTime() const {
  const std::lock_guard lock(state_->mutex);
  return state_->take_over;
}

void HeartbeatTable::Upsert(const SlotSettings& settings, base::Now now) {
  const std::lock_guard lock(state_->mutex);
  const auto named = state_->IndexOf(settings.key);
  if (named && state_->slots[*named].settings.uid != settings.uid) state_->Free(*named);
  const auto found = state_->IndexOf(settings.uid);
  const bool is_new = !found;
  const uint32_t index = is_new ? state_->Allocate() : *found;
  SlotData& data = state_->slots[index];
  state_->SetTokens(data, index, settings, now.mono);
  const base::Millis old_timeout = data.settings.timeout;
  if (data.settings.period_seconds != settings.period_seconds) data.answer_tag = 0;
  if (!is_new && data.settings.key != settings.key) {
    state_->keys.Remove(State::HashOf(data.settings.key), index);
    state_->keys.Add(State::HashOf(settings.key), index);
  }
  state_->unread += settings.token_unread ? 1 : 0;
  state_->unread -= data.settings.token_unread ? 1 : 0;
  data.settings = settings;
  if (is_new) {
    data.used = true;
    state_->uids.Add(State::HashOf(settings.uid), index);
    state_->keys.Add(State::HashOf(settings.key), index);
    data.deadline = now.mono + settings.timeout;
    if (state_->take_over) state_->ArmFor(data, index, now.mono);
  } else if (settings.timeout != old_timeout && data.armed_tick != 0) {
    data.deadline += settings.timeout - old_timeout;
    state_->ArmFor(data, index, now.mono);
  }
}

void HeartbeatTable::Remove(const std::string& uid) {
  const std::lock_guard lock(state_->mutex);
  if (const auto found = state_->IndexOf(uid)) state_->Free(*found);
}

void HeartbeatTable::RemoveByKey(const meta::ObjectKey& key) {
  const std::lock_guard lock(state_->mutex);
  if (const auto found = state_->IndexOf(key)) state_->Free(*found);
}

bool HeartbeatTable::AddReviewedToken(const std::string& uid, const base::Sha256Digest& hash,
                                      base::MonoTime until) {
  constexpr size_t kMost = 4;
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->IndexOf(uid);
  if (!found) return false;
  auto& reviewed = state_->slots[*found].reviewed;
  for (ReviewedToken& token : reviewed) {
    if (token.hash != hash) continue;
    token.until = until;
    return true;
  }
  if (reviewed.size() == kMost) {
    state_->tokens.Remove(reviewed.front().hash, {*found, false, true});
    reviewed.erase(reviewed.begin());
  }
  reviewed.push_back({hash, until});
  state_->tokens.Add(hash, {*found, false, true});
  return true;
}

void HeartbeatTable::DropReviewedTokens(const std::string& uid) {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->IndexOf(uid);
  if (!found) return;
  auto& reviewed = state_->slots[*found].reviewed;
  for (const ReviewedToken& token : reviewed)
    state_->tokens.Remove(token.hash, {*found, false, true});
  reviewed.clear();
}

base::Result<Slot> HeartbeatTable::Authenticate(std::string_view token, base::MonoTime now) {
  if (token.empty() || token.size() > 4096) return UnknownToken();
  const base::Sha256Digest hash = base::Sha256Of(token);
  const std::lock_guard lock(state_->mutex);
  const auto match = state_->tokens.Find(hash, [&](TokenIndex::Match of) {
    const SlotData& slot = state_->slots[of.index];
    if (of.reviewed)
      return std::any_of(slot.reviewed.begin(), slot.reviewed.end(),
                         [&](const ReviewedToken& t) { return TokenIndex::Same(t.hash, hash); });
    const auto& stored = of.current ? slot.settings.token_hash : slot.settings.previous_token_hash;
    return stored.has_value() && TokenIndex::Same(*stored, hash);
  });
  if (!match) return state_->Unknown();
  SlotData& data = state_->slots[match->index];
  if (match->reviewed) {
    const auto known = std::find_if(data.reviewed.begin(), data.reviewed.end(),
                                    [&](const ReviewedToken& t) { return t.hash == hash; });
    if (known != data.reviewed.end() && now < known->until)
      return Slot{match->index, data.generation};
    state_->tokens.Remove(hash, *match);
    if (known != data.reviewed.end()) data.reviewed.erase(known);
    return UnknownToken();
  }
  if (match->current || now >= data.previous_until) state_->RetirePrevious(data, match->index);
  if (!match->current && !data.previous_valid) return UnknownToken();
  return Slot{match->index, data.generation};
}

bool HeartbeatTable::Names(Slot slot, std::string_view workspace_id) const {
  const std::lock_guard lock(state_->mutex);
  const SlotData* data = state_->Find(slot);
  return data != nullptr && NamesWorkspace(data->settings, workspace_id);
}

std::optional<std::pair<std::string, meta::ObjectKey>> HeartbeatTable::Identify(Slot slot) const {
  const std::lock_guard lock(state_->mutex);
  const SlotData* data = state_->Find(slot);
  if (data == nullptr) return std::nullopt;
  return std::pair{data->settings.uid, data->settings.key};
}

base::Status HeartbeatTable::Admit(Slot slot, base::MonoTime now) {
  const std::lock_guard lock(state_->mutex);
  SlotData* data = state_->Find(slot);
  if (data == nullptr) return Gone();
  const std::chrono::nanoseconds cost{1'000'000'000 / std::max(state_->options.max_per_second, 1)};
  const base::MonoTime paid = std::max(data->admitted_until, now);
  const auto over = paid - now - cost * std::max(state_->options.burst - 1, 0);
  if (over.count() <= 0) {
    data->admitted_until = paid + cost;
    return {};
  }
  ++state_->refused;
  base::Error error =
      base::MakeError(base::Code::kUnavailable,
                      fmt::format("more than {} requests a second", state_->options.max_per_second),
                      "TooManyRequests");
  error.retry_after = std::chrono::ceil<base::Millis>(over);
  return error;
}

base::Result<Change> HeartbeatTable::Record(Slot slot, const protocol::Heartbeat& heartbeat,
                                            base::Now now) {
  const std::lock_guard lock(state_->mutex);
  return state_->Record(slot, heartbeat, now);
}

base::Result<Change> HeartbeatTable::RecordRegister(Slot slot, protocol::Register& body,
                                                    base::Now now) {
  const std::lock_guard lock(state_->mutex);
  auto change = state_->Record(slot, body.heartbeat, now);
  if (!change) return change;
  const SlotData& data = *state_->Find(slot);
  if (IsOfOtherBox(data, body.heartbeat)) return change;
  Reported& reported = *data.reported;
  change->box_changed = change->box_changed || reported.pull != body.pull ||
                        reported.address != body.address ||
                        reported.box_identity != body.heartbeat.box_identity;
  reported.box_identity = std::move(body.heartbeat.box_identity);
  reported.pull = body.pull;
  reported.address = std::move(body.address);
  if (change->Matters()) change->key = data.settings.key;
  return change;
}

std::string HeartbeatTable::Answer(Slot slot, std::string_view held_tag) {
  const std::lock_guard lock(state_->mutex);
  SlotData* data = state_->Find(slot);
  if (data == nullptr) return "{}";
  if (held_tag.empty()) return EncodeAnswerOf(*data);
  std::string body;
  if (data->answer_tag == 0) body = EncodeAnswerOf(*data);
  if (held_tag == TagText(data->answer_tag)) return std::string(protocol::kUnchangedAnswer);
  return body.empty() ? EncodeAnswerOf(*data) : body;
}

std::optional<AnswerParts> HeartbeatTable::GateFailure(Slot slot) const {
  const std::lock_guard lock(state_->mutex);
  const SlotData* data = state_->Find(slot);
  if (data == nullptr || !data->answer.gate_failing) return std::nullopt;
  AnswerParts parts;
  parts.state = *data->answer.state;
  parts.reason = *data->answer.reason;
  parts.message = *data->answer.message;
  parts.gate_failing = true;
  return parts;
}

void HeartbeatTable::SetPresentBox(const std::string& uid, std::string_view identity) {
  const std::lock_guard lock(state_->mutex);
  SlotData* data = state_->FindUid(uid);
  if (data == nullptr || data->present_box == BoxHash(identity)) return;
  data->present_box = BoxHash(identity);
  data->other_box = 0;
}

void HeartbeatTable::SetAnswer(const std::string& uid, AnswerParts parts) {
  const std::lock_guard lock(state_->mutex);
  SlotData* data = state_->FindUid(uid);
  if (data == nullptr) return;
  PackedAnswer packed = PackAnswer(parts, uid, state_->texts);
  if (data->answer == packed) return;
  data->answer = std::move(packed);
  data->answer_tag = 0;
}

bool HeartbeatTable::RequestRestart(const std::string& uid, const std::string& expected_boot_id) {
  const std::lock_guard lock(state_->mutex);
  SlotData* data = state_->FindUid(uid);
  if (data == nullptr) return false;
  if (data->reported) {
    protocol::Heartbeat last;
    UnpackReport(data->reported->last, data->settings, last);
    if (last.boot_id != expected_boot_id) return false;
  }
  if (data->restart && *data->restart == expected_boot_id) return true;
  data->restart = std::make_unique<const std::string>(expected_boot_id);
  data->answer_tag = 0;
  return true;
}

std::optional<SlotSnapshot> HeartbeatTable::Snapshot(const std::string& uid) const {
  const std::lock_guard lock(state_->mutex);
  const SlotData* data = state_->FindUid(uid);
  if (data == nullptr) return std::nullopt;
  SlotSnapshot snapshot;
  snapshot.key = data->settings.key;
  snapshot.uid = uid;
  snapshot.expired = data->expired;
  if (data->restart) snapshot.restart_requested = *data->restart;
  if (!data->reported) return snapshot;
  const Reported& reported = *data->reported;
  UnpackReport(reported.last, data->settings, snapshot.last.emplace());
  snapshot.last->inventory = UnpackInventory(reported.inventory);
  snapshot.seen = reported.seen;
  snapshot.degraded = reported.degraded;
  snapshot.box_identity = reported.box_identity;
  snapshot.pull = reported.pull;
  snapshot.address = reported.address;
  return snapshot;
}

TableCounts HeartbeatTable::Counts() const {
  const std::lock_guard lock(state_->mutex);
  TableCounts counts{state_->uids.Size(), 0, state_->recorded, state_->refused};
  for (const SlotData& data : state_->slots) {
    if (data.used && data.reported && !data.expired) ++counts.reporting;
  }
  return counts;
}

}  // namespace fleet
