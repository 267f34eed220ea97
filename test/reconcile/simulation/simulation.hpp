#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/base64.hpp"
#include "protocol/answer.hpp"
#include "reconcile/instance_tokens.hpp"
#include "reconcile/simulation/convergence.hpp"
#include "reconcile/simulation/process.hpp"
#include "reconcile/simulation/user.hpp"
#include "support/temp_folder.hpp"

namespace simulation {

/// One run: a rough time in which the seed picks what happens next out of all that could (how much
/// of each differs from run to run, and there are calm whiles), then peace, in which everything
/// that is due happens until nothing is.
///
///   rough (steps) --> peace: no faults, no edits --> converged --> a resync changes nothing
class Simulation {
 public:
  Simulation(uint64_t seed, size_t rough_steps)
      : seed_(seed), rough_steps_(rough_steps), dice_(seed * 0x9e3779b97f4a7c15ULL + 1) {}

  void Run() {
    Begin();
    weather_.SetStrength(dice_.Upto(4));
    edits_ = 1 + dice_.Upto(6);
    troubles_ = dice_.Upto(6);
    kills_ = dice_.Upto(3);
    weather_.SetRough(true);
    for (size_t i = 0; i < rough_steps_; ++i) RoughStep();
    weather_.SetRough(false);
    MakePeace();
    if (Converge() && StayQuiet()) FollowOrHold();
    standby_.reset();
    process_.reset();
  }

  const Trace& Outcome() const { return trace_; }

 private:
  struct Choice {
    size_t weight;
    std::function<void()> run;
  };
  static constexpr base::Millis kBeat = base::Seconds{120};
  static constexpr base::Millis kLooksIn = base::Seconds{600};
  static constexpr base::Millis kLongestPeace = std::chrono::hours{8};
  static constexpr size_t kMostSteps = 20'000;

  void Begin() {
    in_.witness = [this](const std::string& workspace, const std::vector<std::string>& names) {
      CheckDebt(workspace, names);
      CheckConsent(workspace, names);
      CheckRecovery(workspace);
      CheckEntitlement(workspace, names);
    };
    weather_.meanwhile = [this](const std::string& call) { Meanwhile(call); };
    weather_.pass_time = [this](base::Millis by) { PassTime(by); };
    trace_.Step(fmt::format("seed {}", seed_));
    for (const std::string& name : user_.Workspaces()) {
      const auto form = name == "pod" ? Machine::Form::kPod : Machine::Form::kOther;
      machines_[name] = std::make_unique<Machine>(name, form, trace_);
      machines_[name]->Bring(Machine::kStranger, 's', false);
      for (const char* plugin : {"alpha", "beta", "common", "inner", "skill", "mgmt"})
        if (dice_.Chance(300))
          machines_[name]->Bring(plugin, static_cast<char>('a' + dice_.Upto(2)), dice_.Chance(500));
    }
    user_.Begin();
    StartProcess();
  }

  // --- What can happen

