#include "box/agent_supervisor.hpp"

#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "base/failpoint.hpp"
#include "base/log.hpp"
#include "base/thread_name.hpp"
#include "box/agent_log.hpp"
#include "bundle/installed/installed_plugins.hpp"

namespace box {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

struct Slot {
  AgentSupervisor::Agent agent;
  AgentSupervisor::View view;
  std::unique_ptr<base::ChildProcess> child;
  SteadyTime next_start{};
  SteadyTime started{};
  base::Millis backoff{};
  SteadyTime next_log_look{};
  std::string log_problem;  ///< Told once, not at each look.
};

/// An agent that was told to end.
struct Ending {
  std::string key;
  std::unique_ptr<base::ChildProcess> child;
  SteadyTime until{};  ///< Then it is killed.
};

bool SameAgent(const AgentSupervisor::Agent& a, const AgentSupervisor::Agent& b) {
  return a.command.argv == b.command.argv && a.command.environment == b.command.environment &&
         a.command.working_directory == b.command.working_directory &&
         a.configs_path == b.configs_path && a.links_end_at == b.links_end_at &&
         a.log_path == b.log_path;
}

base::Result<std::unique_ptr<base::ChildProcess>> StartChild(const AgentSupervisor::Agent& agent) {
  if (agent.log_path.empty()) return base::ChildProcess::Start(agent.command, base::UniqueFd());
  const auto log = OpenAgentLog(agent.log_path, agent.links_end_at);
  if (!log) return log.error();
  return base::ChildProcess::Start(agent.command, *log);
}

}  // namespace

struct AgentSupervisor::State {
  explicit State(Options o) : options(o) {}
  void Work(std::stop_token stop);
  void Tick(const std::string& key, Slot& slot, SteadyTime now);
  void Start(const std::string& key, Slot& slot, SteadyTime now);
  void End(const std::string& key, std::unique_ptr<base::ChildProcess> child);
  void EndThose(SteadyTime now);
  void BoundOneLog(std::unique_lock<std::mutex>& lock, SteadyTime now);
  bool IsEnding(const std::string& key) const {
    return std::any_of(ending.begin(), ending.end(), [&](const Ending& e) { return e.key == key; });
  }

  Options options;
  mutable std::mutex mutex;
  std::condition_variable_any changed;
  std::map<std::string, Slot> slots;
  std::vector<Ending> ending;
  std::jthread thread;
};

void AgentSupervisor::State::Start(const std::string& key, Slot& slot, SteadyTime now) {
  const auto taken = bundle::IsAgentRunning(slot.agent.configs_path, slot.agent.links_end_at);
  slot.view.adopted = taken && *taken;
  slot.next_start = now + options.min_backoff;
  if (slot.view.adopted) return;
  const base::FailpointScope point("box.agent.start");
  auto child = StartChild(slot.agent);
  ++slot.view.starts;
  slot.started = now;
  if (!child) {
    slot.view.last_error = child.error().message;
    slot.backoff = std::clamp(slot.backoff * 2, options.min_backoff, options.max_backoff);
    slot.next_start = now + slot.backoff;
    base::LogError("an agent could not be started",
                   {{"workspace", key}, {"error", slot.view.last_error}});
    return;
  }
  slot.child = *std::move(child);
  slot.view.pid = slot.child->Pid();
  slot.view.running = true;
  slot.view.last_error.clear();
}

void AgentSupervisor::State::Tick(const std::string& key, Slot& slot, SteadyTime now) {
  if (!slot.child) {
    if (now >= slot.next_start && !IsEnding(key)) Start(key, slot, now);
    return;
  }
  const auto code = slot.child->Poll();
  if (!code) return;
  if (now - slot.started >= options.stable_after) slot.backoff = base::Millis(0);
  slot.backoff = std::clamp(slot.backoff * 2, options.min_backoff, options.max_backoff);
  slot.next_start = now + slot.backoff;
  slot.view.last_exit = *code;
  slot.view.running = false;
  slot.view.pid = 0;
  slot.child.reset();
  base::LogWarning("an agent ended; it is started again",
                   {{"workspace", key},
                    {"exitCode", std::to_string(*code)},
                    {"afterMillis", std::to_string(slot.backoff.count())}});
}

