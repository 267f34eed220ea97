#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "reconcile/dependencies.hpp"

namespace reconcile {

/// The agents' tokens (behaviour.md section 6): a 256-bit token in a Secret beside the Workspace,
/// owned by it. This process keeps hashes only: the text is read from the Secret when a box has to
/// be given it, every six hours and at a reconcile request: somebody may have replaced it. Thread
/// safe.
class InstanceTokens {
 public:
  explicit InstanceTokens(const Dependencies& on) : on_(on) {}

  /// Makes sure that the Secret, the heartbeat table's slot and the token file of the box are
  /// there. `identity` is the box's (another one is given the token anew); `box` may be null (then
  /// only Secret and slot). Cheap when nothing is to be done. Errors: those of the API; kForbidden
  /// with reason TokenSecretForeign when a Secret of that name is not ours.
  base::Status Ensure(const api::Workspace& workspace, box::Box* box, std::stop_token stop);
  void Forget(const std::string& uid);

  /// `workspace-NAME-token`; a name of over 237 characters is cut and ends in a digest.
  static std::string SecretName(const std::string& workspace);

 private:
  struct Known {
    std::string box_with_token;  ///< Identity of the box that was given the token; empty: none yet.
    fleet::SlotSettings slot;
    base::MonoTime read{};        ///< When the Secret was.
    std::string read_at_request;  ///< The reconcile request that this answered.
  };
  struct Unread {
    base::MonoTime since{};
    bool told = false;
  };
  struct Texts {
    std::string current;
    std::string previous;
  };
  base::Result<Texts> ReadOrCreate(const api::Workspace& workspace, std::stop_token stop);
  base::Result<Texts> Create(const api::Workspace& workspace, std::stop_token stop);
  base::Status Give(box::Box& box, const std::string& token, std::stop_token stop);

  void TellUnread(const api::Workspace& workspace, const base::Error& why, base::MonoTime now);

  const Dependencies& on_;
  std::mutex mutex_;
  std::map<std::string, Known> known_;    ///< By uid.
  std::map<std::string, Unread> unread_;  ///< By uid, those whose token was never read.
};

}  // namespace reconcile
