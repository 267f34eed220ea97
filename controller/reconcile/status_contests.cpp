#include "reconcile/status_contests.hpp"

namespace reconcile {
namespace {

constexpr base::Seconds kBetween{60};
constexpr base::Seconds kRemembered{600};
constexpr int kAtOnce = 3;  ///< By hand a status may be changed, too.
constexpr size_t kWorkspaces = 200'000;

/// What two views of one Workspace differ in, without the times and texts that change anyway.
base::Sha256Digest DigestOf(const api::WorkspaceStatus& status) {
  std::string text = status.state;
  const auto add = [&](const std::string& part) { text += "\n" + part; };
  for (const meta::Condition& c : status.conditions)
    add(c.type + " " + std::to_string(static_cast<int>(c.status)) + " " + c.reason);
  for (const api::PluginRow& row : status.plugins) add(row.name + " " + row.reason);
  add(status.box ? status.box->identity : "");
  add(status.agent ? status.agent->boot_id : "");
  add(status.pending_restart ? status.pending_restart->boot_id : "");
  return base::Sha256Of(text);
}

/// Somebody waits for this write: it answers a reconcile request.
bool Answers(const api::WorkspaceStatus& there, const api::WorkspaceStatus& wanted) {
  return there.last_handled_reconcile_at != wanted.last_handled_reconcile_at;
}

}  // namespace

base::Millis StatusContests::Ask(const std::string& uid, const api::WorkspaceStatus& there,
                                 const api::WorkspaceStatus& wanted, base::MonoTime now) const {
  if (Answers(there, wanted)) return {};
  const std::lock_guard lock(mutex_);
  const auto found = last_.find(uid);
  if (found == last_.end()) return {};
  const Last& last = found->second;
  if (last.put_back < kAtOnce || now - last.contested >= kRemembered) return {};
  if (DigestOf(there) == last.digest || DigestOf(wanted) != last.digest) return {};
  const auto since = now - last.when;
  return since >= kBetween ? base::Millis{} : std::chrono::ceil<base::Millis>(kBetween - since);
}

bool StatusContests::Written(const std::string& uid, const api::WorkspaceStatus& there,
                             const api::WorkspaceStatus& written, base::MonoTime now) {
  const base::Sha256Digest wrote = DigestOf(written);
  const std::lock_guard lock(mutex_);
  if (last_.size() >= kWorkspaces) last_.clear();
  const auto [found, first] = last_.try_emplace(uid);
  Last& last = found->second;
  const bool back =
      !first && wrote == last.digest && !Answers(there, written) && DigestOf(there) != last.digest;
  if (back && now - last.contested >= kRemembered) last.put_back = 0;
  if (back) {
    ++last.put_back;
    last.contested = now;
  }
  last.digest = wrote;
  last.when = now;
  return back && last.put_back >= kAtOnce;
}

void StatusContests::Forget(const std::string& uid) {
  const std::lock_guard lock(mutex_);
  last_.erase(uid);
}

}  // namespace reconcile