  /// Who stands by takes over, with a view as old as its watches are late; else a new one begins.
  void StartProcess() {
    process_.reset();
    weather_.Revive();
    for (const auto& [name, machine] : machines_) machine->Forgotten();
    trace_.Step(standby_ ? "the operator that stands by takes over" : "an operator starts");
    process_ = standby_ ? std::move(standby_) : NewProcess();
    process_->Lead();
    if (!dice_.Chance(500)) return;
    standby_ = NewProcess();
    late_ = dice_.Chance(500);
    trace_.Note(late_ ? "another one stands by, its watch is late" : "another one stands by");
  }
  /// Each replica has a disk of its own: there is one that leads, one that stands by, and one that
  /// has lost its Lease and does not know it yet.
  std::unique_ptr<Process> NewProcess() {
    disk_ = (disk_ + 1) % 3;
    return std::make_unique<Process>(in_, dice_.Upto(1u << 30),
                                     folder_ / fmt::format("store-{}", disk_));
  }
  /// Calls `act` with each informer of each operator, and whether hardly anything reaches it.
  template <typename Act>
  void EachFollower(const Act& act) {
    for (Process* process : {process_.get(), standby_.get()}) {
      if (process == nullptr) continue;
      act(process->workspaces, process == standby_.get() && late_);
      act(process->plugins, false);
    }
  }
  void RestartIfDead() {
    if (weather_.Dead()) StartProcess();
  }
  /// The leader is stopped in the middle of a call, another one leads and works meanwhile. Then it
  /// goes on where it was, and ends like a process that finds its Lease gone.
  void StopLeaderForLong() {
    trace_.Step("the leader stops in a call, its lease runs out");
    PassTime(base::Seconds{17});
    process_->client.Depose();
    stopped_ = std::move(process_);
    StartProcess();
    for (size_t i = 5 + dice_.Upto(60); i > 0; --i) RoughStep();
    trace_.Step("the leader of before goes on");
  }
  void PassTime(base::Millis by) {
    clock_.Advance(by);
    trace_.Note(fmt::format("{} ms pass", by.count()));
    if (process_) process_->fleet.Tick(clock_.Read().mono);
  }
  template <typename T>
  void Deliver(Follower<T>& follower) {
    const ApiStore::Change& next = *follower.Source().Next();
    trace_.Step(fmt::format("watch event {} {} at {}", static_cast<int>(next.type), next.key.Text(),
                            next.version));
    follower.Source().DeliverNext();
  }
  template <typename T>
  void Break(Follower<T>& follower) {
    base::Status end;
    if (dice_.Chance(600))
      end = base::MakeError(dice_.Chance(500) ? base::Code::kGone : base::Code::kUnavailable,
                            "the watch is over");
    trace_.Step(fmt::format("a watch ends: {}", end ? "ok" : base::CodeName(end.error().code)));
    follower.Source().End(end);
  }
  template <typename T>
  void Wake(Follower<T>& follower) {
    trace_.Step("an informer tries again");
    follower.Source().Wake();
  }
  template <typename T>
  bool WakeDue(Follower<T>& follower) const {
    const auto until = follower.Source().AsleepUntil();
    return until && *until <= clock_.Read().mono;
  }
  void Resolve() {
    trace_.Step("a source is resolved");
    process_->resolver.RunDue({});
  }
  bool ResolverDue() const {
    const auto due = process_->resolver.NextDue();
    return due && *due <= clock_.Read().mono;
  }

  void PassOfWorkspace() {
    stamp_before_pass_ = RecoveryStamp();
    policy_before_pass_ = in_.policy;
    process_->PassOfWorkspace();
  }

