#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/workspace.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "box/box.hpp"
#include "box/pod/ca_handings.hpp"
#include "box/pod/managed_pod.hpp"
#include "kube/client.hpp"
#include "kube/pod.hpp"

namespace box {

/// When Pods that failed were made again. Within this process and by the monotonic clock: the API
/// server's may be hours away from ours. Thread safe, bounded; forgetting makes one Pod too early.
class PodRemakes {
 public:
  /// Zero: it may be made again now, which is remembered. Else the rest of the wait: 10 s, doubled
  /// up to 5 min while Pods of this name go on failing, from the start after one that
  /// has lasted a minute.
  base::Millis Ask(const std::string& pod, base::MonoTime now);
  /// It was not made again after all: whoever asks next need not wait.
  void Forget(const std::string& pod);

 private:
  struct Remade {
    base::MonoTime when;
    int streak = 0;
  };
  std::mutex mutex_;
  std::map<std::string, Remade> remade_;
};

inline constexpr char kPodOutdated[] = "PodOutdated";

/// The objects of one managed Pod box: made, looked after, made again. For one pass.
class PodKeeper {
 public:
  struct Parts {
    kube::Client& client;
    const ManagedPodSettings& managed;
    PodRemakes& remakes;
    CaHandings& cas;
  };
  struct Remark {
    std::string reason, message;
  };
  /// Everything outlives it.
  PodKeeper(const api::Workspace& workspace, meta::ObjectKey pod, Parts on)
      : workspace_(workspace), key_(std::move(pod)), on_(on) {}

  /// Makes the claim, then the Pod, or looks after the one that is there (null: none). The Pod that
  /// it has made, or null. Errors beside those of MakeManagedPod, all where there is no Pod
  /// to keep: kInvalid PodTemplateMissing, PodForeign, ClaimForeign (somebody else's object has the
  /// name); kUnavailable ClaimTerminating, and with the Pod's own reason while a Pod that failed is
  /// made again.
  base::Result<std::shared_ptr<const kube::Pod>> Provide(const kube::Pod* pod,
                                                         const MayEnd& may_end,
                                                         std::stop_token stop);
  /// Deletes this very Pod, so that it is made anew.
  base::Status Delete(const kube::Pod& pod, std::stop_token stop) { return Delete(pod, "", stop); }
  /// Deletes the managed Pod that this Workspace had before it adopted the Pod of this keeper.
  base::Status RemoveFormer(const kube::Pod& former, std::stop_token stop);
  /// What is to be said of a Pod that is kept although it differs from what is wanted by now
  /// (PodOutdated), or nothing can be wanted by now (its template is gone). Else empty.
  const Remark& Said() const { return said_; }
  /// How long that stands by itself; none: until somebody changes something.
  std::optional<base::Millis> Wait() const { return wait_; }
  /// True if somebody else changes what we put into this Pod: another operator serves it, too.
  bool Contested() const { return contested_; }
  /// True if this pass has deleted the Pod: whoever looks at it from an informer sees it run on.
  bool Deleted() const { return deleted_; }
  /// What people are to be told of this pass.
  const std::vector<BoxNote>& Notes() const { return notes_; }

 private:
  base::Result<ManagedPod> Wanted(std::stop_token stop);
  base::Result<std::shared_ptr<const kube::Pod>> Create(const ManagedPod& wanted,
                                                        std::stop_token stop);
  base::Status KeepAsItIs(const kube::Pod& pod, base::Error why, std::stop_token stop);
  base::Status Keep(const kube::Pod& pod, const ManagedPod& wanted, const MayEnd& may_end,
                    std::stop_token stop);
  base::Result<bool> Replace(const kube::Pod& pod, const ManagedPod& wanted, const MayEnd& may_end,
                             std::stop_token stop);
  base::Result<EndPermit> Permit(const kube::Pod& pod, const ManagedPod& wanted,
                                 const MayEnd& may_end, std::stop_token stop);
  base::Result<bool> Annotate(const kube::Pod& pod, const char* name, const std::string& value,
                              std::stop_token stop);
  base::Status Renew(const kube::Pod& pod, const std::string& what, std::stop_token stop);
  base::Status Delete(const kube::Pod& pod, const std::string& version, std::stop_token stop);
  base::Result<bool> DeleteOnly(const kube::Pod& pod, const std::string& version,
                                std::stop_token stop);
  base::Status MakeAgain(const kube::Pod& pod, std::stop_token stop);
  base::Status EnsureClaim(const ManagedPod& wanted, std::stop_token stop);
  base::Status CheckClaim(const meta::ObjectMeta& claim) const;
  base::Status HandCa(const kube::Pod& pod, std::stop_token stop);
  kube::WriteOptions Writing(std::stop_token stop) const;

  const api::Workspace& workspace_;
  const meta::ObjectKey key_;  ///< Of the Pod, and of the claim.
  const Parts on_;
  Remark said_;
  std::optional<base::Millis> wait_;
  std::vector<BoxNote> notes_;
  bool deleted_ = false;
  bool contested_ = false;
};

}  // namespace box
