#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/result.hpp"
#include "box/box.hpp"
#include "bundle/installed/receipt.hpp"
#include "protocol/answer.hpp"
#include "protocol/heartbeat.hpp"
#include "reconcile/simulation/sources.hpp"

namespace simulation {

/// The truth about one box: what is on its disk, what its runtime has loaded, which start this is.
/// It keeps the rules of bundle::InstalledPlugins (receipts, staging, tombstones, the boot id that
/// its agent has recorded) without a disk, and notes what an operator must never do.
class Machine {
 public:
  /// A plugin that somebody else put there and nobody declares.
  static constexpr char kStranger[] = "stranger";

  struct Receipt {
    std::string digest, revision, boot;
    bool boot_installed = false;
  };

  /// A Pod has a UID and a container, of which both can be other ones later.
  enum class Form { kPod, kOther };

  Machine(std::string name, Form form, Trace& trace)
      : name_(std::move(name)), form_(form), trace_(trace) {}

  /// As its box reports it: "pod:UID/CONTAINER", or a name for ever.
  std::string Identity() const {
    return form_ == Form::kPod ? fmt::format("{}/{}", AgentIdentity(), container_) : "box:" + name_;
  }
  /// As its agent says it.
  std::string AgentIdentity() const {
    return form_ == Form::kPod ? fmt::format("pod:0c0ffee{}", pod_) : Identity();
  }
  std::string BootId() const { return fmt::format("{}-{}", name_, boot_); }
  bool Running() const { return running_; }
  bool Has(const std::string& plugin) const { return trees_.contains(plugin); }
  bool HasReceipt(const std::string& plugin) const { return receipts_.contains(plugin); }
  std::string DigestOf(const std::string& plugin) const { return At(trees_, plugin); }
  std::string LoadedDigest(const std::string& plugin) const { return At(loaded_, plugin); }
  bool HasTombstones() const { return !tombstones_.empty(); }
  std::set<std::string> Plugins() const {
    std::set<std::string> names;
    for (const auto& [name, digest] : trees_) names.insert(name);
    return names;
  }
  /// Changes of what is visible in the box, starts included.
  size_t Changes() const { return changes_; }

  // What people, the machine and its own agent do.

  /// The runtime starts anew and loads what is there.
  void Boot() {
    ++boot_;
    ++changes_;
    running_ = true;
    loaded_ = trees_;
    unloaded_.clear();
    sequence_ = 0;
    Forgotten();
  }
  void Stop() {
    running_ = false;
    Forgotten();
  }
  /// Another container in the same Pod; the plugins are on a volume, the token need not be.
  void NewContainer(bool keeps_token) {
    if (form_ != Form::kPod) return Boot();
    ++container_;
    if (!keeps_token) token_.clear();
    Boot();
  }
  /// Another Pod of that name; false: with a volume of its own, which is empty.
  void NewPod(bool keeps_volume) {
    if (form_ != Form::kPod) return keeps_volume ? Boot() : Wipe();
    ++pod_;
    container_ = 1;
    token_.clear();
    keeps_volume ? Boot() : Wipe();
  }
  /// As a boot-install or an image leaves it, before the runtime starts.
  void Bring(const std::string& plugin, char revision, bool with_receipt) {
    trees_[plugin] = loaded_[plugin] = Repositories::Digest(plugin, revision);
    if (with_receipt)
      receipts_[plugin] = {trees_[plugin], Repositories::Commit(revision), "image", true};
  }
  void LoseTree(const std::string& plugin) {
    trees_.erase(plugin);
    Forgotten();
  }
  /// A new, empty volume beneath a new start.
  void Wipe() {
    std::erase_if(trees_, [](const auto& tree) { return tree.first != kStranger; });
    receipts_.clear();
    staged_.clear();
    tombstones_.clear();
    Boot();
  }
  void ChangeFile(const std::string& plugin) {
    if (!trees_.contains(plugin)) return;
    trees_[plugin] = base::DigestText(base::Sha256Of(fmt::format("changed {}", ++edits_)));
    Forgotten();
  }
  void SetTasks(std::optional<int32_t> tasks) { tasks_ = tasks; }
  void SetToken(std::string token) { token_ = std::move(token); }
  const std::string& Token() const { return token_; }

