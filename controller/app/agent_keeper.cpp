#include "app/agent_keeper.hpp"

#include "base/log.hpp"

namespace app {

AgentKeeper::AgentKeeper(std::string program,
                         std::function<std::shared_ptr<const Settings>()> settings)
    : program_(std::move(program)), settings_(std::move(settings)), supervisor_({}) {}

void AgentKeeper::Look(const api::Workspace& workspace) {
  const auto& directory = workspace.spec.box.directory;
  if (!directory || directory->run != api::DirectoryRun::kOperator) return;
  if (workspace.meta.deletion_time || workspace.spec.suspend) return Forget(workspace);
  box::AgentSupervisor::Agent agent;
  agent.configs_path = directory->path + "/configs";
  agent.log_path = agent.configs_path + "/.molecule/agent.log";
  agent.command.argv = {
      program_, "agent",       "--root",           directory->path, "--operator-url",
      url_,     "--workspace", workspace.meta.uid, "--runtime",     workspace.spec.runtime};
  if (!ca_file_.empty())
    agent.command.argv.insert(agent.command.argv.end(), {"--ca-file", ca_file_});
  const auto settings = settings_();
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
      {"PATH", "/usr/local/bin:/usr/bin:/bin"}, {"HOME", directory->path}, {"LANG", "C.UTF-8"}};
  supervisor_.Ensure(workspace.meta.uid, std::move(agent));
}

void AgentKeeper::Forget(const api::Workspace& workspace) {
  supervisor_.Remove(workspace.meta.uid);
}

}  // namespace app