  /// An agent reports and does what it is told.
  void Beat(const std::string& name) {
    Machine& machine = *machines_.at(name);
    const base::Now now = clock_.Read();
    beats_[name] = now.mono + kBeat;
    if (name == "ext") CopyToken(machine);
    Sent sent = SayNext(name);
    if (weather_.Rough() && dice_.Chance(80) && under_way_.size() < 4) {
      trace_.Note(fmt::format("a report of {} is under way for long", machine.BootId()));
      return under_way_.push_back(std::move(sent));
    }
    const auto slot = process_->fleet.Authenticate(sent.token, now.mono);
    if (!Arrive(sent, slot)) return;
    const auto answer = protocol::DecodeHeartbeatAnswer(process_->fleet.Answer(*slot));
    if (answer && name == "ext")
      machine.Pull(*answer, [this] { return weather_.Rough() && dice_.Chance(200); });
    if (!answer || !answer->restart_expected_boot_id) return;
    if (machine.Restart(*answer->restart_expected_boot_id))
      trace_.Note(fmt::format("agent of {} restarts: {}", name, machine.BootId()));
  }
  /// What the admin of an External box does by hand.
  void CopyToken(Machine& machine) {
    const std::string secret = reconcile::InstanceTokens::SecretName("ext");
    const Json* stored = store_.Find({kube::kSecrets, kNamespace, secret});
    if (stored == nullptr) return;
    const std::string text = codec::GetString(codec::GetMember(*stored, "data"), "current");
    machine.SetToken(base::DecodeBase64(text).value_or(""));
  }
  /// A report on its way.
  struct Sent {
    std::string name, token;
    bool first = false;  ///< The agent registers.
    protocol::Heartbeat said;
  };
  Sent SayNext(const std::string& name) {
    Machine& machine = *machines_.at(name);
    Sent sent{name, machine.Token(), reported_[name] != machine.BootId(), {}};
    if (sent.first) installing_[name] = weather_.Rough() && dice_.Chance(250);
    const bool installing = installing_[name] && weather_.Rough();
    sent.said = machine.Report(std::string(kNamespace) + "." + name, installing);
    if (sent.first || name == "pod") sent.said.box_identity = machine.AgentIdentity();
    return sent;
  }
  /// False: it is refused.
  bool Arrive(const Sent& sent, const base::Result<fleet::Slot>& slot) {
    const auto record = [&]() -> std::string {
      if (!slot) return std::string(base::CodeName(slot.error().code));
      const base::Now now = clock_.Read();
      protocol::Register body{sent.said, false, ""};
      const auto change = sent.first && sent.name != "pod"
                              ? process_->fleet.RecordRegister(*slot, body, now)
                              : process_->fleet.Record(*slot, body.heartbeat, now);
      if (!change) return std::string(base::CodeName(change.error().code));
      if (sent.said.boot_id == machines_.at(sent.name)->BootId())
        reported_[sent.name] = sent.said.boot_id;
      if (change->Matters()) process_->Wake(change->key);
      return change->Matters() ? "matters" : "taken";
    };
    trace_.Note(fmt::format("agent of {} reports {} #{} -> {}", sent.name, sent.said.boot_id,
                            sent.said.sequence, record()));
    return slot.has_value();
  }
  /// What was under way arrives, after others and after who has sent it; nobody reads its answer.
  void ArriveLate() {
    trace_.Step("a report arrives late");
    const size_t at = dice_.Upto(under_way_.size());
    const Sent sent = under_way_[at];
    under_way_.erase(under_way_.begin() + static_cast<std::ptrdiff_t>(at));
    (void)Arrive(sent, process_->fleet.Authenticate(sent.token, clock_.Read().mono));
  }

  /// A box loses something, stops, starts, gets work.
  void Trouble() { Trouble(dice_.Pick(user_.Workspaces())); }
  void Trouble(const std::string& name) {
    Machine& machine = *machines_.at(name);
    const std::string plugin =
        dice_.Pick<std::string>({"alpha", "beta", "common", "inner", "skill", "mgmt"});
    switch (dice_.Upto(machine.Running() ? 8 : 2)) {
      case 0:
      case 1:
        trace_.Note(name + " starts anew");
        dice_.Chance(500) ? machine.Boot() : machine.NewContainer(dice_.Chance(500));
        return dice_.Chance(500) ? Beat(name) : void();
      case 2:
        trace_.Note(name + " stops");
        return machine.Stop();
      case 3:
        trace_.Note(fmt::format("{} loses {}", name, plugin));
        return machine.LoseTree(plugin);
      case 4:
        trace_.Note(fmt::format("a file of {} changes in {}", plugin, name));
        return machine.ChangeFile(plugin);
      case 5:
        if (!dice_.Chance(500)) return;
        trace_.Note(name + " gets an empty volume, or is another Pod");
        return dice_.Chance(300) ? machine.Wipe() : machine.NewPod(dice_.Chance(500));
      default:
        trace_.Note(name + " has other tasks");
        return machine.SetTasks(dice_.Chance(300) ? std::nullopt
                                                  : std::optional<int32_t>(dice_.Upto(2)));
    }
  }

