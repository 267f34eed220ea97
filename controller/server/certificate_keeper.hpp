#pragma once

#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "http/server/server.hpp"
#include "kube/client.hpp"
#include "server/authority.hpp"

namespace server {

struct CertificateOptions {
  std::string ns;  ///< Of the Secret with the authority: the operator's own.
  std::string secret = "workspace-operator-ca";
  std::vector<std::string> names;  ///< DNS names and IP addresses to serve under.
  AuthorityPolicy policy = {};
  base::Seconds check_period{600};  ///< How often the Secret is read again.
  const base::Clock* clock = &base::SystemClock::Get();
};

/// kInvalid (BadServingName) when one of options.names cannot stand in a certificate: no retry can
/// mend that.
base::Status CheckNames(const CertificateOptions& options);

/// Keeps the endpoint's serving certificate good. The authority is one Secret that all replicas
/// share: whoever comes first makes it, and every change is a compare-and-swap, so no leader is
/// needed. The serving certificate and its key live in this process only.
class CertificateKeeper {
 public:
  CertificateKeeper(kube::Client& client, CertificateOptions options);

  /// One pass: read, rotate, sign. The material when it has changed since the last pass. An error
  /// leaves everything as it was.
  base::Result<std::optional<http::TlsMaterial>> Refresh(std::stop_token stop);
  /// The first material; tries again until `stop` (kCancelled), says in the log what is wrong.
  base::Result<http::TlsMaterial> First(std::stop_token stop);
  /// Refreshes for ever, more often while something is wrong. `refreshed` is called after each good
  /// pass, with the material if that is new.
  base::Status Run(const std::function<void(const http::TlsMaterial*)>& refreshed,
                   std::stop_token stop);

  /// What agents have to trust; empty before First(). Thread safe, as are those below.
  std::string Bundle() const;
  base::WallTime CertificateEnds() const;
  base::WallTime AuthorityEnds() const;

 private:
  base::Result<Authority> Stored(std::stop_token stop);
  base::Result<Authority> Store(const Authority& wanted, std::stop_token stop);
  base::Result<http::TlsMaterial> Sign(const Authority& authority) const;
  void TellIfNotYetValid(const Authority& authority);
  base::Seconds Period() const;

  kube::Client& client_;
  const CertificateOptions options_;
  std::string signer_pem_;  ///< Used by Refresh only, as is the next.
  http::TlsMaterial material_;
  std::string told_pem_;  ///< The authority that was told of.
  mutable std::mutex mutex_;
  std::string bundle_;                                    ///< By mutex_.
  std::optional<Authority> authority_;                    ///< By mutex_.
  base::WallTime certificate_ends_{}, authority_ends_{};  ///< By mutex_.
};

}  // namespace server
