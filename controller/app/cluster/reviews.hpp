#pragma once

#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"
#include "kube/client.hpp"

namespace app {

/// Asks the API server whose a token is (TokenReview) and what somebody may do
/// (SubjectAccessReview), and remembers when it forbids us to ask: then the operator's account
/// lacks a right that only a cluster admin can give. Thread safe.
class Reviews {
 public:
  Reviews(kube::Client& client, const base::Clock& clock) : client_(client), clock_(clock) {}

  /// The `status` of the review with this `spec`. Errors: kUnavailable, with reason
  /// ReviewsForbidden when we may not ask; that is not asked again for `kPause`.
  base::Result<codec::Json> Token(codec::Json spec, std::stop_token stop = {});
  base::Result<codec::Json> Access(codec::Json spec, std::stop_token stop = {});

  /// Which right is missing, while somebody's token could not be checked for it: until that review
  /// is allowed, or nobody has needed it for `kRemembered`.
  std::optional<std::string> Problem() const;
  /// The same of TokenReviews alone.
  std::optional<std::string> TokenProblem() const;
  /// What whoever sent a token is told now, if no TokenReview would be asked for it.
  std::optional<base::Error> TokenRefusal();

  static constexpr base::Seconds kPause{5};
  static constexpr base::Seconds kRemembered{300};

 private:
  /// One kind of review: when it was needed last and when it was refused last.
  struct Right {
    const char* kind;
    const char* resource;
    const char* path;
    std::optional<base::MonoTime> refused = {};
    base::MonoTime needed{};
    bool Stands(base::MonoTime now) const { return refused && now < needed + kRemembered; }
  };
  base::Result<codec::Json> Ask(Right& right, codec::Json spec, std::stop_token stop);
  std::optional<base::Error> Refusal(Right& right);
  void Note(Right& right, bool forbidden);

  kube::Client& client_;
  const base::Clock& clock_;
  mutable std::mutex mutex_;
  Right token_{"TokenReview", "tokenreviews.authentication.k8s.io",
               "/apis/authentication.k8s.io/v1/tokenreviews"};  ///< Its times: by mutex_.
  Right access_{"SubjectAccessReview", "subjectaccessreviews.authorization.k8s.io",
                "/apis/authorization.k8s.io/v1/subjectaccessreviews"};  ///< Its times: by mutex_.
};

}  // namespace app
