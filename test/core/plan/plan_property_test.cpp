#include <doctest/doctest.h>

#include <cstdlib>
#include <random>

#include "core/restart_debt.hpp"
#include "core/world.hpp"

using core::StepKind;
using world::Digest;
using world::World;
using namespace std::chrono_literals;

/// Properties of reliability.md section 5 over generated worlds. The generator is seeded by the
/// case's number: a failure names it.
namespace {

/// Few by default, so that the whole program stays below a second even with sanitizers;
/// WO_WORLDS=500 looks harder.
uint32_t Worlds() {
  const char* wanted = std::getenv("WO_WORLDS");
  return wanted == nullptr ? 2 : static_cast<uint32_t>(std::max(1, std::atoi(wanted)));
}

class Dice {
 public:
  explicit Dice(uint32_t seed) : engine_(seed) {}
  int Upto(int n) { return static_cast<int>(engine_() % static_cast<uint32_t>(n)); }
  bool Chance(int percent) { return Upto(100) < percent; }

 private:
  std::mt19937 engine_;
};

char Revision(Dice& dice) { return static_cast<char>('a' + dice.Upto(4)); }

/// Any mixture of declared, installed, foreign, drifted and unloaded plugins.
World Any(Dice& dice) {
  World w;
  const int count = dice.Upto(6);
  for (int i = 0; i < count; ++i) {
    const std::string name = "p" + std::to_string(i);
    api::DeclaredPlugin& d = w.DeclareObject(name, Revision(dice));
    d.spec.update.policy = static_cast<api::UpdatePolicy>(dice.Upto(3));
    d.spec.deletion_policy =
        dice.Chance(20) ? api::DeletionPolicy::kOrphan : api::DeletionPolicy::kRemove;
    if (i > 0 && dice.Chance(30)) d.spec.depends_on = {"p" + std::to_string(dice.Upto(i))};
    if (dice.Chance(10)) d.spec.source = "broken";
    if (dice.Chance(10)) w.sources[d.spec.source].reload_none = true;
    if (dice.Chance(50)) {
      w.BootInstall(name, Revision(dice));
      w.box[name].receipt = dice.Chance(70);
      if (!w.box[name].receipt)
        w.box[name].receipt_digest = w.box[name].boot = w.box[name].revision = "";
      else if (dice.Chance(30))
        w.box[name].boot = w.BootId();
    }
  }
  if (dice.Chance(30)) w.BootInstall("stranger", 'e');
  w.ws.spec.restart.policy =
      dice.Chance(70) ? api::RestartPolicy::kImmediate : api::RestartPolicy::kWhenIdle;
  if (dice.Chance(50)) w.hb.active_tasks = dice.Upto(2);
  return w;
}

/// Something happens to the box, the agent or the declarations.
void Disturb(World& w, Dice& dice) {
  const std::string name = "p" + std::to_string(dice.Upto(6));
  switch (dice.Upto(9)) {
    case 0:
      w.box.erase(name);
      break;
    case 1:
      w.Publish(World::Source(name), Revision(dice));
      break;
    case 2:
      w.Reboot();
      break;
    case 3:
      w.hb.active_tasks = dice.Upto(2);
      break;
    case 4:
      if (w.box.contains(name) && w.box[name].receipt) w.box[name].digest = Digest('9');
      break;
    case 5:
      w.unknown = dice.Chance(50) ? std::set<std::string>{"*"} : std::set<std::string>{name};
      break;
    case 6:
      if (!w.declared.empty())
        w.declared.erase(w.declared.begin() + dice.Upto(static_cast<int>(w.declared.size())));
      break;
    case 7:
      w.box_state = static_cast<core::BoxState>(dice.Upto(3));
      break;
    default:
      w.unknown.clear();
      w.box_state = core::BoxState::kRunning;
  }
}

void Heal(World& w) {
  w.unknown.clear();
  w.box_state = core::BoxState::kRunning;
  w.agent_reports = true;
  w.hb.active_tasks = 0;
  w.fault = nullptr;
  w.loses_restart = false;
  w.Beat();
}

void CheckPlan(const World& w, const core::WorkspaceObservation& o) {
  CHECK(w.plan.next_check > w.now.mono);
  CHECK(w.decision.next_check > w.now.mono);
  const bool changes = w.Planned(StepKind::kActivate) + w.Planned(StepKind::kRemove) > 0;
  const int restarts = w.Planned(StepKind::kRestart);
  CHECK(restarts <= 1);
  if (restarts == 1) CHECK((changes || !core::OwedFor(o).empty()));
  for (const core::Step& step : w.plan.steps) {
    if (step.kind == StepKind::kDeliver || step.kind == StepKind::kActivate)
      CHECK(step.digest.starts_with("sha256:"));
    if (step.kind == StepKind::kRemove)
      CHECK(core::FindPlugin(o.probe, step.plugin).presence == core::Presence::kPresent);
    CHECK(step.plugin != "stranger");
  }
  if (w.box_state == core::BoxState::kStopped) CHECK(w.plan.steps.empty());
}

}  // namespace

