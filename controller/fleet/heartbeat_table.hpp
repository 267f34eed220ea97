#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/sha256.hpp"
#include "meta/object.hpp"
#include "protocol/answer.hpp"
#include "protocol/heartbeat.hpp"

/// Who reported what when: heartbeats live here, in memory, and nowhere else (walks.md walk 1).
namespace fleet {

struct TableOptions {
  base::Millis tick{
      1'000};  ///< Resolution of the expiry wheel; expiry is noticed at most one tick late.
  base::Millis deaf_after{2'000};  ///< Run that comes later than this to its tick was stopped.
  int max_per_second = 10;  ///< Heartbeats of one workspace; more is refused with a wait (429).
  int burst = 20;
  double degraded_at = 0.5;      ///< Error rate at which a slot counts as degraded,
  double recovered_below = 0.3;  ///< and below which it no longer does.
  base::Seconds previous_token_lifetime{
      24 * 3600};  ///< Longest that a previous token works after it was replaced.
};

/// What a Workspace gives its slot.
struct SlotSettings {
  std::string uid;
  meta::ObjectKey key;
  std::optional<base::Sha256Digest>
      token_hash;  ///< SHA-256 of the token's text. None: nobody can report.
  std::optional<base::Sha256Digest>
      previous_token_hash;  ///< Works until the current one is used, at most 24 h.
  /// It may well have a token, which could not be read so far: while that is so of any slot, an
  /// unknown token may be its agent's.
  bool token_unread = false;
  base::Millis timeout{180'000};  ///< spec.heartbeat.timeoutSeconds
  int32_t period_seconds = 30;    ///< The answer's nextPeriodSeconds.
};

/// Names a slot for as long as its workspace exists; a stale one is answered kNotFound.
struct Slot {
  uint32_t index = 0;
  uint32_t generation = 0;
};

/// What a report changed, as far as somebody acts on it.
struct Change {
  bool first_report = false;  ///< The first since this table began.
  bool boot_changed = false;
  bool gate_changed = false;  ///< managementPresent, modelPresent, loadedTools.
  bool inventory_changed = false;
  bool idle_changed = false;        ///< Idle to busy or back.
  bool error_rate_crossed = false;  ///< With hysteresis.
  bool boot_install_changed = false;
  bool resumed = false;        ///< It had passed its timeout.
  bool box_changed = false;    ///< A report named another box identity, pull or address.
  bool restart_waits = false;  ///< Copied from the answer parts: idle_changed then matters.
  meta::ObjectKey key;         ///< Set only when Matters().
  /// Worth a pass of the reconciler.
  bool Matters() const {
    return first_report || boot_changed || gate_changed || inventory_changed ||
           error_rate_crossed || boot_install_changed || resumed || box_changed ||
           (idle_changed && restart_waits);
  }
};

/// The reconciler's part of the answers to a workspace.
struct AnswerParts {
  std::string state = {};
  std::string reason = {};
  std::string message = {};
  bool gate_failing = false;  ///< Register is answered 400 while it is set.
  bool plugins_known = false;
  std::vector<protocol::PluginToFetch> plugins = {};
  std::vector<std::string> remove = {};
  bool restart_waits = false;  ///< A restart waits for idleness: idle/busy wakes the reconciler.
  bool operator==(const AnswerParts&) const = default;
};

/// What Observe reads.
struct SlotSnapshot {
  meta::ObjectKey key;
  std::string uid;
  std::optional<protocol::Heartbeat> last;  ///< With the inventory last sent in full.
  base::Now seen{};                         ///< When `last` arrived.
  bool degraded = false;                    ///< Error rate with hysteresis.
  bool expired = false;      ///< Silent for longer than the timeout (or since the take-over).
  std::string box_identity;  ///< As last reported.
  bool pull = false;
  std::string address;
  std::optional<std::string>
      restart_requested;  ///< Expected boot id of a restart that was asked for and not seen yet.
};

struct TableCounts {
  size_t slots = 0;
  size_t reporting = 0;  ///< With a report that is not expired.
  uint64_t recorded = 0;
  uint64_t refused = 0;  ///< Replays and floods.
};

/// Thread safe; every call is short (one mutex, never held while parsing or calling back) and
/// nothing allocated by a heartbeat outlives the next one of its slot.
class HeartbeatTable {
 public:
  /// `expired` runs on the thread that calls Tick (or Run), once per silence, without a lock held.
  HeartbeatTable(TableOptions options, std::function<void(const meta::ObjectKey&)> expired);
  ~HeartbeatTable();
  HeartbeatTable(const HeartbeatTable&) = delete;
  HeartbeatTable& operator=(const HeartbeatTable&) = delete;

  /// In place of the options' degraded_at and recovered_below, from the next report on.
  void SetErrorRates(double degraded_at, double recovered_below);

  /// Silence is counted from here for slots that have not reported (start, leader change). Also
  /// says that all tokens are known from now on, but for those of slots that say token_unread:
  /// before it, an unknown token is kUnavailable (503), never unauthorized.
  void TakeOver(base::Now now);
  std::optional<base::Now> TakeOverTime() const;

  /// Makes or changes a slot; a changed uid under the same key replaces the slot. What was reported
  /// stays.
  void Upsert(const SlotSettings& settings, base::Now now);
  void Remove(const std::string& uid);
  void RemoveByKey(const meta::ObjectKey& key);

  /// Errors: kUnauthorized (unknown or empty), kUnavailable with reason NotReady (unknown, before
  /// TakeOver or while a slot's token is unread; retry_after 1 s or 5 s).
  base::Result<Slot> Authenticate(std::string_view token, base::MonoTime now);
  /// A token that was checked elsewhere (a service account's, by TokenReview) speaks for this
  /// workspace until `until`; four at a time, the oldest goes. False: no such slot.
  bool AddReviewedToken(const std::string& uid, const base::Sha256Digest& hash,
                        base::MonoTime until);
  /// Those tokens speak for nobody any more (their Pod is gone).
  void DropReviewedTokens(const std::string& uid);
  /// Whether `workspace_id` (UID or namespace.name) names this slot's workspace.
  bool Names(Slot slot, std::string_view workspace_id) const;
  /// UID and key of a slot; nothing if it is gone.
  std::optional<std::pair<std::string, meta::ObjectKey>> Identify(Slot slot) const;

  /// Counts a request against the slot's rate, before its body is decoded.
  /// Errors: kUnavailable with reason TooManyRequests and retry_after (429), kNotFound.
  base::Status Admit(Slot slot, base::MonoTime now);
  /// A report that names another Pod than SetPresentBox() changes nothing: the first of each has
  /// box_changed, so that somebody looks which is there.
  /// Errors: kForbidden (heartbeat.workspace is another workspace), kConflict with reason
  /// StaleSequence or SupersededBoot, kNotFound (workspace gone meanwhile).
  base::Result<Change> Record(Slot slot, const protocol::Heartbeat& heartbeat, base::Now now);
  base::Result<Change> RecordRegister(Slot slot, protocol::Register& body, base::Now now);
  /// The encoded HeartbeatAnswer. The short one if `held_tag` is the tag of what it would say: the
  /// agent has it then.
  std::string Answer(Slot slot, std::string_view held_tag = {});
  /// State, reason and message when the gate fails, else nothing (register answers 400 with it).
  std::optional<AnswerParts> GateFailure(Slot slot) const;

  /// Which box is there: "pod:UID", whatever follows a slash. Its agent is not kept out by what
  /// another Pod's has reported. Anything else: it is not known.
  void SetPresentBox(const std::string& uid, std::string_view identity);
  /// For the reconciler. Unknown uids are ignored.
  void SetAnswer(const std::string& uid, AnswerParts parts);
  /// Asks the agent to restart its runtime if its boot id still is `expected_boot_id`. Forgotten
  /// when another boot id reports. False: no such slot, or its boot already is another one.
  bool RequestRestart(const std::string& uid, const std::string& expected_boot_id);
  std::optional<SlotSnapshot> Snapshot(const std::string& uid) const;
  TableCounts Counts() const;

  /// Expires what is due; returns how many expired. For tests, and for Run.
  size_t Tick(base::MonoTime now);
  /// Time in which this process did not run (SIGSTOP, a machine asleep or starved) is nobody's
  /// silence: it is added to every last report and deadline. Called by Run at every tick, and by
  /// who is about to judge a silence; does nothing unless Run runs.
  void ForgiveDeafness(base::MonoTime now);
  /// Ticks until stopped.
  void Run(const base::Clock& clock, std::stop_token stop);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fleet
