#pragma once

#include <fmt/ranges.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "box/box.hpp"
#include "reconcile/simulation/machine.hpp"
#include "reconcile/simulation/weather.hpp"

namespace simulation {

/// The operator's way to a machine: calls fail before or after their effect, or between two
/// plugins.
class MachineBox final : public box::Box {
 public:
  using Restarter = std::function<base::Status(const std::string& expected_boot)>;
  /// Called when something in the box is changed: the names (none: a restart is asked for).
  using Witness = std::function<void(const std::vector<std::string>& names)>;

  struct Parts {
    std::string name;
    Machine& machine;
    Weather& weather;
    Trace& trace;
    Restarter ask_agent = nullptr;  ///< Null: restarts by itself, at once.
    Witness witness = nullptr;
    std::function<bool()> may_act = nullptr;  ///< Of its operator, by its Lease. Null: always.
    std::function<base::Status()> provide = nullptr;  ///< Null: there is nothing to make.
  };
  explicit MachineBox(Parts parts) : on_(std::move(parts)) {}

  base::Status Provide(const box::MayEnd&, std::stop_token) override {
    if (!on_.provide) return {};
    const base::Status made = on_.provide();
    Note("provide", made ? "ok" : made.error().reason);
    return made;
  }
  box::StateReport State(std::stop_token) override {
    if (auto lost = on_.weather.Before("state"))
      return {box::BoxState::kUnknown, lost->message, ""};
    const bool running = on_.machine.Running();
    Note("state", running ? "Running" : "Stopped");
    if (auto lost = on_.weather.After("state")) return {box::BoxState::kUnknown, lost->message, ""};
    return {running ? box::BoxState::kRunning : box::BoxState::kStopped,
            running ? "" : "it is stopped", on_.machine.Identity()};
  }
  base::Result<box::ProbeReport> Probe(const std::vector<std::string>& names,
                                       const std::vector<box::Delivery>& record,
                                       std::stop_token) override {
    box::ProbeReport report;
    const auto look = [&]() -> base::Status {
      for (const box::Delivery& present : record) on_.machine.Adopt(present);
      report = on_.machine.LookAtAll(names);
      on_.machine.Told(report);
      return {};
    };
    on_.machine.Forgotten();
    const base::Status asked = Call("probe", Names(names), look, Kind::kLooks);
    if (asked) return report;
    on_.machine.Forgotten();
    return asked.error();
  }
  base::Result<std::vector<box::StepResult>> Deliver(const std::vector<box::Delivery>& deliveries,
                                                     std::stop_token) override {
    return Steps("deliver", deliveries, [&](const box::Delivery& d) -> base::Status {
      // Under way when the Lease ran out: another operator has looked since.
      if (on_.may_act && !on_.may_act()) on_.machine.Forgotten();
      on_.machine.Stage(d);
      return {};
    });
  }
  base::Result<std::vector<box::StepResult>> Adopt(const std::vector<box::Delivery>& present,
                                                   std::stop_token) override {
    return Steps("adopt", present, [&](const box::Delivery& d) -> base::Status {
      on_.machine.Adopt(d);
      return {};
    });
  }
  base::Result<std::vector<box::StepResult>> Activate(const box::ActivateRequest& request,
                                                      std::stop_token) override {
    return Steps("activate", request.names, [&](const std::string& name) {
      const size_t before = on_.machine.Changes();
      const base::Status done = on_.machine.Activate(name);
      if (on_.machine.Changes() != before) Witnessed({name});
      return done;
    });
  }
  base::Result<std::vector<box::StepResult>> Remove(const std::vector<std::string>& names,
                                                    const std::string&, std::stop_token) override {
    return Steps("remove", names, [&](const std::string& name) {
      const size_t before = on_.machine.Changes();
      const base::Status done = on_.machine.Remove(name);
      if (on_.machine.Changes() != before) Witnessed({name});
      return done;
    });
  }
  base::Status ClearRemovals(const std::string& boot_id, std::stop_token) override {
    return Call("clear removals", boot_id, [&]() -> base::Status {
      on_.machine.ClearRemovals(boot_id);
      return {};
    });
  }
  base::Status Restart(const std::string& expected, std::stop_token) override {
    return Call("restart", expected, [&]() -> base::Status {
      Witnessed({});
      if (on_.ask_agent) return on_.ask_agent(expected);
      if (on_.machine.Restart(expected))
        on_.trace.Note(fmt::format("box {}: is now {}", on_.name, on_.machine.BootId()));
      return {};
    });
  }
  base::Status WriteToken(const std::string& token, std::stop_token) override {
    return Call("token", "", [&]() -> base::Status {
      on_.machine.SetToken(token);
      return {};
    });
  }

 private:
  static std::string Names(const std::vector<std::string>& names) {
    return fmt::format("{}", fmt::join(names, ","));
  }
  static const std::string& NameOf(const std::string& name) { return name; }
  static const std::string& NameOf(const box::Delivery& delivery) { return delivery.name; }
  void Note(const std::string& what, const std::string& outcome) {
    on_.trace.Note(fmt::format("box {}: {} -> {}", on_.name, what, outcome));
  }
  void Witnessed(const std::vector<std::string>& names) {
    if (on_.witness) on_.witness(names);
  }

  enum class Kind { kLooks, kActs };
  template <typename Effect>
  base::Status Call(const std::string& what, const std::string& about, const Effect& effect,
                    Kind kind = Kind::kActs) {
    if (kind == Kind::kActs && on_.may_act && !on_.may_act())
      on_.trace.Break(fmt::format("{}: {} by an operator without a Lease", on_.name, what));
    if (auto lost = on_.weather.Before(what)) return *lost;
    if (!on_.machine.Running())
      return base::MakeError(base::Code::kUnavailable, "the box is stopped", "BoxNotRunning");
    const base::Status done = effect();
    Note(what + " " + about, done ? "ok" : done.error().reason);
    if (auto lost = on_.weather.After(what)) return *lost;
    return done;
  }
  template <typename Item, typename Effect>
  base::Result<std::vector<box::StepResult>> Steps(const std::string& what,
                                                   const std::vector<Item>& items,
                                                   const Effect& effect) {
    std::vector<box::StepResult> results;
    std::string about;
    for (const Item& item : items) about += (about.empty() ? "" : ",") + NameOf(item);
    const base::Status called = Call(what, about, [&]() -> base::Status {
      for (const Item& item : items) {
        if (!results.empty() && on_.weather.DiesBetween(what)) break;
        results.push_back({NameOf(item), effect(item)});
      }
      return {};
    });
    if (!called) return called.error();
    return results;
  }

  const Parts on_;
};

}  // namespace simulation