TEST_CASE("property: planning again after a success plans nothing, and the debt is paid") {
  for (uint32_t seed = 0; seed < Worlds(); ++seed) {
    CAPTURE(seed);
    Dice dice(seed);
    World w = Any(dice);
    w.hb.active_tasks = 0;
    w.Settle(5);
    w.Decide();
    CHECK(w.plan.steps.empty());
    CHECK(!w.ws.status.pending_restart);
    const auto before = w.ws.status;
    w.Settle(3);
    CHECK(w.ws.status == before);
  }
}

TEST_CASE("property: whatever happens, plans keep the rules; then it heals and converges") {
  for (uint32_t seed = 0; seed < Worlds(); ++seed) {
    CAPTURE(seed);
    Dice dice(seed);
    World w = Any(dice);
    for (int i = 0; i < 25; ++i) {
      if (dice.Chance(60)) Disturb(w, dice);
      if (dice.Chance(10)) w.Restarted();
      const auto o = w.Observe();
      w.Decide();
      CheckPlan(w, o);
      w.Pass(dice.Chance(15) ? dice.Upto(4) : -1);
      w.Advance(base::Seconds(dice.Upto(400)));
    }
    Heal(w);
    w.ws.meta.annotations[api::kReconcileRequestedAnnotation] = "heal";
    w.Settle(12, 130s);
    w.Decide();
    CHECK(w.plan.steps.empty());
    CHECK(!w.ws.status.pending_restart);
    for (const core::DesiredPlugin& p : w.set.plugins) {
      if (!p.blocked_reason.empty()) continue;
      CAPTURE(p.name);
      const bool held_back = w.Reason(p.name) == "DependencyNotReady";
      CHECK((w.box.contains(p.name) || held_back));
      if (p.update == api::UpdatePolicy::kTrack && !held_back && w.box[p.name].receipt)
        CHECK(w.box[p.name].receipt_digest == p.resolution.digest);
    }
  }
}

TEST_CASE("property: Unknown never removes and never restarts") {
  for (uint32_t seed = 0; seed < Worlds(); ++seed) {
    CAPTURE(seed);
    Dice dice(seed);
    World w = Any(dice);
    w.Settle(dice.Upto(3));
    if (dice.Chance(50)) w.declared.clear();
    w.unknown = {"*"};
    for (int i = 0; i < 8; ++i) {
      w.Pass();
      CHECK(w.Planned(StepKind::kRemove) == 0);
      CHECK(w.Planned(StepKind::kRestart) == 0);
      w.Advance(60s);
    }
  }
}

