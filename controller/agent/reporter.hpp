#pragma once

#include <map>
#include <optional>
#include <stop_token>
#include <string>

#include "agent/agent.hpp"
#include "agent/backoff.hpp"
#include "agent/operator_link.hpp"
#include "agent/shared_state.hpp"
#include "bundle/installed/installed_plugins.hpp"

/// Private to agent/: registers, sends heartbeats, and hands the answers on.
namespace agent {

class Reporter {
 public:
  Reporter(const AgentOptions& options, OperatorLink& link,
           const bundle::InstalledPlugins& installed, SharedState& shared);
  /// Reports until stopped; a thread's body.
  void Run(std::stop_token stop);

 private:
  protocol::Heartbeat Build(const SharedState::View& view, std::stop_token stop);
  void AddInventory(protocol::Heartbeat& heartbeat, const SharedState::View& view,
                    std::stop_token stop);
  /// One report; how long to wait before the next.
  base::Millis ReportOnce(const SharedState::View& view, std::stop_token stop);
  base::Millis Heed(const http::Response& response);
  /// How long to wait after what has failed: `least` at least, a period at most.
  base::Millis Trouble(const std::string& what, base::Millis least = base::Millis{0});
  base::Millis Later(base::Millis least);
  base::Millis Refused(const http::Response& response, const std::string& what);
  /// Between two reports, as the operator said last.
  base::Millis Period() const;

  const AgentOptions& options_;
  OperatorLink& link_;
  const bundle::InstalledPlugins& installed_;
  SharedState& shared_;
  /// Whose presence is reported: the option's, else the one that an answer marked last.
  std::string management_plugin_;
  Backoff backoff_;
  base::MonoTime began_;
  bool registered_ = false;
  std::string sequence_boot_;
  int64_t sequence_ = 0;
  std::string acknowledged_inventory_;  ///< Digest that the operator said it holds.
  protocol::HeartbeatAnswer answer_;    ///< The last whole one: `unchanged` stands for it.
  std::string last_trouble_;            ///< Logged once, not at every beat.
  int deferrals_ = 0;                   ///< Answers in a row that asked to come again.
};

}  // namespace agent
