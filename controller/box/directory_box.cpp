#include "box/directory_box.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include "base/failpoint.hpp"
#include "bundle/folder.hpp"

namespace box {
namespace {

Presence ToPresence(bundle::Found found) {
  return found == bundle::Found::kPresent  ? Presence::kPresent
         : found == bundle::Found::kAbsent ? Presence::kAbsent
                                           : Presence::kUnknown;
}

PluginProbe ToProbe(bundle::InstalledPlugin plugin) {
  PluginProbe out;
  out.name = std::move(plugin.name);
  out.presence = ToPresence(plugin.found);
  out.cause = std::move(plugin.cause);
  out.digest = std::move(plugin.digest);
  out.reload_none = plugin.reload_none;
  out.mcp_merged = plugin.mcp_merged;
  if (plugin.receipt) {
    out.has_receipt = true;
    out.revision = plugin.receipt->revision;
    out.receipt_digest = plugin.receipt->digest;
    out.activated_boot_id = plugin.receipt->activated_boot_id;
    out.boot_installed = plugin.receipt->boot_installed;
  }
  return out;
}

base::Error Stopped(const char* what) {
  return base::MakeError(base::Code::kCancelled, fmt::format("{} a directory box: stopped", what));
}

class DirectoryBox final : public Box {
 public:
  DirectoryBox(DirectoryBoxOptions options, std::shared_ptr<bundle::DigestCache> cache,
               RequestRestart restart, const base::Clock& clock)
      : options_(std::move(options)),
        plugins_({.configs_path = Configs(),
                  .links_end_at = options_.links_end_at,
                  .settings_file = options_.settings_file,
                  .limits = options_.limits},
                 std::move(cache), clock),
        restart_(std::move(restart)) {}

  StateReport State(std::stop_token) override {
    const base::FailpointScope point("box.state");
    struct stat info {};
    const auto root = bundle::Folder::OpenBeneath(options_.links_end_at, options_.root);
    if (!root || ::fstat(root->Fd(), &info) != 0)
      return {BoxState::kUnknown, root ? "the box's root cannot be read" : root.error().message,
              ""};
    StateReport report{BoxState::kRunning, "", fmt::format("{}:{}", info.st_dev, info.st_ino)};
    const auto running = bundle::IsAgentRunning(Configs(), options_.links_end_at);
    if (!running) return {BoxState::kUnknown, running.error().message, ""};
    if (!*running) {
      report.state = BoxState::kStopped;
      report.cause = "no agent holds " + Configs() + "/" + bundle::kAgentLockFile;
    }
    return report;
  }

  base::Result<ProbeReport> Probe(const std::vector<std::string>& names,
                                  const std::vector<Delivery>& record,
                                  std::stop_token stop) override {
    const base::FailpointScope point("box.probe");
    for (const Delivery& plugin : record)  // What comes of it is seen below.
      (void)plugins_.Adopt({plugin.name, plugin.source, plugin.revision, plugin.digest, ""});
    auto inventory = plugins_.Probe(names, stop);
    if (!inventory) return inventory.error();
    ProbeReport report;
    for (bundle::InstalledPlugin& plugin : inventory->plugins)
      report.plugins.push_back(ToProbe(std::move(plugin)));
    for (bundle::Tombstone& tombstone : inventory->removals)
      report.removals.push_back({std::move(tombstone.name), std::move(tombstone.boot_id)});
    return report;
  }

  base::Result<std::vector<StepResult>> Deliver(const std::vector<Delivery>& deliveries,
                                                std::stop_token stop) override {
    const base::FailpointScope point("box.deliver");
    std::vector<StepResult> results;
    for (const Delivery& delivery : deliveries) {
      if (stop.stop_requested()) return Stopped("deliver to");
      results.push_back(
          {delivery.name, plugins_.Stage({delivery.name, delivery.source, delivery.revision,
                                          delivery.digest, delivery.tar_path},
                                         stop)});
    }
    return results;
  }

  base::Result<std::vector<StepResult>> Adopt(const std::vector<Delivery>& present,
                                              std::stop_token stop) override {
    const base::FailpointScope point("box.adopt");
    std::vector<StepResult> results;
    for (const Delivery& plugin : present) {
      if (stop.stop_requested()) return Stopped("record in");
      results.push_back({plugin.name, plugins_.Adopt({plugin.name, plugin.source, plugin.revision,
                                                      plugin.digest, plugin.tar_path})});
    }
    return results;
  }

  base::Result<std::vector<StepResult>> Activate(const ActivateRequest& request,
                                                 std::stop_token stop) override {
    const base::FailpointScope point("box.activate");
    std::vector<StepResult> results;
    for (const std::string& name : request.names) {
      if (stop.stop_requested()) return Stopped("activate in");
      results.push_back({name, plugins_.Activate(name, request.boot_id)});
    }
    return results;
  }

  base::Result<std::vector<StepResult>> Remove(const std::vector<std::string>& names,
                                               const std::string& boot_id,
                                               std::stop_token stop) override {
    const base::FailpointScope point("box.remove");
    std::vector<StepResult> results;
    for (const std::string& name : names) {
      if (stop.stop_requested()) return Stopped("remove from");
      results.push_back({name, plugins_.Remove(name, boot_id)});
    }
    return results;
  }

  base::Status ClearRemovals(const std::string& boot_id, std::stop_token) override {
    const base::FailpointScope point("box.clear_removals");
    return plugins_.ClearRemovals(boot_id);
  }

  base::Status Restart(const std::string& expected_boot_id, std::stop_token) override {
    if (!restart_)
      return base::MakeError(base::Code::kInvalid,
                             "nobody can restart the agent of this directory box",
                             "RestartUnsupported");
    const base::FailpointScope point("box.restart");
    return restart_(expected_boot_id);
  }

  base::Status WriteToken(const std::string& token, std::stop_token) override {
    const base::FailpointScope point("box.token");
    return plugins_.WriteToken(token);
  }

 private:
  std::string Configs() const { return options_.root + "/configs"; }

  DirectoryBoxOptions options_;
  bundle::InstalledPlugins plugins_;
  RequestRestart restart_;
};

}  // namespace

std::unique_ptr<Box> MakeDirectoryBox(DirectoryBoxOptions options,
                                      std::shared_ptr<bundle::DigestCache> cache,
                                      RequestRestart restart, const base::Clock& clock) {
  while (options.root.size() > 1 && options.root.back() == '/') options.root.pop_back();
  return std::make_unique<DirectoryBox>(std::move(options), std::move(cache), std::move(restart),
                                        clock);
}

}  // namespace box
