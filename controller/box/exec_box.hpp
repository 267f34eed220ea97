#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "box/box.hpp"
#include "box/exec_channel.hpp"
#include "protocol/box_frames.hpp"

namespace box {

/// Which way to the helper worked last in each box, so that a pass needs one exec. Thread safe,
/// bounded; forgetting costs a few tries.
class HelperMemory {
 public:
  std::optional<size_t> Find(const std::string& box) const;
  void Store(const std::string& box, size_t way);

 private:
  mutable std::mutex mutex_;
  std::map<std::string, size_t> ways_;
};

struct ExecBoxOptions {
  std::string root = "/";                       ///< Plugins are under <root>/configs/plugins.
  std::string settings_file = "settings.json";  ///< Of the runtime, relative to <root>/configs.
  /// Argument vectors that start this program inside the box, tried in this order, e.g.
  /// {"workspace-operator"}.
  std::vector<std::vector<std::string>> helpers;
  /// Where none of them is there: bring the program by `sh` and `tar` into
  /// <root>/configs/.molecule/helper, as soon as there is a plugin to look after. A token alone is
  /// written by `sh`.
  bool bring_helper = true;
  std::string memory_key;  ///< Names the box among those that share `memory`.
  std::shared_ptr<HelperMemory> memory;
};

/// The part of a box that is done by `workspace-operator box-helper` inside it. A concrete box adds
/// State, Restart and whatever starts it.
class ExecBox : public Box {
 public:
  ExecBox(std::unique_ptr<ExecChannel> channel, ExecBoxOptions options)
      : channel_(std::move(channel)), options_(std::move(options)) {}

  base::Result<ProbeReport> Probe(const std::vector<std::string>& names,
                                  const std::vector<Delivery>& record,
                                  std::stop_token stop) override;
  base::Result<std::vector<StepResult>> Deliver(const std::vector<Delivery>& deliveries,
                                                std::stop_token stop) override;
  base::Result<std::vector<StepResult>> Adopt(const std::vector<Delivery>& present,
                                              std::stop_token stop) override;
  base::Result<std::vector<StepResult>> Activate(const ActivateRequest& request,
                                                 std::stop_token stop) override;
  base::Result<std::vector<StepResult>> Remove(const std::vector<std::string>& names,
                                               const std::string& boot_id,
                                               std::stop_token stop) override;
  base::Status ClearRemovals(const std::string& boot_id, std::stop_token stop) override;
  base::Status WriteToken(const std::string& token, std::stop_token stop) override;

 protected:
  /// Asked before anything is run in the box: why nothing can be, or nothing.
  virtual base::Status MayRun(std::stop_token) { return {}; }
  /// Whether an agent holds the box's lock.
  base::Result<bool> AgentRuns(std::stop_token stop);

 private:
  struct Question;
  base::Result<protocol::BoxReply> Ask(Question question, std::stop_token stop);
  base::Result<protocol::BoxReply> AskOne(const std::vector<std::string>& helper,
                                          const Question& question, std::stop_token stop);
  base::Status BringHelper(std::stop_token stop);
  base::Result<bool> HasOurs(std::stop_token stop);
  base::Status TakeBackByShell(std::stop_token stop);
  base::Status WriteTokenByShell(const std::string& token, std::stop_token stop);
  base::Result<std::vector<StepResult>> AskSteps(Question question,
                                                 const std::vector<std::string>& names,
                                                 std::stop_token stop);
  std::string OwnFolder() const;
  std::string HelperFolder() const;

  std::unique_ptr<ExecChannel> channel_;
  ExecBoxOptions options_;
};

}  // namespace box
