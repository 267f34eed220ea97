#pragma once

#include <map>
#include <mutex>
#include <string>

#include "app/cluster/reviews.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"

namespace app {

/// Whether the bearer of a token may do something: a TokenReview says who it is, a
/// SubjectAccessReview whether that one may. `asked` is the review's resourceAttributes or
/// nonResourceAttributes, with its name, and `what` says it for people. Errors: kUnauthorized (no
/// or no valid token), kForbidden (names `what`), kUnavailable (the API cannot say; with
/// reason ReviewsForbidden it never will, until an admin acts).
base::Status ReviewAccess(Reviews& reviews, const std::string& token, const codec::Json& asked,
                          const std::string& what);

/// Who may read /metrics: whom the cluster allows `get` on the path /metrics. Answers are kept:
/// a yes for a minute, a no for 30 s; that the API cannot say is never a yes. Thread safe.
class ScrapeAccess {
 public:
  ScrapeAccess(Reviews& reviews, const base::Clock& clock) : reviews_(reviews), clock_(clock) {}
  base::Status Check(const std::string& token);

 private:
  struct Known {
    base::Status answer;
    base::MonoTime until;
  };
  Reviews& reviews_;
  const base::Clock& clock_;
  std::mutex mutex_;
  std::map<std::string, Known> known_;  ///< By the token's hash. By mutex_.
};

}  // namespace app
