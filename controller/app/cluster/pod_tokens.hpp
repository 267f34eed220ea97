#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>

#include "api/workspace.hpp"
#include "app/cluster/reviews.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/sha256.hpp"
#include "fleet/heartbeat_table.hpp"
#include "kube/client.hpp"
#include "kube/pod.hpp"

namespace app {

/// Finds out whom an unknown service-account token speaks for: TokenReview with our audience, the
/// Pod that it is bound to, the Workspace whose Pod that is. On threads of its own; the heartbeat
/// endpoint never waits for them. In the order in which tokens came first, so that each is answered
/// however many others are sent again and again. Thread safe.
class PodTokens {
 public:
  /// So many are found out at once: after a take-over all Pods' agents come at the same time, and
  /// one at a time 15,000 of them would take longer than an agent may be silent. Few enough for the
  /// API server, whose 429 makes each of them wait.
  static constexpr int kReviewers = 8;
  /// So many wait at most, and so many bytes of them: whoever reaches the port can send one.
  static constexpr size_t kMostWaiting = 16'384;
  static constexpr size_t kMostBytes = 16 << 20;

  struct Counts {
    size_t waiting = 0;  ///< Not found out yet, those that are being asked for included.
    size_t accepted = 0, denied = 0, unanswered = 0;  ///< Since the start.
    size_t turned_away = 0;  ///< Times that there was no room for one. Since the start.
  };
  using FindWorkspace =
      std::function<std::shared_ptr<const api::Workspace>(const meta::ObjectKey&)>;
  /// `refused`: tokens cannot be checked, so that agents in Pods are not heard. When that is found
  /// out, and every `Reviews::kRemembered` while it goes on; on a thread of Run.
  PodTokens(kube::Client& client, Reviews& reviews, fleet::HeartbeatTable& table,
            FindWorkspace find, std::function<void()> refused, const base::Clock& clock)
      : client_(client),
        reviews_(reviews),
        table_(table),
        find_(std::move(find)),
        refused_(std::move(refused)),
        clock_(clock) {}

  /// Takes a token that nobody knows, and says what its bearer is told meanwhile: kUnavailable with
  /// reason TokenReviewPending (it is being found out) or ReviewsForbidden (it cannot be). Nothing:
  /// it cannot be one of these, or was denied a moment ago.
  std::optional<base::Error> Consider(std::string_view token);
  /// Works with kReviewers threads, this one included. Once at a time.
  base::Status Run(std::stop_token stop);
  /// Some token is not found out yet.
  bool IsReviewing() const { return Count().waiting > 0; }
  Counts Count() const;
  /// The Workspace that a Pod belongs to: its owner's (managed), or its label's (adopted).
  static meta::ObjectKey WorkspaceOf(const kube::Pod& pod);
  /// Whether this Pod is the one that is the workspace's box. By its name as well: whoever may
  /// create Pods in a namespace can give one any owner.
  static bool IsBoxOf(const api::Workspace& workspace, const kube::Pod& pod);

 private:
  struct Verdict {
    std::string uid;  ///< Of the Workspace.
    base::MonoTime until;
  };
  void Work(const std::stop_token& stop);
  void Review(const std::string& token, std::stop_token stop);
  void TellRefused(bool refused);
  base::Result<Verdict> Decide(const std::string& token, std::stop_token stop);
  base::Result<kube::Pod> BoundPod(const std::string& token, std::stop_token stop);

  kube::Client& client_;
  Reviews& reviews_;
  fleet::HeartbeatTable& table_;
  const FindWorkspace find_;
  const std::function<void()> refused_;
  const base::Clock& clock_;
  mutable std::mutex mutex_;  ///< Of all below.
  std::condition_variable_any changed_;
  std::deque<std::string> waiting_;
  size_t waiting_bytes_ = 0;
  std::set<base::Sha256Digest> pending_;  ///< Of those that wait and those that are asked for.
  std::map<base::Sha256Digest, base::MonoTime> denied_;  ///< Until when.
  std::optional<base::MonoTime> told_refused_;
  Counts counts_;  ///< But `waiting`.
};

}  // namespace app