  /// While a call of a pass is under way, others go on. Leaders stop more often while they change a
  /// box: what the pass would do to it next is what they must not do when they go on.
  void Meanwhile(const std::string& call) {
    const bool changes_box = call == "deliver" || call == "activate" || call == "remove";
    if (in_meanwhile_ || !dice_.Chance(changes_box ? 150 : 60)) return;
    in_meanwhile_ = true;
    if (!stopped_ && dice_.Chance((changes_box ? 500 : 150) * kills_)) {
      StopLeaderForLong();
      in_meanwhile_ = false;
      return;
    }
    trace_.Note("meanwhile:");
    for (size_t i = dice_.Upto(3) + 1; i > 0; --i) OneThing();
    in_meanwhile_ = false;
  }
  void OneThing() {
    switch (dice_.Upto(5)) {
      case 0:
        if (process_->workspaces.Source().Next() != nullptr) Deliver(process_->workspaces);
        break;
      case 1:
        if (process_->plugins.Source().Next() != nullptr) Deliver(process_->plugins);
        break;
      case 2:
        user_.Act();
        break;
      case 3:
        Trouble();
        break;
      default:
        BeatSomebody();
    }
  }
  void BeatSomebody() {
    const std::string name = dice_.Pick(user_.Workspaces());
    if (machines_.at(name)->Running()) Beat(name);
  }

  // --- The rough time

  void RoughStep() {
    std::vector<Choice> choices;
    Process& p = *process_;
    const auto may = [&](bool enabled, size_t weight, std::function<void()> run) {
      if (enabled) choices.push_back({weight, std::move(run)});
    };
    EachFollower([&](auto& follower, bool late) {
      may(follower.Source().Next() != nullptr, late ? 1 : 12, [&] { Deliver(follower); });
      may(!follower.Source().AsleepUntil(), 1, [&] { Break(follower); });
      may(WakeDue(follower), 6, [&] { Wake(follower); });
    });
    may(p.workspace_line.Ready(), 24, [&] { PassOfWorkspace(); });
    may(p.plugin_line.Ready(), 10, [&] { p.PassOfPlugin(); });
    may(ResolverDue(), 12, [&] { Resolve(); });
    may(store_.HasGarbage(), 4, [&] {
      trace_.Step("garbage is collected");
      store_.CollectGarbage();
    });
    may(p.HasEvents(), 1, [&] {
      trace_.Step("events are sent");
      p.SendEvents();
    });
    may(true, 16, [&] { AdvanceToNext(); });
    may(true, 12, [&] {
      trace_.Step("somebody reports");
      BeatSomebody();
    });
    may(!under_way_.empty(), 4, [&] { ArriveLate(); });
    may(true, edits_, [&] {
      trace_.Step("the user acts");
      user_.Act();
    });
    may(true, troubles_, [&] {
      trace_.Step("a box has trouble");
      Trouble();
    });
    may(true, kills_, [&] {
      trace_.Step("the operator is killed");
      weather_.Kill();
    });
    may(true, 1, [&] {
      trace_.Step("resync");
      p.Resync();
    });
    may(edits_ > 3, 1, [&] { ReadSettings(in_.policy == policy_ ? MakePolicy(false) : policy_); });
    may(true, 2, [&] { LiveCalmly(); });
    RunOne(choices);
    if (!in_meanwhile_) stopped_.reset();
    RestartIfDead();
  }
  /// An admin has edited the settings, which all operators read again.
  void ReadSettings(std::shared_ptr<const core::Policy> policy) {
    trace_.Step(policy == policy_ ? "the management plugin is allowed again"
                                  : "the management plugin is not allowed any more");
    in_.policy = std::move(policy);
    process_->Resync();
  }
  /// Nothing goes wrong for a while: what is rough afterwards finds something that works.
  void LiveCalmly() {
    trace_.Step("a calm while");
    weather_.SetRough(false);
    for (int i = 0; i < 60; ++i)
      if (!FairStep()) AdvanceToNext();
    weather_.SetRough(true);
    trace_.Step("it gets rough again");
  }
  void RunOne(const std::vector<Choice>& choices) {
    size_t total = 0;
    for (const Choice& choice : choices) total += choice.weight;
    size_t at = dice_.Upto(total);
    for (const Choice& choice : choices) {
      if (at < choice.weight) return choice.run();
      at -= choice.weight;
    }
  }

