#pragma once

#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace http {

struct CertificateAndKey {
  std::string certificate_pem;
  std::string private_key_pem;
};

/// Certificates made here are valid from this long before their making: clocks of peers differ, by
/// hours where one takes local time for UTC.
inline constexpr base::Seconds kBackdate{86'400};

/// A self-signed P-256 certificate authority.
base::Result<CertificateAndKey> MakeCertificateAuthority(const std::string& common_name,
                                                         base::Seconds valid_for);
/// A serving certificate signed by `authority` for DNS names and IP addresses.
base::Result<CertificateAndKey> MakeServingCertificate(const CertificateAndKey& authority,
                                                       const std::string& common_name,
                                                       const std::vector<std::string>& dns_names,
                                                       const std::vector<std::string>& ip_addresses,
                                                       base::Seconds valid_for);
/// kInvalid when one of them cannot stand in a certificate.
base::Status CheckServingNames(const std::vector<std::string>& dns_names,
                               const std::vector<std::string>& ip_addresses);
/// When a PEM certificate begins and ends to be valid (the first one of the text).
base::Result<base::WallTime> CertificateBegin(const std::string& certificate_pem);
base::Result<base::WallTime> CertificateEnd(const std::string& certificate_pem);
/// kInvalid unless both texts are readable and the key is the certificate's.
base::Status CheckPair(const CertificateAndKey& pair);

}  // namespace http
