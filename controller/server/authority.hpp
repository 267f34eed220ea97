#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "http/tls.hpp"

namespace server {

/// The certificate authority of the operator's HTTP endpoint, as its Secret holds it.
///
///   none --> current --4/5 of its life--> current + next --overlap--> next is current, old retired
///
/// Agents trust all of them, so `next` is known everywhere before it signs, and what the old one
/// signed stays good.
struct Authority {
  http::CertificateAndKey current;              ///< Signs serving certificates.
  std::optional<http::CertificateAndKey> next;  ///< Trusted already, does not sign yet.
  std::vector<std::string> retired_pem;         ///< Trusted until they end.
  std::string resource_version;                 ///< Of the Secret; empty: not stored yet.

  /// What an agent has to trust: PEM certificates, the signing one first.
  std::string Bundle() const;
};

struct AuthorityPolicy {
  base::Seconds authority_life{std::chrono::hours{24 * 3650}};
  base::Seconds overlap{
      std::chrono::hours{24}};  ///< Between publishing `next` and signing with it.
  base::Seconds certificate_life{std::chrono::hours{24 * 30}};  ///< Of a serving certificate.
};

/// What has to be stored now; nothing when all is well. Makes keys, otherwise depends on its
/// arguments only.
base::Result<std::optional<Authority>> PlanAuthority(const std::optional<Authority>& stored,
                                                     const AuthorityPolicy& policy,
                                                     base::WallTime now);

/// The Secret's JSON: tls.crt and tls.key (current), next.crt and next.key, ca.crt (the bundle).
std::string EncodeAuthority(const Authority& authority, const std::string& ns,
                            const std::string& name);
/// kInvalid with reason AuthoritySecretMalformed: says what is wrong and what to do.
base::Result<Authority> DecodeAuthority(std::string_view secret);

/// Whether a serving certificate has passed two thirds of its life, has ended, or has not begun:
/// the clock was ahead when it was made, and nobody else takes it before then.
bool WantsRenewal(const std::string& certificate_pem, base::WallTime now);
bool NotYetValid(const std::string& certificate_pem, base::WallTime now);

}  // namespace server