  // --- Peace

  void MakePeace() {
    late_ = false;
    while (!under_way_.empty()) ArriveLate();
    if (in_.policy != policy_) ReadSettings(policy_);
    user_.MakePeace();
    for (const auto& [name, machine] : machines_) {
      machine->SetTasks(0);
      if (!machine->Running()) machine->Boot();
    }
    peace_ = clock_.Read().mono;
    next_resync_ = peace_;
  }
  bool BeatDue(const std::string& name) {
    return beats_[name] <= clock_.Read().mono || reported_[name] != machines_[name]->BootId();
  }

  /// One thing that is due now; false: nothing is.
  bool FairStep() {
    std::vector<Choice> choices;
    Process& p = *process_;
    const auto may = [&](bool enabled, std::function<void()> run) {
      if (enabled) choices.push_back({1, std::move(run)});
    };
    EachFollower([&](auto& follower, bool late) {
      may(follower.Source().Next() != nullptr && !late, [&] { Deliver(follower); });
      may(WakeDue(follower), [&] { Wake(follower); });
    });
    may(p.workspace_line.Ready(), [&] { PassOfWorkspace(); });
    may(p.plugin_line.Ready(), [&] { p.PassOfPlugin(); });
    may(ResolverDue(), [&] { Resolve(); });
    may(store_.HasGarbage(), [&] { store_.CollectGarbage(); });
    may(next_resync_ <= clock_.Read().mono, [&] {
      trace_.Step("resync");
      next_resync_ = clock_.Read().mono + policy_->resync;
      p.Resync();
    });
    for (const std::string& name : user_.Workspaces())
      may(clock_.Read().mono >= looks_in_[name], [this, name] {
        trace_.Step("the user looks at " + name);
        looks_in_[name] = clock_.Read().mono + kLooksIn;
        user_.AllowRestart(name, clock_.Read().wall);
        user_.TakeWhatThereIs(name, clock_.Read().wall);
      });
    for (const std::string& name : user_.Workspaces())
      may(BeatDue(name) && machines_[name]->Running() &&
              store_.Find(WorkspaceRef(name)) != nullptr && tried_[name] != clock_.Read().mono,
          [this, name] {
            trace_.Step(name + " reports");
            tried_[name] = clock_.Read().mono;
            Beat(name);
          });
    if (choices.empty()) return false;
    RunOne(choices);
    return true;
  }
  void AdvanceToNext() {
    const base::MonoTime now = clock_.Read().mono;
    base::MonoTime next = now + base::Seconds{60};
    const auto consider = [&](std::optional<base::MonoTime> at) {
      if (at && *at > now) next = std::min(next, *at);
    };
    consider(process_->workspace_line.NextDeadline());
    consider(process_->plugin_line.NextDeadline());
    consider(process_->resolver.NextDue());
    EachFollower([&](auto& follower, bool) { consider(follower.Source().AsleepUntil()); });
    if (!weather_.Rough()) {
      consider(next_resync_);
      for (const auto& [name, at] : beats_) consider(at);
    }
    trace_.Step("the clock goes on");
    PassTime(std::chrono::ceil<base::Millis>(next - now));
  }
  /// All that is due, then the clock, until `until`; false: it never ends.
  bool LiveUntil(const std::function<bool()>& until) {
    for (size_t i = 0; i < kMostSteps; ++i) {
      if (FairStep()) continue;
      if (until()) return true;
      AdvanceToNext();
    }
    return false;
  }