TEST_CASE("property: skipped, repeated and reordered passes end in the same state (SC-2)") {
  for (uint32_t seed = 0; seed < Worlds(); ++seed) {
    CAPTURE(seed);
    Dice setup(seed);
    World calm = Any(setup);
    calm.hb.active_tasks = 0;
    World busy = calm;
    calm.Settle(10);
    Dice dice(seed + 1000);
    // The same facts, seen through lost probes, doubled passes, restarts of the operator and
    // crashes.
    for (int i = 0; i < 12; ++i) {
      busy.unknown = dice.Chance(40) ? std::set<std::string>{"*"} : std::set<std::string>{};
      if (dice.Chance(20)) busy.Restarted();
      const int times = dice.Upto(3);
      for (int k = 0; k < times; ++k) busy.Pass(dice.Chance(20) ? dice.Upto(3) : -1);
      busy.Advance(base::Seconds(dice.Upto(60)));
    }
    Heal(busy);
    busy.Settle(12, 130s);
    REQUIRE(busy.box.size() == calm.box.size());
    for (const auto& [name, p] : calm.box) CHECK(busy.box[name].digest == p.digest);
    REQUIRE(busy.ws.status.plugins.size() == calm.ws.status.plugins.size());
    for (size_t i = 0; i < calm.ws.status.plugins.size(); ++i) {
      CHECK(busy.ws.status.plugins[i].digest == calm.ws.status.plugins[i].digest);
      CHECK(busy.ws.status.plugins[i].loaded == calm.ws.status.plugins[i].loaded);
      CHECK(busy.ws.status.plugins[i].reason == calm.ws.status.plugins[i].reason);
    }
    CHECK(busy.Condition("Ready") == calm.Condition("Ready"));
  }
}

TEST_CASE(
    "property: a crash at any step leaves nothing changed or a debt that is paid exactly once") {
  for (int crash = 0; crash <= 9; ++crash) {
    CAPTURE(crash);
    World w;
    w.Declare("p", 'a');
    w.Declare("q", 'b');
    w.DeclareObject("old", 'c');
    w.BootInstall("old", 'c');
    w.Settle(0);
    w.Pass(crash);
    w.Settle(8);
    CHECK(w.Count(StepKind::kRestart) == 1);
    CHECK(w.Condition("Ready") == "True");
    CHECK(w.box["p"].digest == Digest('a'));
    w.declared.clear();
    w.Pass(crash);
    w.Settle(8);
    CHECK(w.Count(StepKind::kRestart) == 2);
    CHECK(!w.box.contains("old"));
    CHECK(w.Condition("Ready") == "True");
  }
}

TEST_CASE("property: WhenIdle never changes files beneath a busy agent before its deadline") {
  for (uint32_t seed = 0; seed < Worlds(); ++seed) {
    CAPTURE(seed);
    Dice dice(seed);
    World w = Any(dice);
    w.ws.spec.restart.policy = api::RestartPolicy::kWhenIdle;
    for (auto& [text, r] : w.sources) r.reload_none = false;
    w.hb.active_tasks = 1;
    for (int i = 0; i < 20; ++i) {
      if (dice.Chance(40))
        w.Publish(World::Source("p" + std::to_string(dice.Upto(6))), Revision(dice));
      if (dice.Chance(10)) w.Restarted();
      w.Pass();
      CHECK(!w.plan.ChangesBox());
      w.Advance(base::Seconds(dice.Upto(150)));
    }
  }
}

TEST_CASE(
    "property: a box that undoes everything is restarted no oftener than once a pass and never "
    "without a change") {
  World w;
  w.Declare("p", 'a');
  for (int i = 0; i < 100; ++i) {
    const size_t before = w.done.size();
    w.Pass();
    const int restarts = static_cast<int>(std::count(
        w.done.begin() + static_cast<std::ptrdiff_t>(before), w.done.end(), StepKind::kRestart));
    CHECK(restarts <= 1);
    w.box.clear();
    w.Advance(300s);
  }
}
