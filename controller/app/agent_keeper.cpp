#include "app/agent_keeper.hpp"

#include "base/log.hpp"
#include "box/box_factory.hpp"

namespace app {

AgentKeeper::AgentKeeper(std::string program,
                         std::function<std::shared_ptr<const Settings>()> settings)
    : program_(std::move(program)), settings_(std::move(settings)), supervisor_({}) {}

void AgentKeeper::Look(const api::Workspace& workspace) {
  const std::lock_guard lock(mutex_);
  LookLocked(workspace);
}

void AgentKeeper::LookLocked(const api::Workspace& workspace) {
  const auto& box = workspace.spec.box;
  const bool ours = box.type == api::BoxType::kDirectory && box.directory &&
                    box.directory->run == api::DirectoryRun::kOperator;
  if (!ours || workspace.meta.deletion_time) return ForgetLocked(workspace);
  if (workspace.spec.suspend) return;  // The box is left alone: nothing is started nor ended.
  const auto settings = settings_();
  // What the box's own adapter refuses (and says in the status) gets no agent either.
  const auto place = box::FindDirectory(workspace, settings->directory_roots);
  if (!place) return ForgetLocked(workspace);
  const std::string& root = place->path;
  box::AgentSupervisor::Agent agent;
  agent.configs_path = root + "/configs";
  agent.links_end_at = place->links_end_at;
  agent.log_path = agent.configs_path + "/.molecule/agent.log";
  agent.command.argv = {
      program_, "agent",       "--root",           root,        "--operator-url",
      url_,     "--workspace", workspace.meta.uid, "--runtime", workspace.spec.runtime};
  if (!ca_file_.empty())
    agent.command.argv.insert(agent.command.argv.end(), {"--ca-file", ca_file_});
  if (const auto file = settings->settings_file_by_runtime.find(workspace.spec.runtime);
      file != settings->settings_file_by_runtime.end())
    agent.command.argv.insert(agent.command.argv.end(),
                              {"--settings-file", agent.configs_path + "/" + file->second});
  if (const auto runtime = settings->command_by_runtime.find(workspace.spec.runtime);
      runtime != settings->command_by_runtime.end()) {
    agent.command.argv.push_back("--");
    agent.command.argv.insert(agent.command.argv.end(), runtime->second.begin(),
                              runtime->second.end());
  } else {
    base::LogWarning(
        "no command for this runtime in the settings: its agent runs without a runtime process",
        {{"workspace", workspace.meta.Key().Text()}, {"runtime", workspace.spec.runtime}});
  }
  agent.command.environment = {
      {"PATH", "/usr/local/bin:/usr/bin:/bin"}, {"HOME", root}, {"LANG", "C.UTF-8"}};
  supervisor_.Ensure(workspace.meta.uid, std::move(agent));
}

void AgentKeeper::Forget(const api::Workspace& workspace) {
  const std::lock_guard lock(mutex_);
  ForgetLocked(workspace);
}

void AgentKeeper::ForgetLocked(const api::Workspace& workspace) {
  supervisor_.Remove(workspace.meta.uid);
}

}  // namespace app