  bool Converge() {
    std::vector<std::string> missing;
    std::pair<uint64_t, size_t> seen;  // Of API and boxes, when `missing` was found.
    const auto settled = [&] {
      const std::pair now{store_.Version(), BoxChanges()};
      if (now != seen) missing = convergence_.Missing();
      seen = now;
      return missing.empty() || clock_.Read().mono - peace_ > kLongestPeace;
    };
    if (!LiveUntil(settled)) trace_.Break("it never comes to rest");
    for (const std::string& what : missing) trace_.Break("not converged: " + what);
    return missing.empty();
  }
  size_t BoxChanges() const {
    size_t sum = 0;
    for (const auto& [name, machine] : machines_) sum += machine->Changes();
    return sum;
  }
  /// What is converged stays as it is: once every summary is written, a resync of everything writes
  /// nothing and changes no box.
  bool StayQuiet() {
    const auto live_for = [this](base::Millis time) {
      const base::MonoTime end = clock_.Read().mono + time;
      return LiveUntil([this, end] { return clock_.Read().mono >= end; });
    };
    live_for(policy_->resync + kBeat);
    const size_t writes = process_->client.Writes(), changes = BoxChanges();
    trace_.Step("from here on everything is quiet");
    live_for(policy_->resync);
    if (process_->client.Writes() != writes) trace_.Break("an idle operator writes to the API");
    if (BoxChanges() != changes) trace_.Break("an idle operator changes boxes");
    for (const std::string& what : convergence_.Missing()) trace_.Break("no longer so: " + what);
    return trace_.Broken().empty();
  }
  /// Everything gets a new revision: what tracks its source follows, what is pinned stays.
  void FollowOrHold() {
    trace_.Step("everything is published anew");
    const auto held = convergence_.Held();
    user_.PublishAll();
    peace_ = clock_.Read().mono;
    if (!Converge()) return;
    const auto now = convergence_.Held();
    for (const auto& [plugin, digest] : held)
      if (const auto found = now.find(plugin); found != now.end() && found->second != digest)
        trace_.Break(plugin + " is not to follow its source and did");
  }

  // --- Rules that hold at any time

  /// The debt is written before a byte moves, and before a restart.
  void CheckDebt(const std::string& workspace, const std::vector<std::string>& names) {
    const Json* object = store_.Find(WorkspaceRef(workspace));
    if (object == nullptr || (*object)["metadata"].contains("deletionTimestamp")) return;
    const Json& pending = codec::GetMember(codec::GetMember(*object, "status"), "pendingRestart");
    if (names.empty() && !pending.is_object())
      trace_.Break(workspace + ": a restart is asked for that is not in status.pendingRestart");
    for (const std::string& name : names) {
      const Json& shown = codec::GetMember(pending, "plugins");
      const bool there =
          shown.is_array() && std::find(shown.begin(), shown.end(), name) != shown.end();
      // Only bytes that are loaded without a restart owe none; a removal always does.
      const bool owes = !Repositories::ReloadNone(name) || !machines_.at(workspace)->Has(name);
      if (!there && owes)
        trace_.Break(
            fmt::format("{}: {} changes before status.pendingRestart says so", workspace, name));
    }
  }
  /// What its user wants to keep is kept, and where restarts are Manual none is asked for before
  /// one was allowed.
  void CheckConsent(const std::string& workspace, const std::vector<std::string>& names) {
    const Json* object = store_.Find(WorkspaceRef(workspace));
    if (object == nullptr) return;
    const Json& rows = codec::GetMember(codec::GetMember(*object, "status"), "plugins");
    for (const Json& row : rows)
      for (const std::string& name : names)
        if (row["name"] == name && !machines_.at(workspace)->Has(name) &&
            codec::GetString(row, "deletionPolicy") == "Orphan")
          trace_.Break(
              fmt::format("{}: {} is removed although its row says Orphan", workspace, name));
    if (names.empty() && user_.NeverAllowed(workspace))
      trace_.Break(workspace + ": a restart is asked for that nobody has allowed");
  }
  /// The stamp of the last recovery attempt; nothing: there was none.
  std::optional<base::WallTime> RecoveryStamp() const {
    const Json* object = store_.Find(WorkspaceRef("plat"));
    if (object == nullptr) return std::nullopt;
    const Json& recovery = codec::GetMember(codec::GetMember(*object, "status"), "recovery");
    if (!recovery.is_object()) return std::nullopt;
    return base::ParseTime(codec::GetString(recovery, "lastAttemptTime"));
  }
  /// SC-4: of the attempts that change the box there is at most one per cool-down, however often
  /// the operator is replaced. (One whose stamp's answer was lost changes nothing.)
  void CheckRecovery(const std::string& workspace) {
    const auto stamp = RecoveryStamp();
    if (workspace != "plat" || !stamp || stamp == stamp_before_pass_) return;
    if (recovered_ && *stamp != *recovered_ && *stamp > *recovered_ &&
        *stamp - *recovered_ < policy_->recovery_cooldown - base::Seconds{1})
      trace_.Break(fmt::format("{}: two recovery attempts within a cool-down: {} and {}", workspace,
                               base::FormatTime(*recovered_), base::FormatTime(*stamp)));
    recovered_ = stamp;
  }