  /// What its agent says next.
  protocol::Heartbeat Report(const std::string& workspace, bool installing) {
    protocol::Heartbeat said;
    said.workspace = workspace;
    said.boot_id = BootId();
    said.sequence = ++sequence_;
    said.active_tasks = tasks_;
    said.error_rate = 0;
    said.model_present = true;
    said.boot_install = protocol::BootInstall{
        installing ? protocol::BootInstallState::kRunning : protocol::BootInstallState::kDone, ""};
    said.inventory.emplace();
    said.loaded_tools.emplace();
    std::vector<bundle::InventoryItem> items;
    for (const auto& [plugin, digest] : trees_) {
      const std::string revision =
          receipts_.contains(plugin) ? receipts_.at(plugin).revision : std::string();
      items.push_back({plugin, revision, digest, Lists(plugin), IsNewer(plugin)});
      said.inventory->push_back({plugin, revision, digest, Lists(plugin), IsNewer(plugin)});
    }
    said.inventory_digest = bundle::InventoryDigest(items);
    said.management_present = loaded_.contains("mgmt");
    if (loaded_.contains("mgmt")) said.loaded_tools->push_back("mcp__mgmt__list");
    return said;
  }

  /// What its agent does in an External box with the answer to a report. `lost`: whether a download
  /// fails.
  void Pull(const protocol::HeartbeatAnswer& answer, const std::function<bool()>& lost) {
    ClearRemovals(BootId());
    if (!answer.plugins_known) return;
    for (const protocol::PluginToFetch& wanted : answer.plugins) {
      if ((HasReceipt(wanted.name) && DigestOf(wanted.name) == wanted.digest) || lost()) continue;
      Stage({wanted.name, wanted.revision, wanted.digest, wanted.source, ""});
      if (staged_.contains(wanted.name)) (void)Activate(wanted.name);
    }
    for (const std::string& plugin : answer.remove) (void)Remove(plugin);
  }

  // What the operator does: port box::Box, without the way there.

  box::PluginProbe Look(const std::string& plugin) const {
    box::PluginProbe seen;
    seen.name = plugin;
    seen.presence = Has(plugin) ? box::Presence::kPresent : box::Presence::kAbsent;
    seen.digest = DigestOf(plugin);
    seen.reload_none = Has(plugin) && Repositories::ReloadNone(plugin);
    const auto receipt = receipts_.find(plugin);
    if (receipt == receipts_.end()) return seen;
    seen.has_receipt = true;
    seen.revision = receipt->second.revision;
    seen.receipt_digest = receipt->second.digest;
    seen.activated_boot_id = receipt->second.boot;
    seen.boot_installed = receipt->second.boot_installed;
    return seen;
  }
  box::ProbeReport LookAtAll(const std::vector<std::string>& asked) const {
    box::ProbeReport report;
    for (const std::string& plugin : asked) report.plugins.push_back(Look(plugin));
    for (const auto& [plugin, receipt] : receipts_)
      if (std::find(asked.begin(), asked.end(), plugin) == asked.end())
        report.plugins.push_back(Look(plugin));
    for (const auto& [plugin, boot] : tombstones_) report.removals.push_back({plugin, boot});
    return report;
  }
  /// An operator has got that answer: it knows what is there.
  void Told(const box::ProbeReport& report) {
    Forgotten();
    for (const box::PluginProbe& seen : report.plugins)
      if (seen.presence == box::Presence::kPresent) known_[seen.name] = seen.digest;
  }
  /// No operator can be sure any more.
  void Forgotten() { known_.clear(); }