void AgentSupervisor::State::End(const std::string& key,
                                 std::unique_ptr<base::ChildProcess> child) {
  if (!child) return;
  child->Signal(SIGTERM);
  ending.push_back({key, std::move(child), std::chrono::steady_clock::now() + options.grace});
}

void AgentSupervisor::State::EndThose(SteadyTime now) {
  std::erase_if(ending, [&](Ending& one) {
    if (now < one.until && !one.child->HasEnded()) return false;
    one.child->Terminate(base::Millis(0));
    return true;
  });
}

/// The log whose look is due for longest. Its disk may be slow and callers must not wait for it, so
/// the lock is given up meanwhile.
void AgentSupervisor::State::BoundOneLog(std::unique_lock<std::mutex>& lock, SteadyTime now) {
  const auto sooner = [](const auto& a, const auto& b) {
    return a.second.next_log_look < b.second.next_log_look;
  };
  const auto due = std::min_element(slots.begin(), slots.end(), sooner);
  if (due == slots.end() || now < due->second.next_log_look) return;
  due->second.next_log_look = now + options.log_look;
  const std::string key = due->first;
  const Agent agent = due->second.agent;
  if (agent.log_path.empty()) return;
  lock.unlock();
  const base::Status bounded = BoundAgentLog(agent.log_path, agent.links_end_at, options.log_limit);
  lock.lock();
  const auto found = slots.find(key);
  if (found == slots.end()) return;
  std::string problem = bounded ? "" : bounded.error().message;
  if (!problem.empty() && problem != found->second.log_problem)
    base::LogWarning("the log of an agent could not be kept short",
                     {{"workspace", key}, {"path", agent.log_path}, {"error", problem}});
  found->second.log_problem = std::move(problem);
}

void AgentSupervisor::State::Work(std::stop_token stop) {
  std::unique_lock lock(mutex);
  const auto idle = [this] { return slots.empty() && ending.empty(); };
  while (!stop.stop_requested()) {
    const auto now = std::chrono::steady_clock::now();
    EndThose(now);
    for (auto& [key, slot] : slots) Tick(key, slot, now);
    BoundOneLog(lock, now);
    if (idle())
      changed.wait(lock, stop, [&] { return !idle(); });
    else
      changed.wait_for(lock, stop, options.poll, [] { return false; });
  }
}

AgentSupervisor::AgentSupervisor(Options options) : state_(std::make_unique<State>(options)) {
  state_->thread = std::jthread([state = state_.get()](std::stop_token stop) {
    base::NameThread("supervisor");
    state->Work(stop);
  });
}

AgentSupervisor::~AgentSupervisor() {
  state_->thread.request_stop();
  state_->thread.join();
  // All get their SIGTERM at once; then each is waited for with what is left of one grace period.
  const auto end = std::chrono::steady_clock::now() + state_->options.grace;
  for (auto& [key, slot] : state_->slots)
    if (slot.child) slot.child->Signal(SIGTERM);
  const auto end_one = [end](base::ChildProcess& child) {
    child.Terminate(std::max(base::Millis(0), std::chrono::duration_cast<base::Millis>(
                                                  end - std::chrono::steady_clock::now())));
  };
  for (auto& [key, slot] : state_->slots)
    if (slot.child) end_one(*slot.child);
  for (Ending& one : state_->ending) end_one(*one.child);
}

void AgentSupervisor::Ensure(const std::string& key, Agent agent) {
  {
    const std::lock_guard lock(state_->mutex);
    Slot& slot = state_->slots[key];
    if (SameAgent(slot.agent, agent)) return;
    state_->End(key, std::move(slot.child));
    slot = Slot{};
    slot.agent = std::move(agent);
  }
  state_->changed.notify_all();
}

void AgentSupervisor::Remove(const std::string& key) {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->slots.find(key);
  if (found == state_->slots.end()) return;
  if (found->second.view.adopted)
    base::LogWarning("an agent that this operator did not start is left running",
                     {{"workspace", key}});
  state_->End(key, std::move(found->second.child));
  state_->slots.erase(found);
}

std::optional<AgentSupervisor::View> AgentSupervisor::Find(const std::string& key) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->slots.find(key);
  if (found == state_->slots.end()) return std::nullopt;
  return found->second.view;
}

}  // namespace box