  /// What is privileged comes into a box only while its bytes are allowed.
  void CheckEntitlement(const std::string& workspace, const std::vector<std::string>& names) {
    if (policy_before_pass_ != in_.policy || in_.policy == policy_) return;
    const bool mgmt = std::find(names.begin(), names.end(), "mgmt") != names.end();
    if (mgmt && machines_.at(workspace)->Has("mgmt"))
      trace_.Break(workspace + ": the management plugin comes although it is not allowed");
  }

  static std::shared_ptr<const core::Policy> MakePolicy(bool allowed = true) {
    auto policy = std::make_shared<core::Policy>();
    policy->privileged = {{"mgmt", Repositories::TaggedUri("mgmt"), {}, true, {}}};
    if (allowed)
      policy->privileged.front().allowed_digests = {
          Repositories::Digest("mgmt", Repositories::kTagged)};
    return policy;
  }

  const uint64_t seed_;
  const size_t rough_steps_;
  Dice dice_;
  support::FakeClock clock_;
  Trace trace_{clock_};
  Weather weather_{dice_, trace_};
  ApiStore store_{clock_};
  support::TempFolder folder_;
  const std::shared_ptr<Repositories> repositories_ =
      std::make_shared<Repositories>(weather_, trace_);
  const std::shared_ptr<const core::Policy> policy_ = MakePolicy();
  std::map<std::string, std::unique_ptr<Machine>> machines_;
  Surroundings in_{clock_, trace_, weather_, store_, repositories_, machines_, policy_, nullptr};
  User user_{store_, *repositories_, dice_, trace_};
  Convergence convergence_{store_, *repositories_, machines_};
  std::unique_ptr<Process> process_, standby_;  ///< The leader, and who may follow it.
  std::unique_ptr<Process> stopped_;            ///< Was the leader, in the middle of a call.
  int disk_ = 2;                                ///< Of the operator that was started last.
  bool late_ = false;  ///< Of workspaces hardly anything reaches the one that stands by.
  std::map<std::string, base::MonoTime> beats_, tried_;  ///< When an agent reports next, or did.
  std::map<std::string, base::MonoTime> looks_in_;       ///< When the user looks next.
  std::map<std::string, std::string> reported_;          ///< The boot that was reported.
  std::map<std::string, bool> installing_;
  std::vector<Sent> under_way_;  ///< Reports that have not arrived yet.
  std::optional<base::WallTime> stamp_before_pass_, recovered_;  ///< Of recovery attempts.
  std::shared_ptr<const core::Policy> policy_before_pass_;
  base::MonoTime peace_{}, next_resync_ = clock_.Read().mono;
  size_t edits_ = 0, troubles_ = 0, kills_ = 0;  ///< Weights of the rough time.
  bool in_meanwhile_ = false;
};

}  // namespace simulation