  void Adopt(const box::Delivery& present) {
    if (DigestOf(present.name) != present.digest || HasReceipt(present.name)) return;
    receipts_[present.name] = {present.digest, present.revision, "", false};
  }
  void Stage(const box::Delivery& delivery) {
    if (At(known_, delivery.name) == delivery.digest && HasReceipt(delivery.name))
      trace_.Break(
          fmt::format("{}: {} is delivered although a probe has just said that these bytes "
                      "are there (SC-1)",
                      name_, delivery.name));
    if (Intact(delivery.name, delivery.digest)) return;
    if (!HasReceipt(delivery.name) && DigestOf(delivery.name) == delivery.digest)
      return Adopt(delivery);
    staged_[delivery.name] = {delivery.digest, delivery.revision, "", false};
  }
  base::Status Activate(const std::string& plugin) {
    const auto staged = staged_.find(plugin);
    const auto receipt = receipts_.find(plugin);
    if (receipt != receipts_.end() && Intact(plugin, receipt->second.digest) &&
        (staged == staged_.end() || staged->second.digest == receipt->second.digest)) {
      staged_.erase(plugin);
      return {};
    }
    if (staged == staged_.end())
      return base::MakeError(base::Code::kNotFound, plugin + ": nothing is staged", "NotStaged");
    trees_[plugin] = staged->second.digest;
    receipts_[plugin] = staged->second;
    receipts_[plugin].boot = BootId();
    staged_.erase(plugin);
    known_.erase(plugin);
    ++changes_;
    if (Repositories::ReloadNone(plugin)) return {};
    tombstones_.erase(plugin);
    unloaded_.insert(plugin);
    return {};
  }
  base::Status Remove(const std::string& plugin) {
    if (!HasReceipt(plugin) && !Has(plugin)) {
      staged_.erase(plugin);
      return {};
    }
    if (!HasReceipt(plugin))
      return base::MakeError(base::Code::kInvalid, plugin + " has no receipt of ours", "NotOurs");
    receipts_.erase(plugin);
    trees_.erase(plugin);
    staged_.erase(plugin);
    known_.erase(plugin);
    tombstones_[plugin] = BootId();
    unloaded_.insert(plugin);
    ++changes_;
    return {};
  }
  void ClearRemovals(const std::string& boot) {
    std::erase_if(tombstones_, [&](const auto& entry) { return entry.second != boot; });
  }
  /// True if it had an effect.
  bool Restart(const std::string& expected_boot) {
    if (expected_boot != BootId()) return false;
    if (unloaded_.empty())
      trace_.Break(
          fmt::format("{}: restarted although nothing that was changed waits for it", name_));
    Boot();
    return true;
  }

 private:
  static std::string At(const std::map<std::string, std::string>& from, const std::string& name) {
    const auto found = from.find(name);
    return found == from.end() ? "" : found->second;
  }
  bool Intact(const std::string& plugin, const std::string& digest) const {
    return HasReceipt(plugin) && receipts_.at(plugin).digest == digest &&
           DigestOf(plugin) == digest;
  }
  /// Its bytes came after this start.
  bool IsNewer(const std::string& plugin) const {
    return receipts_.contains(plugin) && receipts_.at(plugin).boot == BootId();
  }
  /// The runtime has loaded it, and what is there now is not newer.
  bool Lists(const std::string& plugin) const {
    return Repositories::ReloadNone(plugin) || (loaded_.contains(plugin) && !IsNewer(plugin));
  }

  const std::string name_;
  const Form form_;
  Trace& trace_;
  int pod_ = 0, container_ = 1;
  int boot_ = 1;
  bool running_ = true;
  int64_t sequence_ = 0;
  int edits_ = 0;
  size_t changes_ = 0;
  std::optional<int32_t> tasks_ = 0;
  std::string token_;
  std::map<std::string, std::string> trees_, loaded_;  ///< Name to digest.
  std::map<std::string, Receipt> receipts_, staged_;
  std::map<std::string, std::string> tombstones_;  ///< Name to boot id.
  std::set<std::string> unloaded_;                 ///< Changed by an operator since the start.
  std::map<std::string, std::string> known_;  ///< What the last answered probe has said, as long
                                              ///< as it is true and nobody has asked in vain.
};

}  // namespace simulation
